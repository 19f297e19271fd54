"""Routes of chat completions."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response

from glm_api.api import examples, generate
from glm_api.api.openapi import EVENT_STREAM, GENERATING, Blueprint
from glm_api.chat.prepare import prepare_job
from glm_api.chat.rendering import ChatStream, to_completion, to_json
from glm_api.chat.schemas import ChatCompletionSchema, ChatEventSchema, ChatRequest, ChatRequestSchema

blueprint = Blueprint("chat", __name__, description="Chat completions")


@blueprint.route("/v1/chat/completions", methods=["POST"])
@blueprint.arguments(ChatRequestSchema, examples=examples.REQUESTS)
@blueprint.response(200, ChatCompletionSchema, example=examples.COMPLETION)
@blueprint.alt_response(200, schema=ChatEventSchema, content_type=EVENT_STREAM, example=examples.EVENT)
@blueprint.errors(*GENERATING)
def create_chat_completion(request: ChatRequest) -> Response | dict[str, Any]:
    """Generate the next message of a conversation."""
    completion = to_completion(request)
    job = prepare_job(request)
    if request.stream:
        return generate.stream(job, partial(ChatStream, completion))
    answers, generation = generate.collect(job)
    return to_json(completion, answers, generation.queue_ms)
