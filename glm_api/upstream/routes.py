"""Routes of the endpoints that the upstream answers."""

from __future__ import annotations

from typing import Any

from flask import Response

from glm_api.api import examples
from glm_api.api.model_schemas import ModelListSchema, ModelSchema
from glm_api.api.model_shapes import shown_list, shown_model
from glm_api.api.openapi import REACHING, RELAYING, Blueprint
from glm_api.upstream import models
from glm_api.upstream.relay import relay
from glm_api.upstream.schemas import RelayedSchema

blueprint = Blueprint("upstream", __name__, description="Endpoints that the engine behind this server answers")


@blueprint.route("/v1/chat/completions", methods=["POST"])
@blueprint.arguments(RelayedSchema, examples=examples.REQUESTS)
@blueprint.response(200, description="A chat completion, as JSON or as a stream.")
@blueprint.errors(*RELAYING)
def create_chat_completion(request: dict[str, Any]) -> Response:
    """Generate the next message of a conversation."""
    return relay("/chat/completions", request)


@blueprint.route("/v1/completions", methods=["POST"])
@blueprint.arguments(RelayedSchema)
@blueprint.response(200, description="A completion, as JSON or as a stream.")
@blueprint.errors(*RELAYING)
def create_completion(request: dict[str, Any]) -> Response:
    """Complete a text, without chat formatting."""
    return relay("/completions", request)


@blueprint.route("/v1/responses", methods=["POST"])
@blueprint.arguments(RelayedSchema)
@blueprint.response(200, description="A response, as JSON or as a stream.")
@blueprint.errors(*RELAYING)
def create_response(request: dict[str, Any]) -> Response:
    """Generate a response to an input."""
    return relay("/responses", request)


@blueprint.route("/v1/messages", methods=["POST"])
@blueprint.arguments(RelayedSchema)
@blueprint.response(200, description="A message, as JSON or as a stream.")
@blueprint.errors(*RELAYING)
def create_message(request: dict[str, Any]) -> Response:
    """Generate the next message of a conversation, in the form of Anthropic's API, if the engine has it."""
    return relay("/messages", request)


@blueprint.route("/v1/messages/count_tokens", methods=["POST"])
@blueprint.arguments(RelayedSchema)
@blueprint.response(200, description="The number of tokens.")
@blueprint.errors(*RELAYING)
def count_message_tokens(request: dict[str, Any]) -> Response:
    """Count the tokens of the prompt that a message would have, if the engine does."""
    return relay("/messages/count_tokens", {key: value for key, value in request.items() if key != "stream"})


@blueprint.route("/v1/embeddings", methods=["POST"])
@blueprint.arguments(RelayedSchema)
@blueprint.response(200, description="Embeddings.")
@blueprint.errors(*RELAYING)
def create_embeddings(request: dict[str, Any]) -> Response:
    """Give vectors that stand for texts, if the engine gives them."""
    # No embeddings are streamed, whatever an engine makes of these.
    return relay("/embeddings", {**request, "stream": None, "stream_options": None})


@blueprint.route("/v1/models")
@blueprint.response(200, ModelListSchema)
@blueprint.errors(*REACHING)
def list_models() -> Response | dict[str, Any]:
    """List the models; with the header `anthropic-version` in the shape of Anthropic's API."""
    return shown_list(models.entries())


@blueprint.route("/v1/models/<path:id>")
@blueprint.response(200, ModelSchema)
@blueprint.errors(*REACHING, 404)
def get_model(id: str) -> Response | dict[str, Any]:
    """Describe a model; its name may contain slashes."""
    return shown_model(models.entry(id))
