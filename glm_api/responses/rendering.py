"""Render the events of a response as one JSON body or as the typed events of a stream.

A stream has events for the beginning, the growth and the end of each output item. The stream builds the same items as
the body has, so its last event, which contains the whole response, cannot differ from the events before.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from glm_api.api.chunks import joined, json_string
from glm_api.api.fields import TokenLimit
from glm_api.api.generate import Answer
from glm_api.api.logprobs import token_logprobs
from glm_api.api.tools import AllowedTools, NamedFunction
from glm_api.errors import ApiError
from glm_api.models.catalog import served_model
from glm_api.pipeline.frames import (
    Event,
    Finished,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolArguments,
    ToolCallStarted,
)
from glm_api.responses.history import Keeper, item_id
from glm_api.responses.schemas import ResponseRequest


@dataclass(frozen=True, slots=True)
class ResponseObject:
    """A response that is being answered: what does not change between its first event and its last.

    ``keeper`` stores the object when it is complete; None: it is not to be stored.
    """

    model: str
    request: ResponseRequest
    keeper: Keeper | None = None
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def to_json(self, status: str, output: list[dict[str, Any]], answer: Answer | None = None) -> dict[str, Any]:
        """Return the response object; its token counts are null without an ``answer``."""
        request = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions,
            "max_output_tokens": None if request.max_output_tokens == TokenLimit.NONE else request.max_output_tokens,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": request.parallel_tool_calls,
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": request.reasoning.effort, "summary": None},
            "store": self.keeper is not None,
            "background": False,
            "service_tier": "default",
            "temperature": request.temperature,
            "presence_penalty": request.presence_penalty,
            "frequency_penalty": request.frequency_penalty,
            "top_logprobs": request.top_logprobs,
            "top_p": request.top_p,
            "text": {"format": _format(request)},
            "tool_choice": _tool_choice(request),
            "tools": [{"type": "function", **asdict(tool)} for tool in request.tools],
            "truncation": "disabled",
            "max_tool_calls": request.max_tool_calls,
            "safety_identifier": request.safety_identifier,
            "prompt_cache_key": request.prompt_cache_key,
            "metadata": request.metadata or {},
            "usage": None if answer is None else _usage(answer),
        }

    def complete(self, status: str, output: list[dict[str, Any]], answer: Answer) -> dict[str, Any]:
        """Return the response object that has ended, and store it if it is to be."""
        body = self.to_json(status, output, answer)
        return {**body, "store": self.keeper.keep(body)} if self.keeper is not None else body

    def item_id(self, type: str, number: int) -> str:
        """Return the id of an item of the output, by its place."""
        return item_id(self.id, type, number)


def to_response(request: ResponseRequest, keeper: Keeper | None) -> ResponseObject:
    """Return the response that answers ``request``. Raises `ApiError` for an unknown model."""
    return ResponseObject(served_model(request.model), request, keeper)


def _format(request: ResponseRequest) -> dict[str, Any]:
    return {key: value for key, value in asdict(request.text.format).items() if value is not None}


def _tool_choice(request: ResponseRequest) -> str | dict[str, Any]:
    if isinstance(request.tool_choice, AllowedTools):
        return request.tool_choice.to_flat_json()
    if isinstance(request.tool_choice, NamedFunction):
        return {"type": "function", "name": request.tool_choice.name}
    return request.tool_choice or "auto"


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def text_part(text: str, logprobs: Iterable[TokenLogprob] = ()) -> dict[str, Any]:
    """Return the content part that holds the text of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": token_logprobs(logprobs)}


