"""Request and response schemas of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.fields import Choice, RequestSchema, Unsupported
from glm_api.api.parameters import model_field
from glm_api.api.prompts import PromptInput, PromptsField

# OpenAI's bound.
MAX_INPUTS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsRequest:
    """A request for the embedding of each ``input``."""

    input: tuple[PromptInput, ...]
    model: str | None = None
    encoding_format: str = "float"


class EmbeddingsRequestSchema(RequestSchema):
    """A request for embeddings. Unknown parameters are ignored."""

    loads = EmbeddingsRequest
    model = model_field()
    input = PromptsField(most=MAX_INPUTS, required=True)
    encoding_format = Choice(
        "float",
        "base64",
        load_default="float",
        metadata={"description": "Numbers, or base64 of little-endian 32-bit floats."},
    )
    dimensions = Unsupported(reason="this model's embeddings have one size")


class EmbeddingSchema(Schema):
    """The embedding of one input: a vector of length 1."""

    object = fields.String(required=True, validate=validate.Equal("embedding"))
    index = fields.Integer(required=True)
    embedding = fields.Raw(
        required=True,
        metadata={"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "format": "byte"}]},
    )


class EmbeddingsUsageSchema(Schema):
    """Token counts."""

    prompt_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)


class EmbeddingsSchema(Schema):
    """The embeddings of all inputs, in order."""

    object = fields.String(required=True, validate=validate.Equal("list"))
    data = fields.List(fields.Nested(EmbeddingSchema), required=True)
    model = fields.String(required=True)
    usage = fields.Nested(EmbeddingsUsageSchema, required=True)
