"""What the running application stands on: its settings and its pipeline, as `create_app` was given them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from werkzeug.local import LocalProxy

if TYPE_CHECKING:
    from config import Settings
    from glm_api.pipeline.facade import Pipeline

settings = cast("Settings", LocalProxy(lambda: current_app.config["GLM_SETTINGS"]))
pipeline = cast("Pipeline", LocalProxy(lambda: current_app.extensions["glm_pipeline"]))
