"""One request to the upstream, from the queue to the last byte of its answer."""

from __future__ import annotations

import logging
from typing import TypeAlias

from glm_api.backend.admission import Admission, QueuedRequest, RequestStatus
from glm_api.upstream import errors
from glm_api.upstream.connection import Address, Arrival, Broken, End, Exchange, Head

logger = logging.getLogger(__name__)

# Bytes; no real answer is so long. What a slow client has not read waits here; without a bound a broken upstream could
# fill the memory.
LARGEST_ANSWER = 64 * 2**20

Piece: TypeAlias = "Head | bytes"


class UpstreamRequest(QueuedRequest[Piece]):
    """The answer to one request: its head, then its bytes. Made by `UpstreamClient.admit`.

    Besides what `QueuedRequest` says, ``events`` raises `ApiError` (502, 503). When it is closed, its place is given
    back at once: closing the connection is all that this server can do, and it does not learn when the upstream stops.
    """

    def __init__(
        self, address: Address, endpoint: str, request_id: str, body: bytes, admission: Admission[UpstreamRequest]
    ) -> None:
        super().__init__(admission)
        self._request_id = request_id
        self._exchange = Exchange(address, endpoint, request_id, body, self._arrive)
        self._bytes = 0

    def _on_turn(self) -> None:
        if self.begin():
            self._exchange.start()

    def _stop_work(self) -> None:
        self._exchange.cancel()
        self.finish()

    def _arrive(self, arrival: Arrival) -> None:
        if self.status is RequestStatus.FINISHED:
            return
        match arrival:
            case End():
                self.finish()
            case Broken():
                logger.warning(
                    "%s: the answer of the engine behind this server failed: %s", self._request_id, arrival.reason
                )
                self.finish(errors.broken(arrival))
            case bytes():
                self._bytes += len(arrival)
                if self._bytes > LARGEST_ANSWER:
                    self.fail(errors.unreadable())
                else:
                    self.put(arrival)
            case Head():
                self.put(arrival)
