"""Request and response schemas of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import current_app
from marshmallow import Schema, ValidationError, fields, validate
from marshmallow.fields import Field

from glm_api.api.fields import (
    Array,
    Boolean,
    Choice,
    CodedMessage,
    DiscriminatedUnion,
    Integer,
    NestedObject,
    Object,
    RequestSchema,
    String,
    TokenLimit,
    Unsupported,
)
from glm_api.api.logprobs import MAX_TOP_LOGPROBS, TokenLogprobSchema
from glm_api.api.openapi import AnyOf, EventData, EventSchema
from glm_api.api.parameter_table import RESPONSES, refused
from glm_api.api.parameters import DEFAULT_MAX_TOKENS, Parameters, ParametersSchema
from glm_api.api.response_format import JsonSchemaSchema, schema_field, to_json_output
from glm_api.api.thinking import effort_field, template_variables_field
from glm_api.api.tools import (
    MAX_TOOLS,
    AllowedTools,
    FunctionEntry,
    FunctionSchema,
    NamedFunction,
    flat_tool_choice_field,
)
from glm_api.errors import invalid
from glm_api.pipeline.conversation import JsonOutput
from glm_api.responses.items import Input, InputField

LOGPROBS = "message.output_text.logprobs"
# Some clients always request the encrypted reasoning. It is never encrypted here, so nothing is missing.
REASONING = "reasoning.encrypted_content"
# What a client calls things is given back in each event of a stream.
MAX_KEY_LENGTH = 512
WHOLE = "what the model thinks is told as it is, without a summary"


@dataclass(frozen=True, slots=True)
class FormatEntry:
    """``text.format``; the JSON schema and its name are beside the type, not in an object of their own."""

    type: str
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None

    @property
    def output(self) -> JsonOutput | None:
        """What the answer must be; None for any text."""
        return None if self.type == "text" else to_json_output(self.schema, "text.format.schema")


@dataclass(frozen=True, slots=True)
class TextOptions:
    """``text``."""

    format: FormatEntry = FormatEntry("text")


@dataclass(frozen=True, slots=True)
class ReasoningOptions:
    """``reasoning``."""

    effort: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest(Parameters):
    """A request for a response."""

    input: Input
    previous_response_id: str | None = None
    store: bool | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    tools: tuple[FunctionEntry, ...] = ()
    tool_choice: str | NamedFunction | AllowedTools | None = None
    parallel_tool_calls: bool = True
    text: TextOptions = TextOptions()
    reasoning: ReasoningOptions = ReasoningOptions()
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] | None = None
    include: tuple[str, ...] = ()
    top_logprobs: int = 0
    max_tool_calls: int | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def told_logprobs(self) -> int | None:
        return self.top_logprobs if LOGPROBS in self.include else None

    def check_logprobs(self) -> None:
        """Raise `ApiError` for ``top_logprobs`` without log-probabilities."""
        if self.top_logprobs and LOGPROBS not in self.include:
            raise invalid(f"Invalid 'top_logprobs': it is only allowed with include: [{LOGPROBS!r}].", "top_logprobs")

    @property
    def limit(self) -> int:
        """Maximum number of new tokens."""
        return self.max_output_tokens or DEFAULT_MAX_TOKENS


class FlatToolSchema(FunctionSchema):
    """A function tool."""

    type = Choice("function", required=True)


class PlainFormatSchema(RequestSchema):
    """Any text, or any JSON object."""

    loads = FormatEntry
    type = Choice("text", "json_object", required=True)


class FlatJsonSchemaSchema(JsonSchemaSchema):
    """JSON that matches a schema."""

    loads = FormatEntry
    type = Choice("json_schema", required=True)
    schema = schema_field(required=True)


FORMATS: dict[str, type[RequestSchema]] = {
    "text": PlainFormatSchema,
    "json_object": PlainFormatSchema,
    "json_schema": FlatJsonSchemaSchema,
}


class TextOptionsSchema(RequestSchema):
    """Options for the text of the answer."""

    loads = TextOptions
    format = DiscriminatedUnion(
        "type", FORMATS, load_default=FormatEntry("text"), metadata={"default": {"type": "text"}}
    )
    verbosity = Unsupported("medium")


class ReasoningOptionsSchema(RequestSchema):
    """How much the model thinks before it answers."""

    loads = ReasoningOptions
    effort = effort_field()
    summary = Unsupported("auto", reason=WHOLE)
    generate_summary = Unsupported("auto", reason=WHOLE)
    context = Unsupported("auto", reason="the model's template decides which reasoning it shows to the model")
    mode = Unsupported("standard")


class IncludeField(Field[tuple[str, ...]]):
    """The names of what a response contains in addition; loaded into a tuple of those that this server knows."""

    NAMES = (LOGPROBS, REASONING)

    def __init__(self, **kwargs: Any) -> None:
        shape = {"type": "array", "items": {"type": "string", "enum": list(self.NAMES)}}
        super().__init__(metadata={**shape, **kwargs.pop("metadata", {})}, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[str, ...]:
        lenient = current_app.config["GLM_SETTINGS"].lenient
        if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
            raise ValidationError("must be an array of strings.")
        if not lenient and any(name not in self.NAMES for name in value):
            known = " and ".join(map(repr, self.NAMES))
            message = f"it is not supported, except {known}; there is nothing more to include."
            raise ValidationError([CodedMessage(message, "unsupported_parameter")])
        return tuple(name for name in value if name in self.NAMES)


def _given_back() -> String:
    description = "Has no effect; returned unchanged in the response."
    return String(max=MAX_KEY_LENGTH, load_default=None, metadata={"description": description})


class ResponseRequestSchema(ParametersSchema):
    """A request for a response. Unknown parameters are ignored."""

    loads = ResponseRequest

    class Meta(RequestSchema.Meta):
        include = refused(RESPONSES)

    input = InputField(required=True)
    previous_response_id = String(
        min=1,
        max=MAX_KEY_LENGTH,
        load_default=None,
        metadata={
            "description": "The id of a stored response: the input continues its conversation. Its `instructions` are "
            "not inherited."
        },
    )
    store = Boolean(
        load_default=None,
        metadata={
            "default": True,
            "description": "Keep the response, so that it can be continued and retrieved; with false nothing is kept.",
        },
    )
    instructions = String(load_default=None, metadata={"description": "System message, placed before the input."})
    max_output_tokens = TokenLimit(
        min=1,
        load_default=None,
        metadata={"description": f"Maximum number of new tokens; {DEFAULT_MAX_TOKENS} by default."},
    )
    tools = Array(DiscriminatedUnion("type", {"function": FlatToolSchema}), max=MAX_TOOLS, load_default=())
    tool_choice = flat_tool_choice_field()
    parallel_tool_calls = Boolean(
        load_default=True, metadata={"description": "With false, an answer makes one call at most."}
    )
    text = NestedObject(
        TextOptionsSchema, load_default=TextOptions(), metadata={"default": {"format": {"type": "text"}}}
    )
    reasoning = NestedObject(ReasoningOptionsSchema, load_default=ReasoningOptions(), metadata={"default": {}})
    chat_template_kwargs = template_variables_field()
    metadata = Object(
        load_default=None, metadata={"description": "Returned unchanged in the response.", "additionalProperties": True}
    )
    include = IncludeField(
        load_default=(),
        metadata={"description": f"`{LOGPROBS}`: the log-probability of each token. `{REASONING}` has no effect."},
    )
    top_logprobs = Integer(
        min=0,
        max=MAX_TOP_LOGPROBS,
        load_default=0,
        metadata={"description": f"So many of the likeliest tokens in the place of each; with `{LOGPROBS}`."},
    )
    max_tool_calls = Integer(
        min=1,
        load_default=None,
        metadata={"description": "Returned unchanged: it limits built-in tools, and this server has none."},
    )
    safety_identifier = _given_back()
    prompt_cache_key = _given_back()


# --- responses ----------------------------------------------------------------------------------------------------


EVENT_TYPES = (
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
    "response.incomplete",
    "response.failed",
)


class OutputTextPartSchema(Schema):
    """A text part of the model's message."""

    type = fields.String(required=True, validate=validate.Equal("output_text"))
    text = fields.String(required=True)
    annotations = fields.List(fields.Raw(), required=True, validate=validate.Length(max=0))
    logprobs = fields.List(fields.Nested(TokenLogprobSchema), required=True)


