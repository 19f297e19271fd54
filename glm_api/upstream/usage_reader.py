"""Read the upstream's answers for logs and metrics: token counts, finish reasons, time of the first token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from glm_api.middleware.request_record import RequestRecord
from glm_api.upstream import errors

# Events of the Responses API that end a stream.
LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})

# Metrics have a label for each reason: whatever an upstream invents must not become one.
REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"})


class UsageReader:
    """Reads the bodies or events of one answer into its ``record``. The upstream may leave out anything."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self.closed = False

    def note(self, payload: Mapping[str, Any]) -> None:
        """Read a body, a chunk, or an event of the Responses API."""
        record = self._record
        kind = payload.get("type")
        self.closed = self.closed or kind in LAST_EVENTS
        inside = payload.get("response")
        self._note_usage((inside if isinstance(inside, dict) else payload).get("usage"))
        if isinstance(found := payload.get("error"), dict):
            record.error = errors.in_stream(found)
        for text in _texts(payload):
            if record.streamed and record.first_token_at is None:
                record.first_token_at = time.monotonic()
            if record.answer is not None:
                record.answer.append(text)
        record.finish_reasons += _reasons(payload)

    def end(self) -> None:
        """Note that the answer is complete."""
        record = self._record
        record.prompts = max(1, len(record.finish_reasons))
        if record.streamed and record.first_token_at is not None:
            record.predicted_ms = (time.monotonic() - record.first_token_at) * 1000

    def _note_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        record = self._record
        record.prompt_tokens = _count(usage, "prompt_tokens", "input_tokens") or record.prompt_tokens
        record.completion_tokens = _count(usage, "completion_tokens", "output_tokens") or record.completion_tokens
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        if isinstance(details, dict):
            record.cached_tokens = _count(details, "cached_tokens") or record.cached_tokens


def _count(found: Mapping[str, Any], *names: str) -> int | None:
    return next((found[name] for name in names if isinstance(found.get(name), int) and found[name] >= 0), None)


def _choices(payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = payload.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _texts(payload: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pieces of answers in ``payload``, those of tool calls and of reasoning too."""
    if isinstance(delta := payload.get("delta"), str) and delta:
        yield delta
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


def _reasons(payload: Mapping[str, Any]) -> list[str]:
    """Return the finish reasons of the answers that end with ``payload``."""
    response = payload.get("response") if "response" in payload else payload
    if isinstance(response, dict) and response.get("object") == "response":
        return {"completed": ["stop"], "incomplete": ["length"]}.get(str(response.get("status")), [])
    found = [choice.get("finish_reason") for choice in _choices(payload)]
    return [reason if reason in REASONS else "other" for reason in found if isinstance(reason, str)]
