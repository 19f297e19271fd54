"""Forward a request to the upstream and its answer to the client; record usage for logs and metrics on the way.

Three things of an answer change. The model gets the name that the client knows. This server asks for the token counts
of every stream, unless the upstream refuses that, and leaves them out for a client that did not ask for them. Errors
get OpenAI's envelope and lose the upstream's internals.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import chain
from typing import Any

from flask import Response, g

from glm_api.api import sse
from glm_api.api.sse import DONE, PING
from glm_api.backend.errors import BackendError, ClientGone
from glm_api.context import settings
from glm_api.errors import ApiError, envelope
from glm_api.middleware.disconnects import closed_with_client
from glm_api.middleware.request_record import RequestRecord
from glm_api.upstream import errors, models
from glm_api.upstream.context import upstream
from glm_api.upstream.documents import read_object
from glm_api.upstream.event_stream import EventSplitter
from glm_api.upstream.request import UpstreamRequest
from glm_api.upstream.usage_reader import UsageReader

RESPONSES = "/responses"
MESSAGES = "/messages"
# Events of these endpoints have a type. The key is that of the object inside an event that names the model.
TYPED = {RESPONSES: "response", MESSAGES: "message"}


def relay(endpoint: str, body: dict[str, Any]) -> Response:
    """Return the upstream's answer to ``body`` at ``endpoint``. Raises `ApiError` and `BackendError`."""
    record: RequestRecord = g.record
    shown, meant = models.chosen(body.get("model"))
    record.model = shown
    outgoing = body if meant is None else {**body, "model": meant}
    record.streamed = body.get("stream") is True
    if not record.streamed:
        return _whole(upstream.admit(endpoint, record.id, _encoded(outgoing)), shown, record)
    options = body.get("stream_options") or {}
    counted = endpoint in TYPED or options.get("include_usage") is True
    without_options = None
    if not counted and not upstream.refuses_stream_options:
        outgoing = {**outgoing, "stream_options": {**options, "include_usage": True}}
        without_options = partial(_with_own_options, options)
    request = upstream.admit(endpoint, record.id, _encoded(outgoing), without_options)
    return _streamed(request, EventRelay(endpoint, shown, counted, record), record)


def _encoded(outgoing: dict[str, Any]) -> bytes:
    return json.dumps(outgoing, ensure_ascii=False, separators=(",", ":")).encode()


def _with_own_options(options: dict[str, Any], body: bytes) -> bytes:
    """Return ``body`` with the client's own ``stream_options``, or without if there are none."""
    document = json.loads(body)
    del document["stream_options"]
    return _encoded({**document, "stream_options": options} if options else document)


def _whole(admitted: UpstreamRequest, shown: str | None, record: RequestRecord) -> Response:
    with closed_with_client(admitted) as request:
        content = b"".join(piece for piece in _body(request, None, record) if piece)
    answer = _object(content)
    usage = UsageReader(record)
    usage.note(answer)
    usage.end()
    errors.conceal(answer)
    if shown is not None and "model" in answer:
        answer["model"] = shown
    # In ASCII: half of a surrogate pair is a valid escape and no UTF-8.
    return Response(json.dumps(answer), content_type="application/json")


def _streamed(admitted: UpstreamRequest, stream: EventRelay, record: RequestRecord) -> Response:
    with ExitStack() as stack:
        request = stack.enter_context(closed_with_client(admitted))
        pieces = _body(request, settings.ping_interval or None, record)
        # As in `generate.stream`: a failure before the first ping still gets its own HTTP status.
        first = next(pieces, b"")
        release = stack.pop_all().close
    return sse.send(_until_over(first, pieces, stream), stream, release)


def _body(
    request: UpstreamRequest, silence: float | None, record: RequestRecord
) -> Generator[bytes | None, None, None]:
    """Yield the bytes of an answer as they arrive, and None for each silence."""
    try:
        for pieces in request.events(silence):
            yield b"".join(pieces) if pieces else None
    finally:
        if request.begun_at is not None:
            record.started_at = request.begun_at
            record.queue_ms = request.queue_ms


def _until_over(
    first: bytes | None, rest: Generator[bytes | None, None, None], stream: EventRelay
) -> Iterator[bytes | None]:
    """Yield the pieces until ``stream`` is over. What fails after the last event of a response is no failure."""
    with closing(rest):
        try:
            for piece in chain([first], rest):
                yield piece
                if stream.over:
                    return
        except ClientGone:
            raise
        except (ApiError, BackendError):
            if not stream.closed:
                raise


