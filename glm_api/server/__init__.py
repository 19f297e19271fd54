"""gunicorn's worker class, with its bounds on connections."""
