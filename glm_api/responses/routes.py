"""Routes of the Responses API."""

from __future__ import annotations

from typing import Any

from flask import Response

from glm_api.api import generate
from glm_api.api.openapi import EVENT_STREAM, GENERATING, Blueprint
from glm_api.responses.prepare import faults_in_input, prepare_job
from glm_api.responses.rendering import ResponseStream, to_json, to_response
from glm_api.responses.schemas import ResponseEventSchema, ResponseRequest, ResponseRequestSchema, ResponseSchema

blueprint = Blueprint("responses", __name__, description="OpenAI's Responses API, stateless")

EXAMPLE = {"model": "default", "instructions": "Answer briefly.", "input": "Hello! What is your name?"}


@blueprint.route("/v1/responses", methods=["POST"])
@blueprint.arguments(ResponseRequestSchema, example=EXAMPLE)
@blueprint.response(200, ResponseSchema)
@blueprint.alt_response(200, schema=ResponseEventSchema, content_type=EVENT_STREAM)
@blueprint.errors(*GENERATING)
def create_response(request: ResponseRequest) -> Response | dict[str, Any]:
    """Generate a response to an input. Nothing is stored: the input must hold the whole conversation."""
    response = to_response(request)
    with faults_in_input():
        job = prepare_job(request)
        if request.stream:
            return generate.stream(job, lambda generation: ResponseStream(response))
        answers, _ = generate.collect(job)
    return to_json(response, answers[0])
