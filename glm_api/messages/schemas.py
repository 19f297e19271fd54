"""Request and response schemas of Anthropic's API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from marshmallow import Schema, fields, validate

from glm_api.api.fields import (
    Array,
    Boolean,
    Choice,
    DiscriminatedUnion,
    Integer,
    NestedObject,
    Object,
    RequestSchema,
    String,
    Union,
    Unsupported,
)
from glm_api.api.json_schema import check_parameters, check_schema
from glm_api.api.openapi import AnyOf, EventData, EventSchema
from glm_api.api.parameter_table import MESSAGES, PROMPT, refused
from glm_api.api.parameters import MAX_STOP_LENGTH, MAX_STOPS, Parameters, ParametersSchema, model_field
from glm_api.api.response_format import StructuredParameters, StructuredParametersSchema, to_json_output
from glm_api.api.thinking import (
    EFFORTS,
    Demand,
    clear_variable,
    effort_variable,
    template_variables_field,
    to_template,
)
from glm_api.api.tools import MAX_TOOLS, FunctionEntry, FunctionSchema, NamedFunction, NamedFunctionSchema
from glm_api.errors import invalid
from glm_api.messages.content import Block, MessageEntry, messages_field, system_field
from glm_api.messages.errors import MessageErrorSchema
from glm_api.pipeline.conversation import JsonOutput, TemplateOptions
from glm_api.pipeline.model_info import ModelInfo

# Claude Code's descriptions are long.
MAX_DESCRIPTION = 64 * 1024

CLEAR_THINKING = "clear_thinking_20251015"


@dataclass(frozen=True, slots=True)
class ChosenTool:
    """``tool_choice``."""

    type: str = "auto"
    name: str = ""
    disable_parallel_tool_use: bool = False

    @property
    def chosen(self) -> str | NamedFunction:
        """The same choice as chat completions name it."""
        if self.type == "tool":
            return NamedFunction(self.name)
        return "required" if self.type == "any" else self.type


@dataclass(frozen=True, slots=True)
class Thinking:
    """``thinking``. With ``display`` ``omitted`` the answer does not tell what the model thought."""

    type: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The JSON schema that the answer must match."""

    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """``output_config``."""

    effort: str | None = None
    format: OutputFormat | None = None


@dataclass(frozen=True, slots=True)
class ClearThinking:
    """The edit that leaves earlier thinking out of the prompt; ``keep`` is ``all``, or tells how many turns keep it."""

    keep: str | dict[str, Any] | None = None

    @property
    def keeps_all(self) -> bool:
        kept = self.keep
        return kept == "all" or (isinstance(kept, dict) and kept.get("type") == "all")


@dataclass(frozen=True, slots=True)
class ContextManagement:
    """``context_management``."""

    edits: tuple[ClearThinking, ...] = ()


# Without slots, because a class that inherits from two others must not get them from both.
@dataclass(frozen=True, kw_only=True)
class PromptParameters(StructuredParameters):
    """The parameters that make the prompt of a message."""

    messages: tuple[MessageEntry, ...]
    model: str | None = None
    system: tuple[Block, ...] = ()
    tools: tuple[FunctionEntry, ...] = ()
    tool_choice: ChosenTool = ChosenTool()
    thinking: Thinking = Thinking()
    output_config: OutputConfig = OutputConfig()
    output_format: OutputFormat | None = None
    context_management: ContextManagement = ContextManagement()
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> JsonOutput | None:
        """What the answer must be. Raises `ApiError` if two parameters say it."""
        format = self.output_config.format
        if format is not None and self.output_format is not None:
            raise invalid(
                "Invalid 'output_format': 'output_config.format' says already what the answer must be.", "output_format"
            )
        if self.output_format is not None:
            return to_json_output(self.output_format.schema, "output_format.schema")
        return None if format is None else to_json_output(format.schema, "output_config.format.schema")

    def template(self, model: ModelInfo) -> TemplateOptions:
        """Return the options for the template of ``model``. Raises `ApiError` for what cannot be done.

        ``adaptive`` leaves it to the model whether to think, so that is no demand, and each model can do it.
        """
        type = self.thinking.type
        demands = [Demand("thinking.type", type == "enabled")] if type in ("enabled", "disabled") else []
        kept = any(edit.keeps_all for edit in self.context_management.edits)
        return to_template(
            model,
            demands,
            self.chat_template_kwargs,
            effort_variable("output_config.effort", self.output_config.effort),
            clear_variable("context_management", False if kept else None),
        )


