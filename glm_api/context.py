"""The settings, the backend and the version of the running application, as given to `create_app`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from werkzeug.local import LocalProxy

if TYPE_CHECKING:
    from config import Settings
    from glm_api.backend.base import Backend
    from glm_api.pipeline.pipeline import Pipeline

_backend = LocalProxy(lambda: current_app.extensions["glm_backend"])

settings = cast("Settings", LocalProxy(lambda: current_app.config["GLM_SETTINGS"]))
backend = cast("Backend", _backend)
# An app has one of the two: `glm_api.upstream.context.upstream` with GLM_BACKEND=openai, else `pipeline`.
pipeline = cast("Pipeline", _backend)


def server_version() -> str:
    """Return the version of this server."""
    version: str = current_app.config["GLM_VERSION"]
    return version
