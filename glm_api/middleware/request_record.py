"""The record of one request, from which logs and metrics are made.

Each request has a `RequestRecord` in ``flask.g.record``, which is filled in while the answer is made. After the last
byte, or when the client is gone, the signal `request_over` sends it to logs and metrics.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from blinker import Namespace
from flask import Flask, Response, g, request

from glm_api.errors import CLIENT_CLOSED_REQUEST, ApiError
from glm_api.middleware.paths import sent_path
from glm_api.pipeline.frames import Event, Finished, Reasoning, Started, Text, ToolArguments, ToolCallStarted

request_over = Namespace().signal("request-over")
"""The sender is the app; ``record`` is the `RequestRecord`."""

_SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
OPENAI_VERSION = "2020-10-01"


@dataclass(slots=True)
class RequestRecord:
    """One request. Times that end in ``_at`` are seconds of ``time.monotonic``, all others milliseconds.

    ``path`` is the path that the client sent, ``route`` the rule that it fits, if there is one.
    Token counts are None for requests that do not use the model. ``status`` is the status that the client got, or 499.
    ``error`` may follow a status of 200, if a stream fails. ``body`` and ``answer`` (in pieces) are kept only if
    prompts are logged, see `glm_api.middleware.access_log`.
    """

    id: str
    method: str
    path: str
    route: str | None
    began_at: float = field(default_factory=time.monotonic)
    status: int = 0
    model: str | None = None
    streamed: bool = False
    prompts: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    started_at: float | None = None
    first_token_at: float | None = None
    over_at: float | None = None
    queue_ms: float | None = None
    prompt_ms: float | None = None
    predicted_ms: float | None = None
    step_threads: int | None = None
    batch_threads: int | None = None
    finish_reasons: list[str] = field(default_factory=list)
    error: ApiError | None = None
    body: bytes | None = None
    answer: list[str] | None = None

    def note(self, events: Iterable[Event]) -> None:
        """Note the events of an answer."""
        for event in events:
            match event:
                case Text() | Reasoning() | ToolCallStarted():
                    # The first case, because nearly all events are texts: each microsecond here is lost to the model.
                    if self.first_token_at is None:
                        self.first_token_at = time.monotonic()
                case Started():
                    self._note_start(event)
                case Finished():
                    self._note_finish(event)

        if self.answer is not None:
            self._keep(events)

    def _keep(self, events: Iterable[Event]) -> None:
        assert self.answer is not None
        for event in events:
            match event:
                case Text() | Reasoning() | ToolArguments():
                    self.answer.append(event.text)
                case ToolCallStarted():
                    self.answer.append(f"{event.name} ")

    def _note_start(self, event: Started) -> None:
        if self.started_at is None:
            self.started_at = time.monotonic()
        self.prompts += 1
        self.prompt_tokens = (self.prompt_tokens or 0) + event.prompt_tokens
        self.cached_tokens = (self.cached_tokens or 0) + event.cached_tokens

    def _note_finish(self, event: Finished) -> None:
        self.completion_tokens = (self.completion_tokens or 0) + event.completion_tokens
        self.prompt_ms = (self.prompt_ms or 0) + event.prompt_ms
        self.predicted_ms = (self.predicted_ms or 0) + event.predicted_ms
        self.step_threads, self.batch_threads = event.step_threads, event.batch_threads
        self.finish_reasons.append(event.reason)

    @property
    def final_status(self) -> int:
        """The status for logs and metrics; 499 also if the client left in the middle of a stream."""
        gone = self.error is not None and self.error.status == CLIENT_CLOSED_REQUEST
        return CLIENT_CLOSED_REQUEST if gone else self.status

    @property
    def total_ms(self) -> float:
        """Milliseconds from the beginning of the request to the end of its answer, or until now."""
        return ((self.over_at or time.monotonic()) - self.began_at) * 1000


def register(app: Flask) -> None:
    """Keep a record of every request of ``app``, and add the headers of OpenAI and Anthropic to every response."""

    @app.before_request
    def begin() -> None:
        inbound = request.headers.get("x-request-id", "")
        id = inbound if _SANE_ID.fullmatch(inbound) else f"req_{uuid.uuid4().hex}"
        route = request.url_rule.rule if request.url_rule else None
        g.record = RequestRecord(id, request.method, sent_path(request), route)

    @app.after_request
    def end(response: Response) -> Response:
        record: RequestRecord = g.record
        record.status = response.status_code
        record.error = g.get("error")
        response.headers["x-request-id"] = response.headers["request-id"] = record.id
        response.headers["openai-processing-ms"] = str(round(record.total_ms))
        response.headers["openai-version"] = OPENAI_VERSION

        def over() -> None:
            record.over_at = time.monotonic()
            request_over.send(app, record=record)

        response.call_on_close(over)
        return response
