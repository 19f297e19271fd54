"""Health probes and the version; they need no API key."""

from __future__ import annotations

from glm_api.api.openapi import Blueprint
from glm_api.backend.errors import ModelLoading, ShuttingDown
from glm_api.context import backend, server_version
from glm_api.errors import from_backend
from glm_api.ops.schemas import StatusSchema, VersionSchema

blueprint = Blueprint("probes", __name__, description="Health probes")


@blueprint.route("/health")
@blueprint.response(200, StatusSchema)
@blueprint.errors(503)
def health() -> dict[str, str]:
    """Report whether the server accepts requests now, even if they must wait. Answers at once; needs no API key."""
    return _health()


@blueprint.route("/ping", methods=["GET", "POST"])
@blueprint.response(200, StatusSchema)
@blueprint.errors(503)
def ping() -> dict[str, str]:
    """Do as /health does, under the name that Amazon SageMaker asks for."""
    return _health()


def _health() -> dict[str, str]:
    """Return the status of a server that is ready. Raises `ApiError` (503) for any other."""
    found = backend.health()
    if found.state == "ready":
        return {"status": "ok"}
    reason = ShuttingDown if found.state == "draining" else ModelLoading
    raise from_backend(reason(found.message, retry_after=2))


@blueprint.route("/livez")
@blueprint.response(200, StatusSchema)
def livez() -> dict[str, str]:
    """Report whether the web process is alive. Needs no API key."""
    return {"status": "ok"}


@blueprint.route("/version")
@blueprint.response(200, VersionSchema)
@blueprint.errors(403)
def version() -> dict[str, str]:
    """Get the version of this server. Needs no API key."""
    return {"version": server_version()}
