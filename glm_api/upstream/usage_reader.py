"""Read the upstream's answers for logs and metrics: token counts, finish reasons, time of the first token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from glm_api.middleware.request_record import RequestRecord
from glm_api.upstream import errors

# Typed events that end a stream, of the Responses API and of Anthropic's.
LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed", "message_stop", "error"})

# A count beyond this is none; metrics are floating-point numbers.
LARGEST_COUNT = 2**53

# Metrics have a label for each reason: whatever an upstream invents must not become one.
REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"})
# Those of Anthropic's API.
STOP_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class UsageReader:
    """Reads the bodies or events of one answer into its ``record``. The upstream may leave out anything."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self.closed = False
        """Whether a typed event has ended the answer."""
        self._begun: set[int] = set()
        self._finished: set[int] = set()

    @property
    def complete(self) -> bool:
        """Whether the answer is whole, by what it tells: each choice that has begun has its finish reason."""
        return self.closed or (bool(self._finished) and self._begun == self._finished)

    def note(self, payload: Mapping[str, Any]) -> None:
        """Read a body, a chunk, or a typed event."""
        record = self._record
        kind = payload.get("type")
        self.closed = self.closed or (isinstance(kind, str) and kind in LAST_EVENTS)
        inside = payload.get("response") or payload.get("message")
        self._note_usage((inside if isinstance(inside, dict) else payload).get("usage"))
        record.error = record.error or errors.told(payload)
        for text in _texts(payload):
            if record.streamed and record.first_token_at is None:
                record.first_token_at = time.monotonic()
            if record.answer is not None:
                record.answer.append(text)
        record.finish_reasons += self._reasons(payload)

    def end(self) -> None:
        """Note that the answer is complete."""
        record = self._record
        record.prompts = max(1, len(record.finish_reasons))
        if record.streamed and record.first_token_at is not None:
            record.predicted_ms = (time.monotonic() - record.first_token_at) * 1000

    def _reasons(self, payload: Mapping[str, Any]) -> list[str]:
        """Return the finish reasons of the choices that end with ``payload``."""
        if payload.get("type") in ("message", "message_delta"):
            ending = payload.get("delta", payload)
            reason = ending.get("stop_reason") if isinstance(ending, dict) else None
            return [STOP_REASONS.get(reason, "other")] if isinstance(reason, str) else []
        response = payload.get("response") if "response" in payload else payload
        if isinstance(response, dict) and response.get("object") == "response":
            return {"completed": ["stop"], "incomplete": ["length"]}.get(str(response.get("status")), [])
        found = []
        for place, choice in enumerate(_choices(payload)):
            index = choice.get("index")
            index = index if isinstance(index, int) else place
            self._begun.add(index)
            reason = choice.get("finish_reason")
            # Some engines send "" while the choice goes on, and some repeat the reason with the token counts.
            if isinstance(reason, str) and reason and index not in self._finished:
                self._finished.add(index)
                found.append(reason if reason in REASONS else "other")
        return found

    def _note_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        record = self._record
        prompt = _count(usage, "prompt_tokens", "input_tokens")
        cached = _count(usage, "cache_read_input_tokens")
        if prompt is not None and cached is not None:
            # Anthropic's count leaves out the tokens that the cache had, and those that it got.
            prompt += cached + (_count(usage, "cache_creation_input_tokens") or 0)
            record.cached_tokens = cached
        record.prompt_tokens = prompt or record.prompt_tokens
        record.completion_tokens = _count(usage, "completion_tokens", "output_tokens") or record.completion_tokens
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        if isinstance(details, dict):
            record.cached_tokens = _count(details, "cached_tokens") or record.cached_tokens


def _count(found: Mapping[str, Any], *names: str) -> int | None:
    counts = (found.get(name) for name in names)
    return next((count for count in counts if isinstance(count, int) and 0 <= count <= LARGEST_COUNT), None)


def _choices(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = payload.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _blocks(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the content blocks in ``payload``, or the piece of one, in Anthropic's API."""
    content = payload.get("content")
    blocks = content if isinstance(content, list) else [payload.get("delta")]
    return [block for block in blocks if isinstance(block, dict)]


def _texts(payload: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pieces of answers in ``payload``, those of tool calls and of reasoning too."""
    if isinstance(delta := payload.get("delta"), str) and delta:
        yield delta
    for block in _blocks(payload):
        yield from (
            text for key in ("thinking", "text", "partial_json") if isinstance(text := block.get(key), str) and text
        )
    for choice in _choices(payload):
        message = choice.get("delta") or choice.get("message") or {}
        if not isinstance(message, dict):
            continue
        found = [choice.get("text"), message.get("content"), message.get("reasoning_content")]
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            found += [function.get("name"), function.get("arguments")] if isinstance(function, dict) else []
        yield from (text for text in found if isinstance(text, str) and text)
