"""Convert a conversation into the turns that ChatGLM3 and GLM-4 are trained on: role, metadata, content.

Here each call is an assistant turn with the tool's name as metadata, and the observation after it is its result. OpenAI
puts all calls of a turn into one message; the results follow in any order and are matched by ``tool_call_id``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Turn:
    """A role token and what follows it. ``metadata`` is the name of the tool that an assistant turn calls."""

    role: Literal["system", "user", "assistant", "observation"]
    content: str
    metadata: str = ""
    image: bool = False


def to_turns(messages: Sequence[Message], write_body: Callable[[str, str], str]) -> list[Turn]:
    """Return the turns of ``messages``; ``write_body`` writes the body of a call from the tool's name and arguments.

    A call without a result is written alone. Raises what `matched` raises.
    """
    turns: list[Turn] = []
    for message, results in matched(messages):
        if message.role == "tool":
            turns.append(Turn("observation", message.content))
            continue
        if message.content or not message.tool_calls:
            turns.append(Turn(message.role, message.content, image=message.image is not None))
        for call in message.tool_calls:
            turns.append(Turn("assistant", write_body(call.name, call.arguments), call.name))
            if call.id in results:
                turns.append(Turn("observation", results[call.id].content))
    return turns


def matched(messages: Sequence[Message]) -> Iterator[tuple[Message, dict[str, Message]]]:
    """Yield each message with the results of its calls that follow it, by the id of the call.

    A result that stands elsewhere is a message of its own. Raises `PromptError` for a result without a call, a second
    result of one call, two calls of one message with one id, and calls at the end of the messages.
    """
    open_calls = _OpenCalls()
    index = 0
    while index < len(messages):
        message = messages[index]
        index += 1
        if message.role == "tool":
            open_calls.answer(message)
            yield message, {}
            continue
        open_calls.add(message)
        results: dict[str, Message] = {}
        while message.tool_calls and index < len(messages) and messages[index].role == "tool":
            results[open_calls.answer(messages[index], message.tool_calls)] = messages[index]
            index += 1
        own = {call.id: results.pop(call.id) for call in message.tool_calls if call.id in results}
        yield message, own
        # These results belong to calls of an earlier message.
        for result in results.values():
            yield result, {}
    if messages and messages[-1].tool_calls:
        raise PromptError(
            "An assistant message with tool_calls must be followed by tool messages with their results.",
            f"messages.{messages[-1].position}.tool_calls",
        )


@dataclass(slots=True)
class _OpenCalls:
    """The ids of the calls without a result, oldest first, and the ids of those with one."""

    waiting: list[str] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)

    def add(self, message: Message) -> None:
        seen: set[str] = set()
        for position, call in enumerate(message.tool_calls):
            if call.id in seen:
                raise PromptError(
                    f"Two tool calls of one message have the id {call.id!r}.",
                    f"messages.{message.position}.tool_calls.{position}.id",
                )
            seen.add(call.id)
        # Some clients number their calls anew in each turn, so an id means its newest call.
        self.waiting = [id for id in self.waiting if id not in seen] + [call.id for call in message.tool_calls]
        self.answered -= seen

    def answer(self, message: Message, calls: Sequence[ToolCall] = ()) -> str:
        """Return the id of the call that ``message`` answers: the one it names, else the oldest without a result.

        Raises `PromptError`.
        """
        if message.tool_call_id is not None:
            param = f"messages.{message.position}.tool_call_id"
            if message.tool_call_id in self.answered:
                raise PromptError(f"The tool call {message.tool_call_id!r} has two results.", param)
            if message.tool_call_id not in self.waiting:
                raise PromptError(
                    f"A tool message must follow the assistant message that called the tool; no earlier message has "
                    f"the tool call {message.tool_call_id!r}.",
                    param,
                )
            answered = message.tool_call_id
        else:
            candidates = [call.id for call in calls if call.id in self.waiting] or self.waiting
            if not candidates:
                raise PromptError(
                    "A tool message must follow an assistant message with a tool call that it answers.",
                    f"messages.{message.position}.role",
                )
            answered = candidates[0]
        self.waiting.remove(answered)
        self.answered.add(answered)
        return answered
