"""One request to the upstream, from the queue to the last byte of its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from glm_api.backend.admission import Admission, QueuedRequest, RequestStatus
from glm_api.errors import ApiError
from glm_api.upstream import errors
from glm_api.upstream.connection import Address, Arrival, Broken, End, Exchange, Head

logger = logging.getLogger(__name__)

# Bytes; no real answer is so long. What a slow client has not read waits here; without a bound a broken upstream could
# fill the memory.
LARGEST_ANSWER = 64 * 2**20
# FastAPI's list of faults repeats the request.
LARGEST_REFUSAL = 16 * 2**20


class UpstreamRequest(QueuedRequest[bytes]):
    """The answer to one request, in pieces. Made by `UpstreamClient.admit`, which tells about ``without_options``.

    Besides what `QueuedRequest` says, ``events`` raises `ApiError`: what a status other than 200 means, or 502 or 503
    for an upstream that fails. When it is closed, its place is given back at once: closing the connection is all that
    this server can do, and it does not learn when the upstream stops.

    ``on_refused_options`` is called when the upstream has refused the body for its ``stream_options`` and accepts the
    one without them.
    """

    def __init__(
        self,
        address: Address,
        endpoint: str,
        request_id: str,
        body: bytes,
        admission: Admission[UpstreamRequest],
        without_options: Callable[[bytes], bytes] | None,
        on_refused_options: Callable[[], None],
    ) -> None:
        super().__init__(admission)
        self._address = address
        self._endpoint = endpoint
        self._request_id = request_id
        self._body = body
        self._without_options = without_options
        self._on_refused_options = on_refused_options
        self._exchange: Exchange | None = None
        self._is_second = False
        self._bytes = 0
        self._refusal: Head | None = None
        self._reason = bytearray()

    def _on_turn(self) -> None:
        if self.begin():
            self._send(self._body)

    def _send(self, body: bytes) -> None:
        self._exchange = Exchange(self._address, self._endpoint, self._request_id, body, self._arrive)
        # `_stop_work` may have come just before: it has changed the status first.
        if self.status is not RequestStatus.FINISHED:
            self._exchange.start()

    def _stop_work(self) -> None:
        if self._exchange is not None:
            self._exchange.cancel()
        self.finish()

    def _arrive(self, arrival: Arrival) -> None:
        if self.status is RequestStatus.FINISHED:
            return
        match arrival:
            case Head() if arrival.status == 200:
                if self._is_second:
                    self._on_refused_options()
            case Head():
                self._refusal = arrival
            case bytes() if self._refusal is not None:
                self._reason += arrival
                if len(self._reason) > LARGEST_REFUSAL:
                    self.fail(self._refused(self._refusal))
            case bytes():
                self._bytes += len(arrival)
                if self._bytes > LARGEST_ANSWER:
                    self.fail(errors.unreadable())
                else:
                    self.put(arrival)
            case End() if self._refusal is not None:
                self._end_refusal(self._refusal)
            case End():
                self.finish()
            case Broken():
                logger.warning(
                    "%s: the answer of the engine behind this server failed: %s", self._request_id, arrival.reason
                )
                self.finish(errors.broken(arrival))

    def _refused(self, head: Head) -> ApiError:
        return errors.of_status(head.status, head.headers, bytes(self._reason))

    def _end_refusal(self, head: Head) -> None:
        """Ask again without ``stream_options`` if the upstream has refused those, else finish with its refusal."""
        without_options = None if self._is_second else self._without_options
        if without_options is None or not errors.names_stream_options(head.status, head.headers, bytes(self._reason)):
            self.finish(self._refused(head))
            return
        self._is_second = True
        self._refusal = None
        self._reason.clear()
        self._send(without_options(self._body))