STATUSES = ("in_progress", "completed", "incomplete")


class OutputMessageSchema(Schema):
    """A message by the model."""

    type = fields.String(required=True, validate=validate.Equal("message"))
    id = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    role = fields.String(required=True, validate=validate.Equal("assistant"))
    content = fields.List(fields.Nested(OutputTextPartSchema), required=True)


class ReasoningPartSchema(Schema):
    """The text of what the model thought."""

    type = fields.String(required=True, validate=validate.Equal("reasoning_text"))
    text = fields.String(required=True)


class OutputReasoningSchema(Schema):
    """What the model thought before it answered."""

    type = fields.String(required=True, validate=validate.Equal("reasoning"))
    id = fields.String(required=True)
    summary = fields.List(fields.Raw(), required=True, validate=validate.Length(max=0))
    content = fields.List(fields.Nested(ReasoningPartSchema), required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))


class OutputCallSchema(Schema):
    """A function call by the model."""

    type = fields.String(required=True, validate=validate.Equal("function_call"))
    id = fields.String(required=True)
    call_id = fields.String(required=True)
    name = fields.String(required=True)
    arguments = fields.String(required=True, metadata={"description": "A JSON object, as a string."})
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))


OUTPUT_ITEMS = (OutputMessageSchema, OutputReasoningSchema, OutputCallSchema)


class CachedTokensSchema(Schema):
    """Details of the prompt's tokens."""

    cached_tokens = fields.Integer(required=True)
    cache_write_tokens = fields.Integer(required=True)


class ReasoningTokensSchema(Schema):
    """Details of the answer's tokens."""

    reasoning_tokens = fields.Integer(required=True)


