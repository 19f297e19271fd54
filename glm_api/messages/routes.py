"""Routes of Anthropic's API."""

from __future__ import annotations

from typing import Any

from flask import Response

from glm_api.api import generate
from glm_api.api.openapi import EVENT_STREAM, GENERATING, TOKENIZING, Blueprint
from glm_api.messages.errors import PATH, MessageErrorSchema
from glm_api.messages.prepare import count_tokens, faults_in_content, prepare_job
from glm_api.messages.rendering import PING, MessageStream, to_json, to_message
from glm_api.messages.schemas import (
    MessageEventSchema,
    MessageRequest,
    MessageRequestSchema,
    MessageSchema,
    PromptParameters,
    PromptParametersSchema,
    TokenCountSchema,
)
from glm_api.models.catalog import served_model

blueprint = Blueprint("messages", __name__, description="Anthropic's API")

ASKED = {
    "model": "default",
    "system": "Answer briefly.",
    "messages": [{"role": "user", "content": "Hello! What is your name?"}],
}
EXAMPLE = {**ASKED, "max_tokens": 1024}


@blueprint.route(PATH, methods=["POST"])
@blueprint.arguments(MessageRequestSchema, example=EXAMPLE)
@blueprint.response(200, MessageSchema)
@blueprint.alt_response(200, schema=MessageEventSchema, content_type=EVENT_STREAM)
@blueprint.errors(*GENERATING, schema=MessageErrorSchema)
def create_message(request: MessageRequest) -> Response | dict[str, Any]:
    """Generate the next message of a conversation, in the form of Anthropic's API."""
    message = to_message(request)
    with faults_in_content():
        job = prepare_job(request)
        if request.stream:
            return generate.stream(job, lambda generation: MessageStream(message), PING)
        answers, _ = generate.collect(job)
    return to_json(message, answers[0])


@blueprint.route(f"{PATH}/count_tokens", methods=["POST"])
@blueprint.arguments(PromptParametersSchema, example=ASKED)
@blueprint.response(200, TokenCountSchema)
@blueprint.errors(*TOKENIZING, 404, schema=MessageErrorSchema)
def count_message_tokens(request: PromptParameters) -> dict[str, int]:
    """Count the tokens of the prompt that a message would have, without answering it."""
    served_model(request.model)
    with faults_in_content():
        return {"input_tokens": count_tokens(request)}
