"""Render the events of a message as one JSON body or as the typed events of a stream.

A message is a list of content blocks: what the model thought, its text, its calls. A stream has events for the
beginning, the growth and the end of each block.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from glm_api.api.chunks import joined, json_string
from glm_api.api.generate import Answer
from glm_api.api.sse import data
from glm_api.errors import ApiError, envelope
from glm_api.messages.schemas import MessageRequest
from glm_api.models.catalog import served_model
from glm_api.pipeline.frames import Event, Finished, Reasoning, Started, Text, ToolArguments, ToolCallStarted

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

# By the finish reason.
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@dataclass(frozen=True, slots=True)
class MessageObject:
    """A message that is being answered: what does not change between its first event and its last.

    ``tells_thinking``: it tells what the model thought.
    """

    model: str
    max_tokens: int
    tells_thinking: bool = True
    id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")

    def to_json(self, content: list[dict[str, Any]], answer: Answer, *, over: bool) -> dict[str, Any]:
        """Return the message object; ``over``: the answer is complete, so it has a reason to stop."""
        ending = self.ending(answer) if over else {"stop_reason": None, "stop_sequence": None}
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            **ending,
            "usage": usage(answer),
        }

    def ending(self, answer: Answer) -> dict[str, str | None]:
        """Return why the answer has ended."""
        reason = STOP_REASONS.get(answer.reason, "end_turn")
        if reason == "max_tokens" and answer.completion_tokens < self.max_tokens:
            reason = "model_context_window_exceeded"
        if reason == "end_turn" and answer.stop_string:
            return {"stop_reason": "stop_sequence", "stop_sequence": answer.stop_string}
        return {"stop_reason": reason, "stop_sequence": None}


def to_message(request: MessageRequest) -> MessageObject:
    """Return the message that answers ``request``. Raises `ApiError` for an unknown model."""
    return MessageObject(served_model(request.model), request.max_tokens, request.thinking.display != "omitted")


def usage(answer: Answer) -> dict[str, Any]:
    """Return the token counts; those of the prompt leave out what was cached, as Anthropic's do."""
    thought = {"output_tokens_details": {"thinking_tokens": answer.reasoning_tokens}} if answer.reasoning_tokens else {}
    return {
        "input_tokens": answer.prompt_tokens - answer.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": answer.completion_tokens,
        **thought,
    }


def text_block(text: str) -> dict[str, Any]:
    """Return the block with the text of an answer."""
    return {"type": "text", "text": text}


def thinking_block(thinking: str, signature: str) -> dict[str, Any]:
    """Return the block with what the model thought."""
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def call_block(id: str, name: str, input: dict[str, Any]) -> dict[str, Any]:
    """Return the block with a tool call."""
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def signature(thinking: str) -> str:
    """Return a text that stands for ``thinking``. Clients send it back, and drop a block that has none."""
    return hashlib.sha256(thinking.encode()).hexdigest()


def is_silent(content: int, answer: Answer) -> bool:
    """Return whether an empty text belongs into a message of ``content`` blocks, where clients look for one."""
    return not content and answer.reason != "length"


def to_json(message: MessageObject, answer: Answer) -> dict[str, Any]:
    """Return the body of a message that is not streamed."""
    thought = answer.reasoning
    content = [thinking_block(thought if message.tells_thinking else "", signature(thought))] if thought else []
    if answer.text:
        content.append(text_block(answer.text))
    content += [call_block(call.id, call.name, _input(call.arguments)) for call in answer.calls]
    if is_silent(len(content), answer):
        content.append(text_block(""))
    return message.to_json(content, answer, over=True)


def _input(arguments: str) -> dict[str, Any]:
    """Return the arguments of a call as an object that every client can read.

    Those of a call that was cut at the maximum length are not told.
    """
    try:
        # Python also reads half of a surrogate pair, which no UTF-8 can spell, and numbers beyond those of JSON.
        text = json.dumps(json.loads(arguments or "{}"), ensure_ascii=False, allow_nan=False)
        found = json.loads(text.encode(errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class MessageStream:
    """The typed events of a message."""

    def __init__(self, message: MessageObject) -> None:
        self._message = message
        self._envelope = envelope()
        self._answer = Answer()
        self._blocks = 0
        # The type of the block that is being generated.
        self._open: str | None = None
        self._thought = ""
        self._before_delta = ""

    def render(self, events: list[Event]) -> bytes:
        """Return the events of the stream for events of the pipeline that came together."""
        return "".join(map(self._one, joined(events))).encode()

    def _one(self, event: Event) -> str:
        match event:
            case Text(text=""):
                return ""
            case Text():
                return self._open_block("text", text_block(""), "text_delta", "text") + self._delta(event.text)
            case Reasoning():
                self._answer.reasoning_tokens += len(event.ids)
                return self._think(event.text) if event.text else ""
            case ToolArguments(text=""):
                return ""
            case ToolArguments():
                return self._delta(event.text)
            case ToolCallStarted():
                block = call_block(event.call_id, event.name, {})
                return self._close() + self._open_block("tool_use", block, "input_json_delta", "partial_json")
            case Started():
                self._answer.start(event)
                return _event("message_start", message=self._message.to_json([], self._answer, over=False))
            case Finished():
                self._answer.finish(event)
                return ""
            case _:
                return ""

    def _think(self, text: str) -> str:
        opened = self._open_block("thinking", thinking_block("", ""), "thinking_delta", "thinking")
        self._thought += text
        return opened + (self._delta(text) if self._message.tells_thinking else "")

    def _open_block(self, type: str, block: dict[str, Any], delta: str, key: str) -> str:
        """Begin ``block``, unless one of its type is open. Deltas of the type ``delta`` have its pieces in ``key``."""
        if self._open == type:
            return ""
        closed = self._close()
        self._open = type
        index = self._blocks
        self._blocks += 1
        self._before_delta = (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{index},'
            f'"delta":{{"type":"{delta}","{key}":'
        )
        return closed + _event("content_block_start", index=index, content_block=block)

    def _delta(self, text: str) -> str:
        return f"{self._before_delta}{json_string(text)}}}}}\n\n"

    def _close(self) -> str:
        """Return the events that end the block that is being generated, if there is one."""
        type, self._open = self._open, None
        if type is None:
            return ""
        index = self._blocks - 1
        signed = ""
        if type == "thinking":
            delta = {"type": "signature_delta", "signature": signature(self._thought)}
            signed = _event("content_block_delta", index=index, delta=delta)
            self._thought = ""
        return signed + _event("content_block_stop", index=index)

    def end(self) -> bytes:
        """Return the end of the last block, and why the message has ended."""
        silent = is_silent(self._blocks, self._answer)
        empty = self._open_block("text", text_block(""), "text_delta", "text") if silent else ""
        delta = _event("message_delta", delta=self._message.ending(self._answer), usage=usage(self._answer))
        return (empty + self._close() + delta + _event("message_stop")).encode()

    def fail(self, error: ApiError) -> bytes:
        """Return the event for a failure."""
        return b"event: error\n" + data(self._envelope(error))


def _event(type: str, **fields: Any) -> str:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields}, separators=(',', ':'))}\n\n"
