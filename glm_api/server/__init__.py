"""gunicorn's worker class, with limits on connections and on waits for clients."""
