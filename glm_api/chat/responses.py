"""The events of a chat completion as one body, or as the chunks of a stream; both from the same events.

A chunk costs the web process time that ggml's spinning threads need, so the common ones are not dumped by a schema:
everything that stays the same is rendered once a choice, and a text only gets its JSON string put in between.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from glm_api.answering import DONE, Answer, data, timings, usage
from glm_api.chat.schemas import ChatRequest
from glm_api.errors import ApiError
from glm_api.models.catalog import fingerprint, served_model
from glm_api.pipeline.frames import Event, Finished, Progress, Started, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.generation import Generation

# str.splitlines breaks lines here, and so do the clients that are built on it; JSON leaves them as they are.
_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")


def json_string(text: str) -> str:
    """``text`` as a JSON string in which no client finds the end of a line."""
    if text.isascii() or not _LINE_BREAKS.search(text):
        return encode_basestring(text)
    return encode_basestring_ascii(text)


@dataclass(frozen=True, slots=True)
class Completion:
    """What all chunks of one answer share, and its body."""

    model: str
    fingerprint: str
    legacy: bool = False
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, request: ChatRequest) -> Completion:
        return cls(
            model=served_model(request.model),
            fingerprint=fingerprint(),
            legacy=request.legacy,
            include_usage=request.include_usage,
        )

    def head(self, object: str) -> dict[str, Any]:
        """The keys that come first everywhere."""
        return {
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def finish_reason(self, reason: str) -> str:
        """``reason`` as the client's form of calls names it."""
        return "function_call" if self.legacy and reason == "tool_calls" else reason


def body(completion: Completion, answers: list[Answer], queue_ms: float) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    return {
        **completion.head("chat.completion"),
        "choices": [_choice(completion, answer, index) for index, answer in enumerate(answers)],
        "usage": usage(answers, choices=len(answers)),
        "timings": timings(answers, queue_ms),
    }


def _choice(completion: Completion, answer: Answer, index: int) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message(answer, completion.legacy),
        "logprobs": None,
        "finish_reason": completion.finish_reason(answer.reason),
    }


def _message(answer: Answer, legacy: bool) -> dict[str, Any]:
    text = answer.text if answer.text or not answer.calls else None
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    functions = [{"name": call.name, "arguments": call.arguments} for call in answer.calls]
    if functions and legacy:
        message["function_call"] = functions[0]
    elif functions:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": function}
            for call, function in zip(answer.calls, functions, strict=True)
        ]
    return message


class ChatStream:
    """The chunks of a chat completion: of one choice after the other, each as OpenAI sends it."""

    def __init__(self, completion: Completion, generation: Generation) -> None:
        self._completion = completion
        self._generation = generation
        self._answers: list[Answer] = []
        head = json.dumps(completion.head("chat.completion.chunk"), separators=(",", ":"))
        self._head = f"data: {head[:-1]},"
        self._tail = ',"usage":null}\n\n' if completion.include_usage else "}\n\n"
        self._text_head = self._text_tail = ""

    def render(self, batch: list[Event]) -> bytes:
        """The chunks for events that came together; texts in a row become one chunk."""
        chunks: list[str] = []
        texts: list[str] = []
        for event in batch:
            if type(event) is Text:
                texts.append(event.text)
                continue
            if texts:
                chunks.append(self._text("".join(texts)))
                texts.clear()
            chunks.append(self._rare(event))
        if texts:
            chunks.append(self._text("".join(texts)))
        return "".join(chunks).encode()

    def _text(self, text: str) -> str:
        return f"{self._text_head}{json_string(text)}{self._text_tail}"

    def _rare(self, event: Event) -> str:
        match event:
            case Started():
                return self._begin(event)
            case Progress():
                return self._chunk({}, extra=_progress(event))
            case ToolCallStarted():
                return self._call(event.index, {"name": event.name, "arguments": ""}, event.call_id)
            case ToolArguments():
                return self._call(event.index, {"arguments": event.text})
            case Finished():
                return self._finish(event)
            case _:
                return ""

    def _begin(self, event: Started) -> str:
        """A choice begins: its first chunk, and what its texts stand in."""
        self._answers.append(Answer())
        self._answers[-1].start(event)
        self._text_head = f'{self._head}"choices":[{{"index":{self._index},"delta":{{"content":'
        self._text_tail = f'}},"logprobs":null,"finish_reason":null}}]{self._tail}'
        return self._chunk({"role": "assistant", "content": ""})

    @property
    def _index(self) -> int:
        return len(self._answers) - 1

    def _call(self, index: int, function: dict[str, str], id: str | None = None) -> str:
        if self._completion.legacy:
            return self._chunk({"function_call": function}) if index == 0 else ""
        named = {} if id is None else {"id": id, "type": "function"}
        return self._chunk({"tool_calls": [{"index": index, **named, "function": function}]})

    def _finish(self, event: Finished) -> str:
        answer = self._answers[-1]
        answer.finish(event)
        measured = {"timings": timings([answer], self._generation.queue_ms)}
        return self._chunk({}, self._completion.finish_reason(answer.reason), measured)

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, extra: dict[str, Any] | None = None) -> str:
        choice = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": reason}
        # ASCII: see `json_string`.
        rest = json.dumps({"choices": [choice], **(extra or {})}, separators=(",", ":"))
        return f"{self._head}{rest[1:-1]}{self._tail}"

    def end(self) -> bytes:
        """The token counts, where they were asked for, and the end of the stream."""
        if not self._completion.include_usage:
            return DONE
        counts = {"choices": [], "usage": usage(self._answers, choices=len(self._answers))}
        return data({**self._completion.head("chat.completion.chunk"), **counts}) + DONE

    def fail(self, error: ApiError) -> bytes:
        """The error, and the end of the stream."""
        return data(error.body()) + DONE


def _progress(event: Progress) -> dict[str, Any]:
    return {
        "prompt_progress": {
            "total": event.total,
            "cache": event.cached,
            "processed": event.processed,
            "time_ms": round(event.milliseconds),
        }
    }
