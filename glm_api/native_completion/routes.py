"""The route of llama-server's own completions."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, jsonify

from glm_api.api import generate
from glm_api.api.openapi import EVENT_STREAM, GENERATING, Blueprint
from glm_api.api.prompts import tokenized
from glm_api.context import pipeline
from glm_api.native_completion.rendering import NativeStream, Renderer
from glm_api.native_completion.schemas import NativeEventSchema, NativeRequest, NativeRequestSchema
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import OutputSpec

blueprint = Blueprint("native_completion", __name__, description="Text completions in llama-server's own shape")

_PIECE = {"$ref": "#/components/schemas/Piece"}
# Several prompts get an array.
ANSWER: dict[str, Any] = {"anyOf": [_PIECE, {"type": "array", "items": _PIECE}]}
EXAMPLE = {"prompt": "Once upon a time", "n_predict": 32}


@blueprint.route("/completion", methods=["POST"])
@blueprint.arguments(NativeRequestSchema, example=EXAMPLE)
@blueprint.response(200, ANSWER)
@blueprint.alt_response(200, schema=NativeEventSchema, content_type=EVENT_STREAM)
@blueprint.errors(*GENERATING)
def complete(request: NativeRequest) -> Response:
    """Complete a text, as llama-server does. Several prompts get an array of answers."""
    job, renderer = _prepare(request)
    if request.stream:
        return generate.stream(job, partial(NativeStream, request, renderer))
    answers, generation = generate.collect(job)
    bodies = [renderer.whole(index, answer, generation) for index, answer in enumerate(answers)]
    return jsonify(bodies if len(bodies) > 1 else bodies[0])


def _prepare(request: NativeRequest) -> tuple[Job, Renderer]:
    """Return the job that ``request`` asks for, and what renders its answers. Raises `ApiError` and `BackendError`."""
    request.check_streaming()
    model = pipeline.model
    request.check_sampling(model.vocabulary_size, request.limit)
    prompts = [tokenized(prompt, "prompt") for prompt in request.prompt]
    structured = request.structured()
    job = Job(
        prompts=[ids for _, ids in prompts],
        max_tokens=request.limit,
        sampling=request.sampling,
        stop=request.stops,
        output=OutputSpec(mode="text") if structured is None else pipeline.text_output(structured),
        progress=request.return_progress,
    )
    return job, Renderer(request, [text for text, _ in prompts], model.context_length)