def _object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in ``content``. Raises `ApiError` (502) if it is none."""
    try:
        return read_object(content)
    except ValueError:
        raise errors.unreadable() from None


class EventRelay:
    """Relays the server-sent events of one stream from the upstream to the client.

    It understands what OpenAI's clients do, and those that read line by line. It sends data, names of events and pings,
    nothing else: OpenAI's client for Python fails at an event without data, and after an ``id`` at each ping.

    ``counted``: the client wants the token counts. A stream of typed events does not end in ``[DONE]``.
    """

    def __init__(self, endpoint: str, shown: str | None, counted: bool, record: RequestRecord) -> None:
        self.over = False
        """Whether the client has got the last event, so that nothing more of the upstream is needed."""
        self._shown = shown
        self._counted = counted
        self._endpoint = endpoint
        self._typed = endpoint in TYPED
        self._envelope = envelope()
        self._record = record
        self._usage = UsageReader(record)
        self._splitter = EventSplitter()

    @property
    def closed(self) -> bool:
        """Whether the last one of typed events has come."""
        return self._usage.closed

    def render(self, received: bytes) -> bytes:
        """Return for the client the events that ``received`` completes, and behind them an error if one is invalid."""
        sent = bytearray()
        try:
            for event in self._splitter.feed(received):
                for piece in self._relayed(event):
                    sent += piece
                if self.over:
                    break
        except ApiError as error:
            sent += self._fail(error)
        return bytes(sent)

    def end(self) -> bytes:
        """Return the last bytes: the event that no empty line ends, and ``[DONE]`` or an error if they are missing.

        A stream is complete with ``[DONE]``, or when it tells that the answer is whole.
        """
        sent = bytearray()
        if not self.over:
            # An event that is cut is missing: then either the answer is not whole, or nothing of it is lost.
            with suppress(ApiError):
                for piece in self._relayed(self._splitter.end()):
                    sent += piece
        if not self.over:
            sent += self._done() if self._usage.complete else self._fail(errors.cut_off())
        return bytes(sent)

    def fail(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails."""
        if self._endpoint == MESSAGES:
            return b"event: error\n" + sse.data(self._envelope(error))
        if self._typed:
            detail = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
            return b"event: error\n" + sse.data(detail)
        return sse.data(error.body()) + DONE

    def _fail(self, error: ApiError) -> bytes:
        self.over = True
        self._record.error = error
        return self.fail(error)

    def _done(self) -> bytes:
        self.over = True
        self._usage.end()
        return b"" if self._typed else DONE

    def _relayed(self, event: bytes) -> Iterator[bytes]:
        """Yield for the client what is in ``event``. Raises `ApiError` for what is unreadable, after what is before."""
        lines = event.split(b"\n")
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not any(data):
            # The upstream shows that it lives, with a comment or with an event that browsers ignore too.
            yield PING if any(lines) else b""
            return
        names = b"".join(line + b"\n" for line in lines if line.startswith(b"event:"))
        names = names.decode(errors="replace").encode()
        for document in _documents(data):
            if document is None:
                yield self._done()
            else:
                yield self._payload(names, document)
            if self.over:
                return

    def _payload(self, names: bytes, payload: dict[str, Any]) -> bytes:
        self._usage.note(payload)
        error = errors.told(payload)
        # Typed events include errors, and more may follow.
        if error is not None and not (self._typed and self._usage.closed):
            return self._fail(error)
        errors.conceal(payload)
        if not self._wanted(payload):
            return b""
        self._name(payload)
        return names + sse.data(payload)

    def _wanted(self, payload: dict[str, Any]) -> bool:
        """Remove the token counts if the client did not ask for them. Return whether anything is left to send."""
        if self._counted or "usage" not in payload:
            return True
        counts = payload.pop("usage")
        return counts is None or bool(payload.get("choices"))

    def _name(self, payload: dict[str, Any]) -> None:
        inside = payload.get(TYPED[self._endpoint]) if self._typed else payload
        if self._shown is not None and isinstance(inside, dict) and "model" in inside:
            inside["model"] = self._shown


def _documents(data: list[bytes]) -> Iterator[dict[str, Any] | None]:
    """Yield the JSON objects in the lines of an event's data, and None for ``[DONE]``.

    The lines are one object. If they are none, each line is one by itself: the empty lines between are missing. Raises
    `ApiError` for a line that is neither.
    """
    try:
        document = _document(b"\n".join(data))
    except ApiError:
        if len(data) == 1:
            raise
        yield from (_document(line) for line in data if line.strip())
    else:
        yield document


def _document(data: bytes) -> dict[str, Any] | None:
    # OpenAI's clients take whatever begins with "[DONE]".
    return None if data.strip().startswith(b"[DONE]") else _object(data)
