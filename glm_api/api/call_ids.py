"""Give each tool call an id, and each result the id of its call, where a client leaves them out.

GLM's own servers know no ids: there a result is that of the call in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from glm_api.backend.errors import PromptError
from glm_api.pipeline.conversation import Message, ToolCall


def with_call_ids(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return ``messages``, of which each call has an id and each result that of a call.

    A result without an id is that of the only call that waits for one. Of several calls without an id, the results come
    in the order of the calls. Raises `PromptError` for a result without an id that may be that of more than one call.
    """
    return _CallIds(messages).complete()


class _CallIds:
    """The calls that wait for their results, in order."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._taken = {call.id for message in messages for call in message.tool_calls}
        self._waiting: list[str] = []
        # The calls of the latest message that has some, and those that came without an id.
        self._latest: set[str] = set()
        self._made: set[str] = set()

    def complete(self) -> tuple[Message, ...]:
        """Return the messages with all ids. Raises `PromptError`."""
        return tuple(map(self._complete, self._messages))

    def _complete(self, message: Message) -> Message:
        if message.role == "tool":
            id = message.tool_call_id or self._find(message)
            if id in self._waiting:
                self._waiting.remove(id)
            return replace(message, tool_call_id=id)
        if not message.tool_calls:
            return message
        calls = tuple(
            call if call.id else self._named(call, f"call_{message.position}_{index}")
            for index, call in enumerate(message.tool_calls)
        )
        self._latest = {call.id for call in calls}
        self._waiting = [id for id in self._waiting if id not in self._latest] + [call.id for call in calls]
        return replace(message, tool_calls=calls)

    def _named(self, call: ToolCall, id: str) -> ToolCall:
        while id in self._taken:
            id += "_"
        self._taken.add(id)
        self._made.add(id)
        return replace(call, id=id)

    def _find(self, message: Message) -> str:
        """Return the id of the call whose result ``message`` is."""
        param = f"messages.{message.position}.tool_call_id"
        candidates = [id for id in self._waiting if id in self._latest] or self._waiting
        if not candidates:
            reason = "A tool message must follow an assistant message with a tool call that it answers."
            raise PromptError(reason, param)
        if len(candidates) > 1 and not self._made.issuperset(candidates):
            reason = "The result must have the id of one of the tool calls, because several wait for a result."
            raise PromptError(reason, param)
        return candidates[0]
