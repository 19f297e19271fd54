"""An OpenAI-compatible HTTP server for the GLM family."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from config import Settings
    from glm_api.api.openapi import Blueprint
    from glm_api.backend.base import Backend
    from glm_api.pipeline.pipeline import PipelineSettings

__version__ = "0.1.0"


def create_app(settings: Settings, backend: Backend | None = None) -> Flask:
    """Return the application. ``backend`` replaces the one that ``settings`` choose; neither is started here."""
    # Imported here, because the child processes import this package too: they start in half the time without the web
    # side.
    from flask import Flask
    from flask.json.provider import DefaultJSONProvider

    from glm_api import errors, pages
    from glm_api.api.openapi import create_api, describe_metrics
    from glm_api.messages import errors as message_errors
    from glm_api.middleware import access_log, auth, content_encoding, cors, hosts, metrics, paths, request_record, room
    from glm_api.ops.probes import blueprint as probes_blueprint

    app = Flask(__name__, static_folder=None)
    json = DefaultJSONProvider(app)
    # Keep the order of keys, and Chinese characters as they are.
    json.ensure_ascii = json.sort_keys = False
    app.config["GLM_SETTINGS"] = settings
    app.config["GLM_VERSION"] = __version__
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.extensions["glm_backend"] = backend = backend or backend_of(settings)
    app.json = json

    paths.register(app)
    content_encoding.register(app)
    request_record.register(app)
    room.register(app)
    access_log.register(app, settings)
    metrics.register(app, backend)
    errors.register(app, {message_errors.PATH: message_errors.body})
    cors.register(app, settings)
    hosts.register(app, settings)
    auth.register(app, settings)

    api = create_api(app, __version__)
    for blueprint in (*_blueprints_of(settings), probes_blueprint):
        api.register_blueprint(blueprint)
    describe_metrics(api, app)
    app.register_blueprint(pages.blueprint)
    return app


def backend_of(settings: Settings) -> Backend:
    """Return the backend that ``settings`` choose, configured but not started."""
    if settings.engine == "openai":
        from glm_api.upstream.client import UpstreamClient

        return UpstreamClient(settings)
    from glm_api.pipeline.pipeline import pipeline

    pipeline.configure(pipeline_settings(settings))
    return pipeline


def pipeline_settings(settings: Settings) -> PipelineSettings:
    """Return the pipeline's part of the settings."""
    from glm_api.pipeline.cpus import child_environment, usable_cpus
    from glm_api.pipeline.pipeline import PipelineSettings

    return PipelineSettings(
        model=str(settings.model),
        max_length=settings.max_length,
        cache_slots=settings.cache_slots,
        prefill=settings.prefill,
        queue_size=settings.queue_size,
        queue_timeout=settings.queue_timeout,
        request_timeout=settings.request_timeout,
        threads=settings.num_threads or usable_cpus(),
        environment=child_environment(),
        engine="chatglm-cpp" if settings.gguf is None else "llama-cpp",
        gguf=None if settings.gguf is None else str(settings.gguf),
        projector=None if settings.mmproj is None else str(settings.mmproj),
        gpu_layers=settings.gpu_layers,
    )


def _blueprints_of(settings: Settings) -> list[Blueprint]:
    """Return the blueprints that depend on the backend."""
    if settings.engine == "openai":
        from glm_api.upstream.routes import blueprint

        return [blueprint]
    from glm_api.chat.routes import blueprint as chat
    from glm_api.completions.routes import blueprint as completions
    from glm_api.messages.routes import blueprint as messages
    from glm_api.models.routes import blueprint as models
    from glm_api.native_completion.routes import blueprint as native_completion
    from glm_api.ops.routes import blueprint as ops
    from glm_api.responses.routes import blueprint as responses

    found = [chat, completions, responses, messages, native_completion, models, ops]
    if settings.gguf is not None:
        # Only llama.cpp gives them.
        from glm_api.embeddings.routes import blueprint as embeddings

        found.append(embeddings)
    return found