def event_logprobs(logprobs: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Return the objects that tell ``logprobs`` in events: those of `text_part` without the bytes."""
    return [
        {**_without_bytes(entry), "top_logprobs": list(map(_without_bytes, entry["top_logprobs"]))}
        for entry in token_logprobs(logprobs)
    ]


def _without_bytes(entry: dict[str, Any]) -> dict[str, Any]:
    return {"token": entry["token"], "logprob": entry["logprob"]}


def message_item(id: str, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a message item."""
    return {"type": "message", "id": id, "status": status, "role": "assistant", "content": parts}


def reasoning_part(text: str) -> dict[str, Any]:
    """Return the content part that holds what the model thought."""
    return {"type": "reasoning_text", "text": text}


def reasoning_item(id: str, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a reasoning item."""
    return {"type": "reasoning", "id": id, "summary": [], "content": parts, "status": status}


def call_item(id: str, status: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """Return a function call item."""
    return {
        "type": "function_call",
        "id": id,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def final_status(answer: Answer) -> str:
    """Return the status of a response that ended: ``incomplete`` if the answer was cut at its maximum length."""
    return "incomplete" if answer.reason == "length" else "completed"


def lacks_message(output: list[dict[str, Any]], status: str) -> bool:
    """Return whether an empty message belongs at the end of ``output``: clients wait for a message or a call.

    A response that was cut while the model was thinking has neither.
    """
    return not output or (status == "completed" and all(item["type"] == "reasoning" for item in output))


def to_json(response: ResponseObject, answer: Answer) -> dict[str, Any]:
    """Return the body of a response that is not streamed."""
    status = final_status(answer)
    output: list[dict[str, Any]] = []
    if answer.reasoning:
        id = response.item_id("reasoning", 0)
        output.append(reasoning_item(id, "completed", [reasoning_part(answer.reasoning)]))
    if answer.text or (not answer.calls and lacks_message(output, status)):
        id = response.item_id("message", len(output))
        output.append(message_item(id, "completed", [text_part(answer.text, answer.logprobs)]))
    for call in answer.calls:
        id = response.item_id("function_call", len(output))
        output.append(call_item(id, "completed", call.id, call.name, call.arguments))
    # Only the last item can be cut.
    output[-1]["status"] = status
    return response.complete(status, output, answer)


class ResponseStream:
    """The typed events of a response."""

    def __init__(self, response: ResponseObject) -> None:
        self._response = response
        self._sequence = 0
        self._answer = Answer()
        self._output: list[dict[str, Any]] = []
        # The item that is being generated, and the pieces of its text, reasoning or arguments.
        self._open: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._before_delta = self._after_delta = ""

    def render(self, events: list[Event]) -> bytes:
        """Return the events of the stream for events of the pipeline that came together."""
        return "".join(map(self._one, joined(events))).encode()

    def _one(self, event: Event) -> str:
        match event:
            case Text(text="") if not self._is_open("message"):
                # White space in front of a text, or what follows a call, makes no message.
                return ""
            case Text():
                opened = self._open_text()
                return opened + (self._told_delta(event) if event.logprobs else self._delta(event.text))
            case Reasoning():
                self._answer.reasoning_tokens += len(event.ids)
                return self._open_reasoning() + self._delta(event.text) if event.text else ""
            case ToolArguments():
                return self._delta(event.text)
            case ToolCallStarted():
                return self._close("completed") + self._open_call(event)
            case Started():
                self._answer.start(event)
                running = self._response.to_json("in_progress", [])
                return self._event("response.created", response=running) + self._event(
                    "response.in_progress", response=running
                )
            case Finished():
                self._answer.finish(event)
                return ""
            case _:
                return ""

    def _event(self, type: str, **fields: Any) -> str:
        payload = json.dumps({"type": type, "sequence_number": self._sequence, **fields}, separators=(",", ":"))
        self._sequence += 1
        return f"event: {type}\ndata: {payload}\n\n"

    def _delta(self, text: str) -> str:
        self._pieces.append(text)
        self._sequence += 1
        return f"{self._before_delta}{json_string(text)}{self._after_delta}{self._sequence - 1}}}\n\n"

    def _told_delta(self, event: Text) -> str:
        assert self._open is not None
        self._pieces.append(event.text)
        self._logprobs += event.logprobs
        logprobs = event_logprobs(event.logprobs)
        place = self._place(self._open)
        return self._event("response.output_text.delta", **place, delta=event.text, logprobs=logprobs)

    def _begin(self, item: dict[str, Any], delta: str, place: dict[str, Any]) -> str:
        """Begin ``item``. The events with its pieces have the type ``delta`` and the keys ``place``."""
        self._output.append(item)
        self._open = item
        self._pieces = []
        self._logprobs = []
        fixed = json.dumps({"type": delta, **place}, separators=(",", ":"))
        self._before_delta = f'event: {delta}\ndata: {fixed[:-1]},"delta":'
        self._after_delta = ',"sequence_number":'
        return self._event("response.output_item.added", output_index=self._index, item=item)

    @property
    def _index(self) -> int:
        return len(self._output) - 1

    def _new_id(self, type: str) -> str:
        return self._response.item_id(type, len(self._output))

    def _place(self, item: dict[str, Any]) -> dict[str, Any]:
        place = {"item_id": item["id"], "output_index": self._index}
        return place if item["type"] == "function_call" else {**place, "content_index": 0}

    def _is_open(self, type: str) -> bool:
        return self._open is not None and self._open["type"] == type

    def _open_text(self) -> str:
        if self._is_open("message"):
            return ""
        item = message_item(self._new_id("message"), "in_progress", [])
        return self._open_part(item, text_part(""), "response.output_text.delta", logprobs=[])

    def _open_reasoning(self) -> str:
        if self._is_open("reasoning"):
            return ""
        item = reasoning_item(self._new_id("reasoning"), "in_progress", [])
        return self._open_part(item, reasoning_part(""), "response.reasoning_text.delta")

    def _open_part(self, item: dict[str, Any], part: dict[str, Any], delta: str, **fixed: Any) -> str:
        """Begin ``item``, which has one content part; ``delta`` is the type of the events with its pieces."""
        closed = self._close("completed")
        place = {"item_id": item["id"], "output_index": len(self._output), "content_index": 0}
        begun = self._begin(item, delta, {**place, **fixed})
        return closed + begun + self._event("response.content_part.added", **place, part=part)

    def _open_call(self, event: ToolCallStarted) -> str:
        item = call_item(self._new_id("function_call"), "in_progress", event.call_id, event.name, "")
        place = {"item_id": item["id"], "output_index": len(self._output)}
        return self._begin(item, "response.function_call_arguments.delta", place)

    def _close(self, status: str) -> str:
        """Return the events that end the item that is being generated, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return ""
        whole = "".join(self._pieces)
        place = self._place(item)
        item["status"] = status
        if item["type"] == "message":
            part = text_part(whole, self._logprobs)
            item["content"] = [part]
            logprobs = event_logprobs(self._logprobs)
            done = self._event("response.output_text.done", **place, text=whole, logprobs=logprobs) + self._event(
                "response.content_part.done", **place, part=part
            )
        elif item["type"] == "reasoning":
            part = reasoning_part(whole)
            item["content"] = [part]
            done = self._event("response.reasoning_text.done", **place, text=whole) + self._event(
                "response.content_part.done", **place, part=part
            )
        else:
            item["arguments"] = whole
            done = self._event("response.function_call_arguments.done", **place, name=item["name"], arguments=whole)
        return done + self._event("response.output_item.done", output_index=self._index, item=item)

    def end(self) -> bytes:
        """Return the end of the last item, and the event with the whole response."""
        status = final_status(self._answer)
        empty = self._open_text() if lacks_message(self._output, status) else ""
        closed = self._close(status)
        whole = self._response.complete(status, self._output, self._answer)
        return (empty + closed + self._event(f"response.{status}", response=whole)).encode()

    def fail(self, error: ApiError) -> bytes:
        """Return the event for a failure."""
        failed = self._response.to_json("failed", self._output)
        failed["store"] = False
        failed["error"] = {"code": "server_error", "message": error.message}
        return self._event("response.failed", response=failed).encode()
