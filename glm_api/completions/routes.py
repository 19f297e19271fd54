"""Routes of text completions."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response

from glm_api.api import generate
from glm_api.api.openapi import EVENT_STREAM, GENERATING, Blueprint
from glm_api.completions.prepare import prepare_job
from glm_api.completions.rendering import CompletionStream, to_completion, to_json
from glm_api.completions.schemas import (
    CompletionEventSchema,
    CompletionRequest,
    CompletionRequestSchema,
    CompletionSchema,
)

blueprint = Blueprint("completions", __name__, description="Text completions")

EXAMPLE = {"model": "default", "prompt": "Once upon a time", "max_tokens": 32}


@blueprint.route("/v1/completions", methods=["POST"])
@blueprint.arguments(CompletionRequestSchema, example=EXAMPLE)
@blueprint.response(200, CompletionSchema)
@blueprint.alt_response(200, schema=CompletionEventSchema, content_type=EVENT_STREAM)
@blueprint.errors(*GENERATING)
def create_completion(request: CompletionRequest) -> Response | dict[str, Any]:
    """Complete a text, without chat formatting."""
    completion = to_completion(request)
    job, echoes = prepare_job(request)
    if request.stream:
        return generate.stream(job, partial(CompletionStream, completion, echoes))
    answers, generation = generate.collect(job)
    return to_json(completion, echoes, answers, generation.queue_ms)
