"""What the running application stands on: its settings and its backend, as `create_app` was given them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from werkzeug.local import LocalProxy

if TYPE_CHECKING:
    from config import Settings
    from glm_api.backend.base import Backend
    from glm_api.pipeline.facade import Pipeline
    from glm_api.upstream.engine import Engine

_backend = LocalProxy(lambda: current_app.extensions["glm_backend"])

settings = cast("Settings", LocalProxy(lambda: current_app.config["GLM_SETTINGS"]))
backend = cast("Backend", _backend)
# Which of the two it is, the blueprints that are registered know.
pipeline = cast("Pipeline", _backend)
engine = cast("Engine", _backend)
