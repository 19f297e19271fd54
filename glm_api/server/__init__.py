"""gunicorn's side: its worker class, and what it bounds."""
