"""Request and response schemas of the endpoints for operators; llama-server's endpoints have the same."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.conversation import ConversationParameters, ConversationSchema
from glm_api.api.fields import Boolean, RequestSchema, String, TokenIds, Unsupported
from glm_api.api.messages import IncomingMessage, messages_field
from glm_api.errors import invalid


class StatusSchema(Schema):
    """The server is healthy."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class VersionSchema(Schema):
    """The version of this server, in vLLM's form."""

    version = fields.String(required=True)


@dataclass(frozen=True, kw_only=True)
class TokenizeRequest(ConversationParameters):
    """What to convert into ids: llama-server's ``content``, vLLM's ``prompt``, or the ``messages`` of a chat.

    ``add_special``, for which vLLM says ``add_special_tokens``, adds the ids that open a prompt to a text. A chat's
    prompt always has them. ``with_pieces`` returns each id with its text, ``return_token_strs`` all texts in a list.
    """

    messages: tuple[IncomingMessage, ...] = ()
    content: str | None = None
    prompt: str | None = None
    add_special: bool = False
    add_special_tokens: bool = True
    with_pieces: bool = False
    return_token_strs: bool = False

    def check(self) -> None:
        """Raise `ApiError` unless the request has one thing to convert."""
        given = [self.content is not None, self.prompt is not None, bool(self.messages)]
        if not any(given):
            raise invalid("Missing required parameter: 'content'.", "content", "missing_required_parameter")
        if sum(given) > 1:
            raise invalid("Send one of 'content', 'prompt' and 'messages'.", "content")


class TokenizeRequestSchema(ConversationSchema):
    """Text or a conversation to convert into token ids."""

    loads = TokenizeRequest
    messages = messages_field(required=False)
    content = String(load_default=None, metadata={"description": "A text."})
    prompt = String(load_default=None, metadata={"description": "vLLM's name of `content`."})
    add_special = Boolean(
        load_default=False, metadata={"description": "Add the token ids that open every prompt to `content`."}
    )
    add_special_tokens = Boolean(
        load_default=True, metadata={"description": "Add the token ids that open every prompt to `prompt`."}
    )
    with_pieces = Boolean(load_default=False, metadata={"description": "Return each token id with its text."})
    return_token_strs = Boolean(
        load_default=False, metadata={"description": "Return the texts of all token ids in `token_strs`."}
    )
    parse_special = Unsupported(False, reason="names of special tokens are ordinary text here")


class TokensSchema(Schema):
    """Token ids, or with `with_pieces` objects of `id` and `piece`."""

    count = fields.Integer(required=True, metadata={"description": "Number of token ids."})
    max_model_len = fields.Integer(required=True, metadata={"description": "Length of the context in tokens."})
    token_strs = fields.List(fields.String(), metadata={"description": "With `return_token_strs`."})

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
                        "properties": {
                            "id": {"type": "integer"},
                            "piece": {
                                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}],
                                "description": "Bytes, if they are no whole characters.",
                            },
                        },
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
    prompt = fields.String(required=True, metadata={"description": "vLLM's name of `content`."})


class PromptSchema(Schema):
    """A prompt as text and as token ids."""

    prompt = fields.String(required=True)
    tokens = fields.List(fields.Integer(), required=True)


class ParameterDefaultsSchema(Schema):
    """Default values of the request parameters."""

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


class GenerationDefaultsSchema(ParameterDefaultsSchema):
    """The same, as newer (`params`) and as older clients of llama-server read them."""

    n_ctx = fields.Integer(required=True, metadata={"description": "Length of the context in tokens."})
    params = fields.Nested(ParameterDefaultsSchema, required=True)


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
    chat_template = fields.String(
        required=True, metadata={"description": "The template of a GGUF file; empty where this server has a format."}
    )
    bos_token = fields.String(required=True, metadata={"description": "The special tokens that open every prompt."})
    eos_token = fields.String(required=True, metadata={"description": "A token that ends an answer."})
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


class QueueSchema(Schema):
    """The running and the waiting requests, and the numbers of threads."""

    running = fields.List(fields.Nested(RunningSchema), required=True)
    waiting = fields.List(fields.Nested(WaitingSchema), required=True)
    threads = fields.Nested(ThreadsSchema, required=True)


class NextTokenSchema(Schema):
    """How far the answer is."""

    has_next_token = fields.Boolean(required=True)
    n_decoded = fields.Integer(required=True)
    n_remain = fields.Integer(required=True)


class SlotSchema(Schema):
    """A cache slot, as llama-server tells it."""

    id = fields.Integer(required=True)
    id_task = fields.Integer(required=True, metadata={"description": "The running request, or -1."})
    n_ctx = fields.Integer(required=True)
    speculative = fields.Boolean(required=True)
    is_processing = fields.Boolean(required=True)
    tokens = fields.Integer(required=True, metadata={"description": "Number of evaluated tokens in the slot."})
    n_prompt_tokens = fields.Integer(required=True)
    n_prompt_tokens_processed = fields.Integer(required=True)
    n_prompt_tokens_cache = fields.Integer(required=True)
    next_token = fields.List(fields.Nested(NextTokenSchema), required=True)
