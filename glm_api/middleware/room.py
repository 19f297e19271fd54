"""Refuse a request before any work on it if the server has no connection to spare."""

from __future__ import annotations

from flask import Flask, request

from glm_api.errors import overloaded
from glm_api.server.connections import MONITORING_PATHS, Occupancy


def register(app: Flask) -> None:
    """Refuse requests beyond the maximum of ``app.extensions["glm_occupancy"]``, in which the worker counts them."""
    occupancy = app.extensions["glm_occupancy"] = Occupancy()

    @app.before_request
    def refuse() -> None:
        if occupancy.exceeded and request.path not in MONITORING_PATHS:
            raise overloaded("The server has no connection left for this request. Try again later.")
