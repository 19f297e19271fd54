"""An OpenAI-compatible HTTP server for the GLM family."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import Settings
    from glm_api.pipeline.facade import Pipeline

__version__ = "0.1.0"


def create_app(settings: Settings, pipeline: Pipeline | None = None) -> Flask:
    """The application. ``pipeline`` is whoever configured and started it; the app only asks it things."""
    # Imported here because the children of the pipeline import this package too: they start in half the time without
    # all that only the web side needs.
    from flask import Flask
    from flask.json.provider import DefaultJSONProvider

    from glm_api import auth, cors, errors, logs, metrics, pages, record
    from glm_api.chat.routes import blueprint as chat_blueprint
    from glm_api.completions.routes import blueprint as completions_blueprint
    from glm_api.models.routes import blueprint as models_blueprint
    from glm_api.openapi import create_api, describe_metrics
    from glm_api.ops.routes import blueprint as ops_blueprint
    from glm_api.pipeline import pipeline as the_pipeline
    from glm_api.responses.routes import blueprint as responses_blueprint

    app = Flask(__name__, static_folder=None)
    json = DefaultJSONProvider(app)
    # Keys in the order that they are given in, Chinese as it is.
    json.ensure_ascii = json.sort_keys = False
    app.config["GLM_SETTINGS"] = settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.extensions["glm_pipeline"] = pipeline = pipeline or the_pipeline
    app.json = json

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
