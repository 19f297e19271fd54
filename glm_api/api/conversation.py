"""The parameters that make the prompt of a chat, and the conversation that they make.

Several endpoints share the steps: tools, the instruction to write JSON, the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from glm_api.api.fields import Boolean, RequestSchema
from glm_api.api.messages import IncomingMessage, messages_field, to_messages
from glm_api.api.parameter_table import PROMPT, refused
from glm_api.api.response_format import (
    ANY_OBJECT,
    ANY_TEXT,
    ResponseFormat,
    StructuredParameters,
    StructuredParametersSchema,
    response_format_field,
)
from glm_api.api.thinking import ThinkingParameters, ThinkingParametersSchema
from glm_api.api.tools import (
    AllowedToolsChoice,
    ChosenTools,
    FunctionEntry,
    NamedFunction,
    NamedTool,
    ToolEntry,
    choose,
    function_call_field,
    functions_field,
    to_tools,
    tool_choice_field,
    tools_field,
)
from glm_api.backend.errors import PromptError
from glm_api.context import pipeline
from glm_api.errors import invalid
from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, StructuredOutput
from glm_api.pipeline.model_info import ModelInfo

# The bundled demo model was trained on these words; large models understand any.
JSON_INSTRUCTION = "Respond with a single JSON object and nothing else."
SCHEMA_INSTRUCTION = f"{JSON_INSTRUCTION} It must match this JSON schema:\n{{}}"


# Without slots, because a class that inherits from two others must not get them from both.
@dataclass(frozen=True, kw_only=True)
class ConversationParameters(StructuredParameters, ThinkingParameters):
    """The parameters that make the prompt of a chat. The legacy ``functions`` have room for one call."""

    messages: tuple[IncomingMessage, ...]
    tools: tuple[ToolEntry, ...] = ()
    tool_choice: str | NamedTool | AllowedToolsChoice | None = None
    parallel_tool_calls: bool = True
    functions: tuple[FunctionEntry, ...] = ()
    function_call: str | NamedFunction | None = None
    response_format: ResponseFormat = ANY_TEXT
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

    def to_conversation(self, model: ModelInfo) -> Conversation:
        """Return the conversation for ``model``.

        Raises `ApiError` for a choice that the tools cannot meet, for tools or their choice in both forms, for a wish
        about the last message that is not met, for two demands of the answer's text, and for what
        `ThinkingParameters.template` refuses. Raises `PromptError` if there is nothing to answer.
        """
        messages, format = to_messages(self.messages), self.response_format
        self._check_forms()
        if self.functions or self.function_call is not None:
            conversation = with_tools(
                messages, self.functions, self.function_call, False, "functions.{}", "function_call"
            )
        else:
            declared = (entry.function for entry in self.tools)
            conversation = with_tools(
                messages, declared, self.tool_choice, self.parallel_tool_calls, "tools.{}.function", "tool_choice"
            )
        self._check_continuation(conversation)
        structured = self.structured(format.output)
        conversation = with_output(conversation, structured, format.description)
        return replace(conversation, template=self.template(model))

    def _check_continuation(self, conversation: Conversation) -> None:
        """Raise `ApiError` if the answer shall continue the last message but will not, or the other way round."""
        wishes = {
            "continue_final_message": self.continue_final_message,
            "add_generation_prompt": None if self.add_generation_prompt is None else not self.add_generation_prompt,
        }
        if wishes == {"continue_final_message": True, "add_generation_prompt": False}:
            raise invalid(
                "Invalid 'continue_final_message': it cannot be true together with add_generation_prompt.",
                "continue_final_message",
            )
        for param, wish in wishes.items():
            if wish and not conversation.continues:
                reason = (
                    "a demanded call begins a message of its own"
                    if conversation.tool_choice.mode == "required"
                    else "the last message must be an assistant message that is not empty"
                )
                raise invalid(f"Invalid '{param}': to be continued, {reason}.", param)
            if wish is False and conversation.continues:
                raise invalid(
                    f"Invalid '{param}': this server always continues a last assistant message; end with another one.",
                    param,
                )

    def _check_forms(self) -> None:
        """Raise `ApiError` for the current form of tools beside the legacy one, of which one would be lost."""
        if self.functions and self.tools:
            raise invalid("Invalid 'functions': it is the legacy form of tools; send one of them.", "functions")
        if self.tools and self.function_call is not None:
            raise invalid(
                "Invalid 'function_call': it is only allowed when functions are specified; the choice among tools is "
                "tool_choice.",
                "function_call",
            )
        if self.tool_choice is not None and (self.functions or self.function_call is not None):
            raise invalid(
                "Invalid 'tool_choice': it is only allowed when tools are specified; the choice among functions is "
                "function_call.",
                "tool_choice",
            )


class ConversationSchema(StructuredParametersSchema, ThinkingParametersSchema):
    """The parameters that make the prompt of a chat."""

    loads: ClassVar[type[Any]] = ConversationParameters

    class Meta(RequestSchema.Meta):
        include = refused(PROMPT)

    messages = messages_field()
    tools = tools_field()
    tool_choice = tool_choice_field()
    parallel_tool_calls = Boolean(
        load_default=True, metadata={"description": "With false, an answer makes one call at most."}
    )
    functions = functions_field()
    function_call = function_call_field()
    response_format = response_format_field()
    continue_final_message = Boolean(
        load_default=None,
        metadata={
            "description": "A last assistant message is always continued. With true there must be one; with false "
            "there must be none."
        },
    )
    add_generation_prompt = Boolean(
        load_default=None, metadata={"description": "The opposite of `continue_final_message`, as vLLM has both."}
    )


def with_tools(
    messages: tuple[Message, ...],
    functions: Iterable[FunctionEntry],
    chosen: ChosenTools | None,
    parallel: bool,
    function_param: str,
    choice_param: str,
) -> Conversation:
    """Return the conversation of ``messages``, with ``functions`` as its tools and ``chosen`` as its tool choice.

    ``parallel``: it may make more than one call. Raises `ApiError`; the last two are its paths of a function ({} is the
    index) and of the choice. Raises `PromptError` if there is nothing to answer.
    """
    messages = _without_empty_end(messages)
    tools, choice = choose(chosen, to_tools(functions, function_param), parallel, choice_param)
    return Conversation(messages, tools, choice)


def _without_empty_end(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return ``messages`` without empty assistant messages at the end: some clients put one there for the answer."""
    end = len(messages)
    while end and (last := messages[end - 1]).role == "assistant" and not last.content and not last.tool_calls:
        end -= 1
    if not end:
        raise PromptError("There must be a message beside empty ones of the assistant.", "messages")
    return messages[:end]


