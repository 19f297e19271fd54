"""Render the events of a chat completion as one JSON body or as the chunks of a stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glm_api.api.chunks import ChunkStream, json_string
from glm_api.api.completion import Completion
from glm_api.api.generate import Answer
from glm_api.api.logprobs import token_logprobs
from glm_api.chat.schemas import ChatRequest
from glm_api.models.catalog import fingerprint, served_model
from glm_api.pipeline.frames import Event, Text, TokenLogprob, ToolArguments, ToolCallStarted
from glm_api.pipeline.generation import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletion(Completion):
    """A chat completion; with ``legacy`` it returns ``function_call`` instead of ``tool_calls``.

    ``reasoning``: it tells what the model thought.
    """

    legacy: bool = False
    reasoning: bool = True

    def finish_reason(self, reason: str) -> str:
        """Return ``reason`` under the name that the client knows."""
        return "function_call" if self.legacy and reason == "tool_calls" else reason


def to_completion(request: ChatRequest) -> ChatCompletion:
    """Return the completion that answers ``request``. Raises `ApiError` for an unknown model, and `ModelLoading`."""
    return ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        model=served_model(request.model),
        fingerprint=fingerprint(),
        choices=request.n,
        logprobs=request.logprobs,
        stop_in_text=request.include_stop_str_in_output,
        include_usage=request.include_usage,
        continuous_usage=request.continuous_usage,
        timings_per_token=request.timings_per_token,
        legacy=request.legacy,
        reasoning=request.include_reasoning,
    )


def to_json(completion: ChatCompletion, answers: list[Answer], queue_ms: float) -> dict[str, Any]:
    """Return the body of a completion that is not streamed."""
    choices = [_choice(completion, answer, index) for index, answer in enumerate(answers)]
    return completion.body("chat.completion", choices, answers, queue_ms)


def _choice(completion: ChatCompletion, answer: Answer, index: int) -> dict[str, Any]:
    return {
        "index": index,
        "message": _message(completion, answer),
        "logprobs": _logprobs(answer.logprobs) if completion.logprobs else None,
        "finish_reason": completion.finish_reason(answer.reason),
    }


def _logprobs(logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
    return {"content": token_logprobs(logprobs), "refusal": None}


def _message(completion: ChatCompletion, answer: Answer) -> dict[str, Any]:
    text = completion.text(answer)
    content = text if text or not answer.calls else None
    thought = {"reasoning_content": answer.reasoning} if answer.reasoning and completion.reasoning else {}
    message: dict[str, Any] = {"role": "assistant", **thought, "content": content, "refusal": None}
    functions = [{"name": call.name, "arguments": call.arguments} for call in answer.calls]
    if functions and completion.legacy:
        message["function_call"] = functions[0]
    elif functions:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": function}
            for call, function in zip(answer.calls, functions, strict=True)
        ]
    return message


class ChatStream(ChunkStream):
    """The chunks of a chat completion, in OpenAI's form."""

    def __init__(self, completion: ChatCompletion, generation: Generation) -> None:
        self._completion = completion
        super().__init__(completion, "chat.completion.chunk", generation)

    def text_choice(self) -> tuple[str, str]:
        return f'{{"index":{self.index},"delta":{{"content":', '},"logprobs":null,"finish_reason":null}'

    def reasoning(self, text: str) -> str:
        if not self._completion.reasoning:
            return ""
        before = f'{self._head}"choices":[{{"index":{self.index},"delta":{{"reasoning_content":'
        return f'{before}{json_string(text)}}},"logprobs":null,"finish_reason":null}}]{self._tail}'

    def told_choice(self, event: Text) -> dict[str, Any]:
        choice = self._delta({"content": event.text})
        # Text that comes without tokens, or tokens of which none is shown, have nothing to tell.
        return {**choice, "logprobs": _logprobs(event.logprobs)} if event.logprobs else choice

    def opening(self) -> str:
        return self.chunk(self._delta({"role": "assistant", "content": ""}))

    def last_choice(self, reason: str) -> dict[str, Any]:
        return self._delta({}, self._completion.finish_reason(reason))

    def empty_choice(self) -> dict[str, Any]:
        return self._delta({})

    def rare(self, event: Event) -> str:
        match event:
            case ToolCallStarted():
                return self._call(event.index, {"name": event.name, "arguments": ""}, event.call_id)
            case ToolArguments():
                return self._call(event.index, {"arguments": event.text})
            case _:
                return ""

    def _call(self, index: int, function: dict[str, str], id: str | None = None) -> str:
        if self._completion.legacy:
            return self.chunk(self._delta({"function_call": function})) if index == 0 else ""
        named = {} if id is None else {"id": id, "type": "function"}
        return self.chunk(self._delta({"tool_calls": [{"index": index, **named, "function": function}]}))

    def _delta(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": reason}