@dataclass(frozen=True, kw_only=True)
class MessageRequest(PromptParameters, Parameters):
    """A request for a message."""

    max_tokens: int
    stop_sequences: tuple[str, ...] = ()


class CustomToolSchema(FunctionSchema):
    """A tool that the client runs. `cache_control`, `input_examples` and `defer_loading` have no effect."""

    type = Choice("custom", load_default="custom")
    description = String(max=MAX_DESCRIPTION, load_default=None)
    parameters = Object(
        required=True,
        data_key="input_schema",
        validate=check_parameters,
        metadata={
            "description": "JSON schema of an object: at most 64 KiB and 32 levels; only internal references.",
            "additionalProperties": True,
        },
    )


class ToolField(DiscriminatedUnion):
    """A tool of the client. Anthropic's own tools are refused by their type."""

    def __init__(self) -> None:
        super().__init__("type", {"custom": CustomToolSchema}, default="custom")

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, dict) and value.get("type", "") is None:
            value = {**value, "type": "custom"}
        return super()._deserialize(value, attr, data, **kwargs)

    def _refusal(self, kind: object) -> str:
        return f"{super()._refusal(kind)} This server has no tools of its own; declare yours with an input_schema."


class AnyToolSchema(RequestSchema):
    """Whether the model may call tools, or must."""

    loads = ChosenTool
    type = Choice("auto", "any", required=True)
    disable_parallel_tool_use = Boolean(
        load_default=False, metadata={"description": "With true, an answer makes one call at most."}
    )


class NoToolSchema(RequestSchema):
    """The model calls no tool."""

    loads = ChosenTool
    type = Choice("none", required=True)


class OneToolSchema(NamedFunctionSchema):
    """The tool that must be called, once."""

    loads = ChosenTool
    type = Choice("tool", required=True)


CHOICES = {"auto": AnyToolSchema, "any": AnyToolSchema, "tool": OneToolSchema, "none": NoToolSchema}


class MessageThinkingSchema(RequestSchema):
    """Whether the model thinks before it answers."""

    loads = Thinking
    type = Choice(
        "enabled",
        "disabled",
        "adaptive",
        required=True,
        metadata={"description": "With `adaptive` the template of the model decides. `enabled` needs one that thinks."},
    )
    budget_tokens = Integer(
        min=0,
        load_default=None,
        metadata={"description": "No effect: what the model thinks counts for `max_tokens`, which is the only limit."},
    )
    display = Choice(
        "summarized",
        "omitted",
        load_default=None,
        metadata={
            "description": "With `omitted` the answer does not tell what the model thought. It is never summed up."
        },
    )


class OutputFormatSchema(RequestSchema):
    """JSON that matches a schema."""

    loads = OutputFormat
    type = Choice("json_schema", required=True)
    schema = Object(
        required=True,
        validate=check_schema,
        metadata={
            "description": "JSON schema: at most 64 KiB and 32 levels; only internal references.",
            "additionalProperties": True,
        },
    )


class OutputConfigSchema(RequestSchema):
    """Options for the answer."""

    loads = OutputConfig
    effort = Choice(
        *EFFORTS[2:],
        load_default=None,
        metadata={"description": "How much the model thinks, if its template can be told; no effect otherwise."},
    )
    format = NestedObject(OutputFormatSchema, load_default=None)
    task_budget = Unsupported(reason="the model cannot be told how many tokens are left")


class ClearThinkingSchema(RequestSchema):
    """Leave what the model thought in earlier turns out of the prompt, or keep it."""

    loads = ClearThinking
    type = Choice(CLEAR_THINKING, required=True)
    keep = Union(
        string=Choice("all"),
        object=Object(),
        load_default=None,
        metadata={
            "description": "`all`: the prompt has the thinking of all turns, if the template can show it. Otherwise "
            "the template decides."
        },
    )


_NEVER_CUT = "a conversation that is too long is refused, not cut."
REFUSED_EDITS = {
    "clear_tool_uses_20250919": f"is not supported: {_NEVER_CUT}",
    "compact_20260112": f"is not supported: {_NEVER_CUT}",
}


class ContextManagementSchema(RequestSchema):
    """What the server leaves out of a prompt."""

    loads = ContextManagement
    edits = Array(
        DiscriminatedUnion("type", {CLEAR_THINKING: ClearThinkingSchema}, refusals=REFUSED_EDITS),
        max=16,
        load_default=(),
    )


