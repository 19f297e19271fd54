"""Server-sent events: format one, and stream them as a response.

`send` streams the answers of every backend. The stream gives the request's place in the queue back at its end;
``Response.call_on_close`` does so too, because a stream that never starts does not run its ``finally``.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from flask import Response, current_app, g

from glm_api.backend.errors import BackendError, ClientGone
from glm_api.context import settings
from glm_api.errors import ApiError, from_backend, unforeseen
from glm_api.middleware.request_record import RequestRecord

# A comment, which is no part of the event behind it. An empty line behind it would end an event without data, and some
# readers hand such an event to the program, which fails at it: older versions of openai-go do.
PING = b": ping\n"
DONE = b"data: [DONE]\n\n"

SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # Tells nginx not to buffer the stream.
    "X-Accel-Buffering": "no",
}

Events = TypeVar("Events", contravariant=True)


class Stream(Protocol[Events]):
    """Renders what a backend sends for one request: lists of events, or bytes, as the bytes of a stream."""

    def render(self, events: Events) -> bytes:
        """Return the bytes for events that came together; they may be empty."""

    def end(self) -> bytes:
        """Return the last bytes of a complete stream."""

    def fail(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails."""


def send(source: Iterator[Any], stream: Stream[Any], release: Callable[[], None], ping: bytes = PING) -> Response:
    """Return a response: what ``source`` yields, rendered by ``stream``, and ``ping`` whenever it yields nothing.

    It is sent, too, when ``stream`` has rendered nothing for `GLM_PING_INTERVAL`. ``release`` is called at the end
    of the stream, possibly several times.
    """
    chunks = _chunks(source, stream, release, ping, g.record, current_app.logger, settings.ping_interval)
    response = Response(chunks, headers=SSE_HEADERS)
    response.call_on_close(release)
    return response


def _chunks(
    source: Iterator[Any],
    stream: Stream[Any],
    release: Callable[[], None],
    ping: bytes,
    record: RequestRecord,
    logger: logging.Logger,
    silence: float,
) -> Iterator[bytes]:
    sent_at = time.monotonic()
    try:
        for events in source:
            chunk = stream.render(events) if events else ping
            if not chunk and silence and time.monotonic() - sent_at >= silence:
                chunk = ping
            if chunk:
                yield chunk
                sent_at = time.monotonic()
        yield stream.end()
    except ClientGone as error:
        record.error = from_backend(error)
    except GeneratorExit:
        # The server could not write to the client. Usually a client that leaves is noticed earlier.
        record.error = from_backend(ClientGone("The client closed the connection."))
        raise
    except BackendError as error:
        record.error = from_backend(error)
        yield stream.fail(record.error)
    except ApiError as error:
        record.error = error
        yield stream.fail(error)
    except Exception as error:
        logger.exception("a stream failed", exc_info=error)
        record.error = unforeseen()
        yield stream.fail(record.error)
    finally:
        release()


def data(payload: object) -> bytes:
    """Return ``payload`` as one server-sent event, in ASCII: some clients break lines at Unicode's line separators."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
