"""``GET /v1/models``: the list of models."""
