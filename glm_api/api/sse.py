"""Server-sent events: format one, and stream them as a response.

`send` is for whatever is streamed, by the pipeline or the upstream. The work is closed by the stream
and by ``Response.call_on_close``, because a stream that never starts does not run its ``finally``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from flask import Response, current_app, g

from glm_api.backend.errors import ClientGone, PipelineError
from glm_api.errors import ApiError, from_pipeline, unforeseen
from glm_api.middleware.request_record import RequestRecord

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"

SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # nginx holds a stream back until it is over unless told so.
    "X-Accel-Buffering": "no",
}

Batch = TypeVar("Batch", contravariant=True)


class Stream(Protocol[Batch]):
    """Turns what arrives for one request into the bytes of its stream."""

    def render(self, batch: Batch) -> bytes:
        """The bytes for what came together; may be empty."""

    def end(self) -> bytes:
        """The last bytes when all has arrived."""

    def fail(self, error: ApiError) -> bytes:
        """The last bytes of a stream that failed under way."""


def send(batches: Iterator[Any], stream: Stream[Any], release: Callable[[], None]) -> Response:
    """The stream of ``batches``, a ping for each empty one; ``release`` is called at its end, maybe several times."""
    response = Response(_chunks(batches, stream, release, g.record, current_app.logger), headers=SSE_HEADERS)
    response.call_on_close(release)
    return response


def _chunks(
    batches: Iterator[Any],
    stream: Stream[Any],
    release: Callable[[], None],
    record: RequestRecord,
    logger: logging.Logger,
) -> Iterator[bytes]:
    try:
        for batch in batches:
            chunk = stream.render(batch) if batch else PING
            if chunk:
                yield chunk
        yield stream.end()
    except ClientGone as error:
        record.error = from_pipeline(error)
    except GeneratorExit:
        # The server could not write: this is how it learns of a client that left if nothing else told it.
        record.error = from_pipeline(ClientGone("The client closed the connection."))
        raise
    except PipelineError as error:
        record.error = from_pipeline(error)
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
    """``payload`` as one server-sent event. ASCII: clients that split lines by Unicode's rules would cut it apart."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
