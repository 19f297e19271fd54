"""Routes of embeddings, which llama.cpp gives and chatglm-cpp does not."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence

import gevent
from flask import Response

from glm_api.api import generate
from glm_api.api.generate import Answer
from glm_api.api.openapi import GENERATING, Blueprint
from glm_api.api.prompts import PromptInput, tokenized
from glm_api.embeddings.schemas import EmbeddingsRequest, EmbeddingsRequestSchema, EmbeddingsSchema
from glm_api.errors import invalid
from glm_api.models.catalog import served_model
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import OutputSpec

blueprint = Blueprint("embeddings", __name__, description="Embeddings")

EXAMPLE = {"model": "default", "input": ["The sky is blue.", "天空是蓝色的。"]}
_FLOAT_BYTES = 4


@blueprint.route("/v1/embeddings", methods=["POST"])
@blueprint.arguments(EmbeddingsRequestSchema, example=EXAMPLE)
@blueprint.response(200, EmbeddingsSchema)
@blueprint.errors(*GENERATING)
def create_embeddings(request: EmbeddingsRequest) -> Response:
    """Give vectors that stand for texts: the closer the texts, the closer the vectors."""
    model = served_model(request.model)
    prompts = [_ids(index, prompt) for index, prompt in enumerate(request.input)]
    answers, _ = generate.collect(Job(prompts=prompts, max_tokens=0, output=OutputSpec(mode="embedding")))
    tokens = sum(answer.prompt_tokens for answer in answers)
    rest = {"model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    vectors = _vectors(answers, request.encoding_format)
    body = f'{{"object":"list","data":[{vectors}],{json.dumps(rest)[1:]}'
    return Response(body, content_type="application/json")


def _ids(index: int, prompt: PromptInput) -> list[int]:
    """Return the ids of the input at ``index``. Raises `ApiError`, and `BackendError` from the tokenizer."""
    param = f"input.{index}"
    if not prompt:
        raise invalid(f"Invalid '{param}': must not be empty.", param)
    return tokenized(prompt, param)[1]


def _vectors(answers: Sequence[Answer], encoding_format: str) -> str:
    """Return the JSON of all vectors. Other requests are answered between them: two thousand take seconds."""
    encode = _base64 if encoding_format == "base64" else _floats
    rendered = []
    for index, answer in enumerate(answers):
        rendered.append(f'{{"object":"embedding","index":{index},"embedding":{encode(answer.embedding)}}}')
        gevent.sleep(0)
    return ",".join(rendered)


def _base64(embedding: bytes) -> str:
    return f'"{base64.b64encode(embedding).decode()}"'


def _floats(embedding: bytes) -> str:
    # Nine digits tell all 32-bit floats apart.
    values = struct.unpack(f"<{len(embedding) // _FLOAT_BYTES}f", embedding)
    return f"[{','.join([f'{value:.9g}' for value in values])}]"
