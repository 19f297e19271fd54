"""Forward a request to the upstream and its answer to the client; record usage for logs and metrics on the way.

Only two things of an answer change. The model gets the name that the client knows. This server asks for the token
counts of every stream, and leaves them out for a client that did not ask for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

from flask import Response, g

from glm_api.api import sse
from glm_api.api.sse import DONE
from glm_api.context import settings
from glm_api.errors import ApiError
from glm_api.middleware.disconnects import closed_with_client
from glm_api.middleware.request_record import RequestRecord
from glm_api.upstream import errors, models
from glm_api.upstream.connection import Head
from glm_api.upstream.context import upstream
from glm_api.upstream.event_stream import EventSplitter
from glm_api.upstream.request import Piece, UpstreamRequest
from glm_api.upstream.usage_reader import UsageReader

RESPONSES = "/responses"


def relay(endpoint: str, body: dict[str, Any]) -> Response:
    """Return the upstream's answer to ``body`` at ``endpoint``. Raises `ApiError` and `BackendError`."""
    record: RequestRecord = g.record
    shown, meant = models.chosen(body.get("model"))
    record.model = shown
    outgoing = body if meant is None else {**body, "model": meant}
    record.streamed = body.get("stream") is True
    if not record.streamed:
        return _whole(endpoint, outgoing, shown, record)
    options = body.get("stream_options") or {}
    counted = endpoint == RESPONSES or options.get("include_usage") is True
    if not counted:
        outgoing = {**outgoing, "stream_options": {**options, "include_usage": True}}
    return _streamed(endpoint, outgoing, EventRelay(shown, counted, endpoint == RESPONSES, record), record)


def _admit(endpoint: str, outgoing: dict[str, Any], record: RequestRecord) -> UpstreamRequest:
    body = json.dumps(outgoing, ensure_ascii=False, separators=(",", ":")).encode()
    return upstream.admit(endpoint, record.id, body)


def _whole(endpoint: str, outgoing: dict[str, Any], shown: str | None, record: RequestRecord) -> Response:
    with closed_with_client(_admit(endpoint, outgoing, record)) as request:
        content = b"".join(piece for piece in _body(request, None, record) if piece)
    answer = _object(content)
    usage = UsageReader(record)
    usage.note(answer)
    usage.end()
    if shown is not None and "model" in answer:
        answer["model"] = shown
    return Response(json.dumps(answer, ensure_ascii=False), content_type="application/json")


def _streamed(endpoint: str, outgoing: dict[str, Any], stream: EventRelay, record: RequestRecord) -> Response:
    with ExitStack() as stack:
        request = stack.enter_context(closed_with_client(_admit(endpoint, outgoing, record)))
        pieces = _body(request, settings.ping_interval or None, record)
        # As in `generate.stream`: a failure before the first ping still gets its own HTTP status.
        first = next(pieces, b"")
        release = stack.pop_all().close
    return sse.send(chain([first], pieces), stream, release)


def _body(request: UpstreamRequest, silence: float | None, record: RequestRecord) -> Iterator[bytes | None]:
    """Yield the bytes of an answer with status 200, and None for each silence. Raises `ApiError` for other statuses."""
    pieces = _pieces(request, silence)
    try:
        for piece in pieces:
            if not isinstance(piece, Head):
                yield piece
            elif piece.status != 200:
                raise errors.of_status(piece.status, piece.headers, _rest(pieces))
    finally:
        if request.begun_at is not None:
            record.started_at = request.begun_at
            record.queue_ms = request.queue_ms


def _pieces(request: UpstreamRequest, silence: float | None) -> Iterator[Piece | None]:
    """Yield what arrives, piece by piece, and None for each silence."""
    for pieces in request.events(silence):
        if pieces:
            yield from pieces
        else:
            yield None


def _rest(pieces: Iterator[Piece | None]) -> bytes:
    """Return the body of an error answer, or its beginning if it is long."""
    body = bytearray()
    for piece in pieces:
        if isinstance(piece, bytes):
            body += piece
            if len(body) > 2**16:
                break
    return bytes(body)


def _object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in ``content``. Raises `ApiError` (502) if it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise errors.unreadable() from None
    if not isinstance(document, dict):
        raise errors.unreadable()
    return document


class EventRelay:
    """Relays the server-sent events of one stream from the upstream to the client.

    ``counted``: the client wants the token counts. ``typed``: the events are those of the Responses API, whose stream
    does not end in ``[DONE]``.
    """

    def __init__(self, shown: str | None, counted: bool, typed: bool, record: RequestRecord) -> None:
        self._shown = shown
        self._counted = counted
        self._typed = typed
        self._record = record
        self._usage = UsageReader(record)
        self._splitter = EventSplitter()
        self._complete = False

    def render(self, received: bytes) -> bytes:
        """Return for the client the events that ``received`` completes. Raises `ApiError` for an invalid event."""
        return b"".join(map(self._event, self._splitter.feed(received)))

    def end(self) -> bytes:
        """Return nothing if the stream is complete, else its error."""
        if self._complete:
            self._usage.end()
            return b""
        self._record.error = error = errors.cut_off()
        return self.fail(error)

    def fail(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails."""
        if self._typed:
            detail = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
            return b"event: error\n" + sse.data(detail)
        return sse.data(error.body()) + DONE

    def _event(self, event: bytes) -> bytes:
        lines = event.split(b"\n")
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        if not data:
            return event + b"\n\n" if event else b""
        if data == b"[DONE]":
            self._complete = True
            return DONE
        payload = _object(data)
        self._usage.note(payload)
        self._complete = self._complete or self._usage.closed
        if not self._wanted(payload):
            return b""
        self._name(payload)
        others = [line + b"\n" for line in lines if not line.startswith(b"data:")]
        return b"".join(others) + sse.data(payload)

    def _wanted(self, payload: dict[str, Any]) -> bool:
        """Remove the token counts if the client did not ask for them. Return whether anything is left to send."""
        if self._counted or "usage" not in payload:
            return True
        counts = payload.pop("usage")
        return counts is None or bool(payload.get("choices"))

    def _name(self, payload: dict[str, Any]) -> None:
        inside = payload.get("response") if self._typed else payload
        if self._shown is not None and isinstance(inside, dict) and "model" in inside:
            inside["model"] = self._shown