def with_output(
    conversation: Conversation, structured: StructuredOutput | None, description: str | None = None
) -> Conversation:
    """Return ``conversation`` with the demand ``structured``, and with an instruction if that is for JSON.

    The instruction stands at the end of the system message. Without it, the model would only find that it cannot write
    what it would like to. ``description`` is what the client tells of the schema.
    """
    messages = conversation.messages
    if isinstance(structured, JsonOutput):
        messages = _instructed(messages, structured.schema, description)
    return replace(conversation, messages=messages, structured=structured)


def _instructed(messages: tuple[Message, ...], schema: str, description: str | None) -> tuple[Message, ...]:
    instruction = JSON_INSTRUCTION if schema == ANY_OBJECT else SCHEMA_INSTRUCTION.format(schema)
    if description:
        instruction += f"\n{description}"
    first = messages[0]
    if first.role == "system":
        return (replace(first, content=f"{first.content}\n\n{instruction}".strip()), *messages[1:])
    return (Message("system", instruction), *messages)


def shown_image(conversation: Conversation) -> bytes | None:
    """Return the image of a conversation whose prompt could be built, or None; such a conversation has at most one."""
    return next((message.image for message in conversation.messages if message.image is not None), None)


def prompt_tokens(conversation: Conversation) -> int:
    """Return how many tokens of the context the prompt of ``conversation`` takes, those of an image included.

    What an image takes with llama.cpp is not known before it is evaluated, and not counted. Raises `BackendError`.
    """
    ids = pipeline.encode_chat(conversation).ids
    return len(ids) + (0 if shown_image(conversation) is None else pipeline.model.image_tokens)
