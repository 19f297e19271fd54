"""Routes of the served model."""

from __future__ import annotations

from typing import Any

from flask import Response

from glm_api.api.model_schemas import ModelListSchema, ModelSchema
from glm_api.api.model_shapes import shown_list, shown_model
from glm_api.api.openapi import REACHING, Blueprint
from glm_api.models import catalog

blueprint = Blueprint("models", __name__, description="The served model")


@blueprint.route("/v1/models")
@blueprint.response(200, ModelListSchema)
@blueprint.errors(*REACHING)
def list_models() -> Response | dict[str, Any]:
    """List the names of the served model; with the header `anthropic-version` in the shape of Anthropic's API."""
    return shown_list([catalog.entry(id) for id in catalog.ids()])


@blueprint.route("/v1/models/<path:id>")
@blueprint.response(200, ModelSchema)
@blueprint.errors(*REACHING, 404)
def get_model(id: str) -> Response | dict[str, Any]:
    """Describe the model under one of its names; a name may contain slashes."""
    return shown_model(catalog.entry(id))
