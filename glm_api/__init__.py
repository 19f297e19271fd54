"""An OpenAI-compatible HTTP server for the GLM family."""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from config import Settings
from glm_api import auth, cors, errors, logs, metrics, pages, record
from glm_api.chat.routes import blueprint as chat_blueprint
from glm_api.completions.routes import blueprint as completions_blueprint
from glm_api.models.routes import blueprint as models_blueprint
from glm_api.openapi import create_api, describe_metrics
from glm_api.ops.routes import blueprint as ops_blueprint
from glm_api.pipeline import pipeline as the_pipeline
from glm_api.pipeline.facade import Pipeline
from glm_api.responses.routes import blueprint as responses_blueprint

__version__ = "0.1.0"


class Json(DefaultJSONProvider):
    """Keys in the order that they are given in, Chinese as it is."""

    ensure_ascii = False
    sort_keys = False


def create_app(settings: Settings, pipeline: Pipeline = the_pipeline) -> Flask:
    """The application. ``pipeline`` is whoever configured and started it; the app only asks it things."""
    app = Flask(__name__, static_folder=None)
    app.config["GLM_SETTINGS"] = settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.extensions["glm_pipeline"] = pipeline
    app.json = Json(app)

    record.register(app)
    logs.register(app, settings)
    metrics.register(app, pipeline)
    errors.register(app)
    cors.register(app, settings)
    auth.register(app, settings)

    api = create_api(app, __version__)
    for blueprint in (chat_blueprint, completions_blueprint, responses_blueprint, models_blueprint, ops_blueprint):
        api.register_blueprint(blueprint)
    describe_metrics(api, app)
    app.register_blueprint(pages.blueprint)
    return app
