"""Routes of the Responses API."""

from __future__ import annotations

from typing import Any, cast

from flask import Flask, Response
from flask import request as http
from flask.blueprints import BlueprintSetupState

from glm_api.api import generate
from glm_api.api.openapi import EVENT_STREAM, GENERATING, REACHING, TOKENIZING, Blueprint
from glm_api.errors import ApiError, invalid
from glm_api.models.catalog import served_model
from glm_api.responses.history import erase, keeper_of, open_store, read_history, stored_body, stored_inputs
from glm_api.responses.pages import QUERY, page_of
from glm_api.responses.prepare import count_tokens, faults_in_input, prepare_job
from glm_api.responses.rendering import ResponseStream, to_json, to_response
from glm_api.responses.schemas import (
    DeletedResponseSchema,
    InputTokensSchema,
    ItemListSchema,
    ResponseEventSchema,
    ResponseRequest,
    ResponseRequestSchema,
    ResponseSchema,
)

blueprint = Blueprint("responses", __name__, description="OpenAI's Responses API")

EXAMPLE = {"model": "default", "instructions": "Answer briefly.", "input": "Hello! What is your name?"}


def _open_store(state: BlueprintSetupState) -> None:
    open_store(cast("Flask", state.app), state.app.config["GLM_SETTINGS"])


# Each application with these routes has a store of its own.
blueprint.record(_open_store)


@blueprint.route("/v1/responses", methods=["POST"])
@blueprint.arguments(ResponseRequestSchema, example=EXAMPLE)
@blueprint.response(200, ResponseSchema)
@blueprint.alt_response(200, schema=ResponseEventSchema, content_type=EVENT_STREAM)
@blueprint.errors(*GENERATING)
def create_response(request: ResponseRequest) -> Response | dict[str, Any]:
    """Generate a response to an input, or to the conversation that it continues."""
    history = read_history(request.input, request.previous_response_id)
    response = to_response(request, keeper_of(request.store, history))
    with faults_in_input():
        job = prepare_job(request, history)
        if request.stream:
            return generate.stream(job, lambda generation: ResponseStream(response))
        answers, _ = generate.collect(job)
    return to_json(response, answers[0])


@blueprint.route("/v1/responses/input_tokens", methods=["POST"])
@blueprint.arguments(ResponseRequestSchema, example=EXAMPLE)
@blueprint.response(200, InputTokensSchema)
@blueprint.errors(*TOKENIZING, 404)
def count_input_tokens(request: ResponseRequest) -> dict[str, Any]:
    """Count the tokens of the prompt that a request for a response makes. Nothing is generated or stored."""
    served_model(request.model)
    history = read_history(request.input, request.previous_response_id)
    with faults_in_input():
        return {"object": "response.input_tokens", "input_tokens": count_tokens(request, history)}


@blueprint.route("/v1/responses/compact", methods=["POST"])
@blueprint.errors(*REACHING, 404)
def compact_conversation() -> None:
    """Refuse to compact a conversation."""
    raise ApiError(404, "This server does not offer the compaction of conversations: send fewer items as input.")


@blueprint.route("/v1/responses/<id>", methods=["GET"])
@blueprint.response(200, ResponseSchema)
@blueprint.errors(400, *REACHING, 404, 500)
def get_response(id: str) -> dict[str, Any]:
    """Return a stored response."""
    if http.args.get("stream", "").lower() in ("true", "1"):
        message = (
            "Invalid 'stream': it is not supported, because only responses in the background can be streamed again."
        )
        raise invalid(f"{message} Leave it out.", "stream", "unsupported_parameter")
    return stored_body(id)


@blueprint.route("/v1/responses/<id>", methods=["DELETE"])
@blueprint.response(200, DeletedResponseSchema)
@blueprint.errors(*REACHING, 404, 500)
def delete_response(id: str) -> dict[str, Any]:
    """Erase a stored response. Responses that continue it can no longer be continued."""
    erase(id)
    return {"id": id, "object": "response", "deleted": True}


@blueprint.route("/v1/responses/<id>/input_items", methods=["GET"], parameters=QUERY)
@blueprint.response(200, ItemListSchema)
@blueprint.errors(400, *REACHING, 404, 500)
def list_input_items(id: str) -> dict[str, Any]:
    """List the items that a stored response was generated from, with those of the responses that it continues."""
    return page_of(stored_inputs(id), http.args)


@blueprint.route("/v1/responses/<id>/cancel", methods=["POST"])
@blueprint.errors(400, *REACHING, 404, 500)
def cancel_response(id: str) -> None:
    """Refuse to cancel a response: only one in the background can be cancelled, and this server has none."""
    stored_body(id)
    raise ApiError(400, "Cannot cancel a synchronous response: close its connection while it is generated.")
