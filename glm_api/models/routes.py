"""Routes of the served model."""

from __future__ import annotations

from typing import Any

from glm_api.api.model_schemas import ModelListSchema, ModelSchema
from glm_api.api.openapi import REACHING, Blueprint
from glm_api.models import catalog

blueprint = Blueprint("models", __name__, description="The served model")


@blueprint.route("/v1/models")
@blueprint.response(200, ModelListSchema)
@blueprint.errors(*REACHING)
def list_models() -> dict[str, Any]:
    """List the names of the served model."""
    return {"object": "list", "data": [catalog.entry(id) for id in catalog.ids()]}


@blueprint.route("/v1/models/<path:id>")
@blueprint.response(200, ModelSchema)
@blueprint.errors(*REACHING, 404)
def get_model(id: str) -> dict[str, Any]:
    """Describe the model under one of its names; a name may contain slashes."""
    return catalog.entry(id)
