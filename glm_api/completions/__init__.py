"""``POST /v1/completions``: text goes on, with no conversation around it."""
