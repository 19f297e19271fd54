"""The backend interface, and the queue in front of a backend: the pipeline here, or an engine elsewhere."""