class PromptParametersSchema(StructuredParametersSchema):
    """The parameters that make the prompt of a message. Unknown parameters are ignored."""

    loads: ClassVar[type[Any]] = PromptParameters

    class Meta(RequestSchema.Meta):
        include = refused(PROMPT + MESSAGES)

    model = model_field()
    messages = messages_field()
    system = system_field()
    tools = Array(ToolField(), max=MAX_TOOLS, load_default=())
    tool_choice = DiscriminatedUnion("type", CHOICES, load_default=ChosenTool(), metadata={"default": {"type": "auto"}})
    thinking = NestedObject(MessageThinkingSchema, load_default=Thinking(), metadata={"default": None})
    output_config = NestedObject(OutputConfigSchema, load_default=OutputConfig(), metadata={"default": {}})
    output_format = NestedObject(
        OutputFormatSchema, load_default=None, metadata={"description": "Older name of `output_config.format`."}
    )
    context_management = NestedObject(
        ContextManagementSchema, load_default=ContextManagement(), metadata={"default": {}}
    )
    chat_template_kwargs = template_variables_field()


class MessageRequestSchema(PromptParametersSchema, ParametersSchema):
    """A request for a message. Unknown parameters are ignored."""

    loads = MessageRequest

    class Meta(RequestSchema.Meta):
        include = refused(MESSAGES)

    max_tokens = Integer(
        min=1, required=True, metadata={"description": "Maximum number of new tokens, those of thinking included."}
    )
    stop_sequences = Array(
        String(min=1, max=MAX_STOP_LENGTH),
        max=MAX_STOPS,
        load_default=(),
        metadata={"description": "Strings that end the answer; the answer does not contain them."},
    )


# --- responses ----------------------------------------------------------------------------------------------------


class TextContentSchema(Schema):
    """A text."""

    type = fields.String(required=True, validate=validate.Equal("text"))
    text = fields.String(required=True)


class ThinkingContentSchema(Schema):
    """What the model thought before it answered."""

    type = fields.String(required=True, validate=validate.Equal("thinking"))
    thinking = fields.String(required=True)
    signature = fields.String(required=True, metadata={"description": "Opaque; it is not checked when it comes back."})


class ToolUseContentSchema(Schema):
    """A tool call that the model made."""

    type = fields.String(required=True, validate=validate.Equal("tool_use"))
    id = fields.String(required=True)
    name = fields.String(required=True)
    input = fields.Dict(required=True)


CONTENT = (TextContentSchema, ThinkingContentSchema, ToolUseContentSchema)
STOP_REASONS = ("end_turn", "max_tokens", "model_context_window_exceeded", "stop_sequence", "tool_use")


class OutputTokensDetailsSchema(Schema):
    """Details of the answer's tokens."""

    thinking_tokens = fields.Integer(required=True)


class MessageUsageSchema(Schema):
    """Token counts. The prompt has `input_tokens` and `cache_read_input_tokens` together."""

    input_tokens = fields.Integer(required=True, metadata={"description": "Prompt tokens that were evaluated."})
    cache_creation_input_tokens = fields.Integer(required=True, validate=validate.Equal(0))
    cache_read_input_tokens = fields.Integer(
        required=True, metadata={"description": "Prompt tokens that were taken from the cache."}
    )
    output_tokens = fields.Integer(required=True)
    output_tokens_details = fields.Nested(
        OutputTokensDetailsSchema, metadata={"description": "If the model has thought."}
    )


class MessageSchema(Schema):
    """A message of the model."""

    id = fields.String(required=True)
    type = fields.String(required=True, validate=validate.Equal("message"))
    role = fields.String(required=True, validate=validate.Equal("assistant"))
    model = fields.String(required=True)
    content = fields.List(AnyOf(*CONTENT), required=True)
    stop_reason = fields.String(required=True, allow_none=True, validate=validate.OneOf((*STOP_REASONS, None)))
    stop_sequence = fields.String(required=True, allow_none=True)
    usage = fields.Nested(MessageUsageSchema, required=True)


class TokenCountSchema(Schema):
    """The length of a prompt."""

    input_tokens = fields.Integer(required=True)


EVENT_TYPES = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
)


class MessageEventDataSchema(Schema):
    """The data of an event of a streamed message; each type of event has its own fields, as in Anthropic's API."""

    type = fields.String(required=True, validate=validate.OneOf(EVENT_TYPES[:-1]))
    message = fields.Nested(MessageSchema)
    index = fields.Integer()
    content_block = AnyOf(*CONTENT)
    delta = fields.Dict()
    usage = fields.Nested(MessageUsageSchema)


class MessageEventSchema(EventSchema):
    """A server-sent event of a streamed message."""

    event = fields.String(required=True, validate=validate.OneOf(EVENT_TYPES))
    data = EventData(MessageEventDataSchema, MessageErrorSchema)
