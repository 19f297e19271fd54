"""Request and response schemas of chat completions."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.completion import BodySchema, ChunkSchema
from glm_api.api.conversation import ConversationParameters, ConversationSchema
from glm_api.api.fields import Boolean, Integer, RequestSchema, TokenLimit
from glm_api.api.logprobs import MAX_TOP_LOGPROBS, TokenLogprobSchema
from glm_api.api.openapi import ErrorSchema, EventData, EventSchema
from glm_api.api.parameter_table import CHAT, refused
from glm_api.api.parameters import DEFAULT_MAX_TOKENS, CompletionParameters, CompletionParametersSchema
from glm_api.errors import invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(ConversationParameters, CompletionParameters):
    """A request for a chat completion."""

    logprobs: bool = False
    top_logprobs: int = 0
    include_reasoning: bool = True

    @property
    def told_logprobs(self) -> int | None:
        return self.top_logprobs if self.logprobs else None

    def check_logprobs(self) -> None:
        """Raise `ApiError` for ``top_logprobs`` without ``logprobs``."""
        if self.top_logprobs and not self.logprobs:
            raise invalid("Invalid 'top_logprobs': it is only allowed with logprobs: true.", "top_logprobs")

    @property
    def legacy(self) -> bool:
        """Whether calls are returned in the legacy form, because the request used ``functions``."""
        return bool(self.functions)


class ChatRequestSchema(ConversationSchema, CompletionParametersSchema):
    """A request for a chat completion. Unknown parameters are ignored."""

    loads = ChatRequest

    class Meta(RequestSchema.Meta):
        include = refused(CHAT)

    max_tokens = TokenLimit(
        min=1,
        load_default=None,
        metadata={"description": f"Maximum number of new tokens in each choice; {DEFAULT_MAX_TOKENS} by default."},
    )
    logprobs = Boolean(load_default=False, metadata={"description": "Return the log-probability of each token."})
    top_logprobs = Integer(
        min=0,
        max=MAX_TOP_LOGPROBS,
        load_default=0,
        metadata={"description": "Return so many of the likeliest tokens in the place of each, too; with `logprobs`."},
    )
    include_reasoning = Boolean(
        load_default=True,
        metadata={
            "description": "With false, the answer leaves out what the model thought, which is counted all the same."
        },
    )


# --- responses ----------------------------------------------------------------------------------------------------


class CalledFunctionSchema(Schema):
    """A function that the model called, and its arguments."""

    name = fields.String(required=True)
    arguments = fields.String(required=True, metadata={"description": "A JSON object, as a string."})


class MadeCallSchema(Schema):
    """A tool call that the model made."""

    id = fields.String(required=True)
    type = fields.String(required=True, validate=validate.Equal("function"))
    function = fields.Nested(CalledFunctionSchema, required=True)


class AnswerMessageSchema(Schema):
    """The model's message."""

    role = fields.String(required=True, validate=validate.Equal("assistant"))
    reasoning_content = fields.String(metadata={"description": "What the model thought, if it did."})
    content = fields.String(required=True, allow_none=True)
    refusal = fields.Raw(required=True, allow_none=True, metadata={"type": "null"})
    tool_calls = fields.List(fields.Nested(MadeCallSchema))
    function_call = fields.Nested(CalledFunctionSchema)


class ChoiceLogprobsSchema(Schema):
    """The log-probabilities of the tokens of a text."""

    content = fields.List(fields.Nested(TokenLogprobSchema), required=True)
    refusal = fields.Raw(required=True, allow_none=True, metadata={"type": "null"})


FINISH_REASONS = ("stop", "length", "tool_calls", "function_call")


class ChoiceSchema(Schema):
    """One of the answers."""

    index = fields.Integer(required=True)
    message = fields.Nested(AnswerMessageSchema, required=True)
    logprobs = fields.Nested(ChoiceLogprobsSchema, required=True, allow_none=True)
    finish_reason = fields.String(required=True, validate=validate.OneOf(FINISH_REASONS))


class ChatCompletionSchema(BodySchema):
    """A chat completion."""

    object = fields.String(required=True, validate=validate.Equal("chat.completion"))
    choices = fields.List(fields.Nested(ChoiceSchema), required=True)


class FunctionDeltaSchema(Schema):
    """The name in the first chunk, then pieces of the arguments."""

    name = fields.String()
    arguments = fields.String(required=True)


class ToolCallDeltaSchema(Schema):
    """A piece of a tool call: first ``id``, ``type``, the name and empty arguments; then pieces of the arguments."""

    index = fields.Integer(required=True)
    id = fields.String()
    type = fields.String(validate=validate.Equal("function"))
    function = fields.Nested(FunctionDeltaSchema, required=True)


class DeltaSchema(Schema):
    """What a chunk adds to a message."""

    role = fields.String(validate=validate.Equal("assistant"))
    reasoning_content = fields.String(metadata={"description": "A piece of what the model thinks."})
    content = fields.String()
    tool_calls = fields.List(fields.Nested(ToolCallDeltaSchema))
    function_call = fields.Nested(FunctionDeltaSchema)


class ChunkChoiceSchema(Schema):
    """What a chunk adds to one of the answers."""

    index = fields.Integer(required=True)
    delta = fields.Nested(DeltaSchema, required=True)
    logprobs = fields.Nested(ChoiceLogprobsSchema, required=True, allow_none=True)
    finish_reason = fields.String(required=True, allow_none=True, validate=validate.OneOf((*FINISH_REASONS, None)))


class ChatChunkSchema(ChunkSchema):
    """A chunk of a streamed chat completion."""

    object = fields.String(required=True, validate=validate.Equal("chat.completion.chunk"))
    choices = fields.List(fields.Nested(ChunkChoiceSchema), required=True)


class ChatEventSchema(EventSchema):
    """A server-sent event of a streamed chat completion."""

    data = EventData(ChatChunkSchema, ErrorSchema, end="[DONE]")