class ResponseUsageSchema(Schema):
    """Token counts."""

    input_tokens = fields.Integer(required=True)
    input_tokens_details = fields.Nested(CachedTokensSchema, required=True)
    output_tokens = fields.Integer(required=True)
    output_tokens_details = fields.Nested(ReasoningTokensSchema, required=True)
    total_tokens = fields.Integer(required=True)


class EffectiveReasoningSchema(Schema):
    """How much the model was asked to think; there is never a summary."""

    effort = fields.String(required=True, allow_none=True)
    summary = fields.Raw(required=True, allow_none=True, metadata={"type": "null"})


class ResponseErrorSchema(Schema):
    """Why a streamed response failed."""

    code = fields.String(required=True)
    message = fields.String(required=True)


class IncompleteDetailsSchema(Schema):
    """Why a response is incomplete."""

    reason = fields.String(required=True, validate=validate.Equal("max_output_tokens"))


class ResponseSchema(Schema):
    """A response."""

    id = fields.String(required=True)
    object = fields.String(required=True, validate=validate.Equal("response"))
    created_at = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf((*STATUSES, "failed")))
    completed_at = fields.Integer(required=True, allow_none=True)
    error = fields.Nested(ResponseErrorSchema, required=True, allow_none=True)
    incomplete_details = fields.Nested(IncompleteDetailsSchema, required=True, allow_none=True)
    instructions = fields.String(required=True, allow_none=True)
    max_output_tokens = fields.Integer(required=True, allow_none=True)
    model = fields.String(required=True)
    output = fields.List(AnyOf(*OUTPUT_ITEMS), required=True)
    parallel_tool_calls = fields.Boolean(required=True)
    previous_response_id = fields.String(required=True, allow_none=True)
    reasoning = fields.Nested(EffectiveReasoningSchema, required=True)
    store = fields.Boolean(required=True)
    background = fields.Boolean(required=True, validate=validate.Equal(False))
    temperature = fields.Float(required=True)
    presence_penalty = fields.Float(required=True)
    frequency_penalty = fields.Float(required=True)
    top_logprobs = fields.Integer(required=True)
    top_p = fields.Float(required=True)
    text = fields.Dict(required=True)
    tool_choice = fields.Raw(required=True)
    tools = fields.List(fields.Dict(), required=True)
    truncation = fields.String(required=True, validate=validate.Equal("disabled"))
    max_tool_calls = fields.Integer(required=True, allow_none=True)
    service_tier = fields.String(required=True, validate=validate.Equal("default"))
    safety_identifier = fields.String(required=True, allow_none=True)
    prompt_cache_key = fields.String(required=True, allow_none=True)
    metadata = fields.Dict(required=True)
    usage = fields.Nested(ResponseUsageSchema, required=True, allow_none=True)


class DeletedResponseSchema(Schema):
    """A response that is no longer stored."""

    id = fields.String(required=True)
    object = fields.String(required=True, validate=validate.Equal("response"))
    deleted = fields.Boolean(required=True, validate=validate.Equal(True))


class ItemListSchema(Schema):
    """A part of the items that a response was generated from."""

    object = fields.String(required=True, validate=validate.Equal("list"))
    data = fields.List(fields.Dict(), required=True)
    first_id = fields.String(required=True, allow_none=True)
    last_id = fields.String(required=True, allow_none=True)
    has_more = fields.Boolean(required=True)


class InputTokensSchema(Schema):
    """The length of a prompt."""

    object = fields.String(required=True, validate=validate.Equal("response.input_tokens"))
    input_tokens = fields.Integer(required=True)


class EventTopLogprobSchema(Schema):
    """One of the likeliest tokens in a place."""

    token = fields.String(required=True)
    logprob = fields.Float(required=True)


class EventLogprobSchema(Schema):
    """The log-probability of a token in an event; the part at the end of the text has its bytes, too."""

    token = fields.String(required=True)
    logprob = fields.Float(required=True)
    top_logprobs = fields.List(fields.Nested(EventTopLogprobSchema), required=True)


class ResponseEventDataSchema(Schema):
    """The data of an event of a streamed response; each type of event has its own fields, as in OpenAI's API."""

    type = fields.String(required=True, validate=validate.OneOf(EVENT_TYPES))
    sequence_number = fields.Integer(required=True)
    response = fields.Nested(ResponseSchema, metadata={"description": "In the first two events and in the last event."})
    output_index = fields.Integer()
    content_index = fields.Integer()
    item_id = fields.String()
    item = AnyOf(*OUTPUT_ITEMS)
    part = AnyOf(OutputTextPartSchema, ReasoningPartSchema)
    delta = fields.String()
    text = fields.String()
    name = fields.String()
    arguments = fields.String()
    logprobs = fields.List(fields.Nested(EventLogprobSchema))


class ResponseEventSchema(EventSchema):
    """A server-sent event of a streamed response."""

    event = fields.String(required=True, validate=validate.OneOf(EVENT_TYPES))
    data = EventData(ResponseEventDataSchema)
