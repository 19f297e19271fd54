"""Request and response schemas of the endpoints for operators; llama-server's endpoints have the same."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.fields import Boolean, RequestSchema, String, TokenIds


class StatusSchema(Schema):
    """The server is healthy."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class VersionSchema(Schema):
    """The version of this server, in vLLM's form."""

    version = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """Text to convert into ids. ``add_special`` adds the ids that open a prompt, ``with_pieces`` each id's text."""

    content: str
    add_special: bool = False
    with_pieces: bool = False


class TokenizeRequestSchema(RequestSchema):
    """Text to convert into token ids."""

    loads = TokenizeRequest
    content = String(required=True)
    add_special = Boolean(load_default=False, metadata={"description": "Add the token ids that open every prompt."})
    with_pieces = Boolean(load_default=False, metadata={"description": "Return each token id with its text."})


class TokensSchema(Schema):
    """Token ids, or with `with_pieces` objects of `id` and `piece`."""

    tokens = fields.Raw(
        required=True,
        metadata={
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "integer"},
                    {
                        "type": "object",
                        "required": ["id", "piece"],
                        "properties": {"id": {"type": "integer"}, "piece": {"type": "string"}},
                    },
                ]
            },
        },
    )


@dataclass(frozen=True, slots=True)
class DetokenizeRequest:
    """Ids to convert into text."""

    tokens: list[int]


class DetokenizeRequestSchema(RequestSchema):
    """Token ids to convert into text."""

    loads = DetokenizeRequest
    tokens = TokenIds(required=True)


class ContentSchema(Schema):
    """Text, with special tokens."""

    content = fields.String(required=True)


class PromptSchema(Schema):
    """A prompt as text and as token ids."""

    prompt = fields.String(required=True)
    tokens = fields.List(fields.Integer(), required=True)


class GenerationDefaultsSchema(Schema):
    """Default values of the request parameters."""

    n_ctx = fields.Integer(required=True)
    temperature = fields.Float(required=True)
    top_p = fields.Float(required=True)
    top_k = fields.Integer(required=True)
    min_p = fields.Float(required=True)
    repeat_penalty = fields.Float(required=True)
    presence_penalty = fields.Float(required=True)
    frequency_penalty = fields.Float(required=True)
    seed = fields.Integer(required=True, allow_none=True, metadata={"description": "null: each answer has a new seed."})
    min_tokens = fields.Integer(required=True)
    ignore_eos = fields.Boolean(required=True)
    n_predict = fields.Integer(required=True)


class ThreadsSchema(Schema):
    """How many threads compute. The server changes the numbers by what evaluations take."""

    most = fields.Integer(required=True)
    step = fields.Integer(required=True, metadata={"description": "For one token."})
    batch = fields.Integer(required=True, metadata={"description": "For a prompt that is evaluated in one call."})


class PropsSchema(Schema):
    """The model and the default parameters."""

    model_alias = fields.String(required=True)
    model_path = fields.String(
        required=True, metadata={"description": "Name of the model file, without its directory."}
    )
    family = fields.String(required=True)
    total_slots = fields.Integer(required=True)
    threads = fields.Nested(ThreadsSchema, required=True)
    default_generation_settings = fields.Nested(GenerationDefaultsSchema, required=True)
    modalities = fields.Dict(keys=fields.String(), values=fields.Boolean(), required=True)
    build_info = fields.String(required=True, metadata={"description": "Name and version of this server."})


class RunningSchema(Schema):
    """A running request."""

    id = fields.Integer(required=True)
    prompt_tokens = fields.Integer(required=True)
    processed_tokens = fields.Integer(required=True, allow_none=True)
    running_ms = fields.Float(required=True)


class WaitingSchema(Schema):
    """A waiting request."""

    id = fields.Integer(required=True)
    position = fields.Integer(required=True)
    prompt_tokens = fields.Integer(required=True)
    waiting_ms = fields.Float(required=True)
    estimated_wait_ms = fields.Float(required=True)


class SlotSchema(Schema):
    """A cache slot."""

    id = fields.Integer(required=True)
    tokens = fields.Integer(required=True, metadata={"description": "Number of evaluated tokens in the slot."})


class SlotsSchema(Schema):
    """The running and the waiting requests, the contents of the cache slots and the numbers of threads."""

    running = fields.List(fields.Nested(RunningSchema), required=True)
    waiting = fields.List(fields.Nested(WaitingSchema), required=True)
    slots = fields.List(fields.Nested(SlotSchema), required=True)
    threads = fields.Nested(ThreadsSchema, required=True)
