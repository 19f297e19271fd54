"""The backend interface, and the queue in front of a backend: the pipeline or the upstream."""
