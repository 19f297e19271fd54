"""One request to the engine, from the queue to the last byte of its answer."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator

from glm_api.backend.deadlines import Deadlines
from glm_api.backend.errors import ClientGone, PipelineError
from glm_api.backend.semaphore import FairSemaphore
from glm_api.upstream import errors
from glm_api.upstream.connection import Arrival, Broken, End, Exchange, Head, Target

logger = logging.getLogger(__name__)


class Call:
    """The answer to one request. Made by `Engine.call`; ``arrivals`` is for one consumer.

    The place in the queue is given back exactly once: when the engine is done, by a failure, or by `close`. A client
    that reads slowly holds up nobody: what has arrived waits here.
    """

    def __init__(
        self,
        target: Target,
        endpoint: str,
        request_id: str,
        body: bytes,
        semaphore: FairSemaphore,
        deadlines: Deadlines,
        on_close: Callable[[Call], None],
    ) -> None:
        self.ticket = semaphore.ticket(self._on_turn)
        self.turn_at: float | None = None
        self._request_id = request_id
        self._created = deadlines.created
        self._deadlines = deadlines
        self._on_close = on_close
        self._exchange = Exchange(target, endpoint, request_id, body, self._arrive)
        self._inbox: queue.SimpleQueue[Arrival | PipelineError] = queue.SimpleQueue()
        self._closed = False

    @property
    def queue_ms(self) -> float:
        """Milliseconds waited for the turn, so far or in all."""
        return ((self.turn_at or time.monotonic()) - self._created) * 1000

    def arrivals(self, silence: float | None = None) -> Iterator[Head | bytes | None]:
        """Yield what arrives, first the head; None whenever ``silence`` (seconds) has passed without anything.

        Raises `ApiError` (502, 503), `DeadlineExceeded`, `ShuttingDown`, `Interrupted` or `ClientGone`.
        """
        while True:
            waiting = self.turn_at is None
            left = self._deadlines.left(waiting)
            if left <= 0:
                self.close()
                raise self._deadlines.exceeded(waiting)
            try:
                arrival = self._inbox.get(timeout=left if silence is None else min(left, silence))
            except queue.Empty:
                if silence is not None and left > silence:
                    yield None
                continue
            match arrival:
                case End():
                    return
                case Broken():
                    logger.warning("%s: the engine's answer failed: %s", self._request_id, arrival.reason)
                    raise errors.broken(arrival)
                case PipelineError():
                    raise arrival
                case _:
                    yield arrival

    def cancel(self) -> None:
        """The client is gone: stop the engine, from any thread; `arrivals` raises `ClientGone`."""
        self.fail(ClientGone("The client closed the connection."))

    def fail(self, error: PipelineError) -> None:
        """Stop the engine, and let the consumer see ``error``."""
        if not self._closed:
            self._inbox.put(error)
        self.close()

    def close(self) -> None:
        """Stop the engine if it still works, and give the place back. Idempotent."""
        if not self._closed:
            self._closed = True
            self._exchange.cancel()
            self.ticket.leave()
            self._on_close(self)

    def _on_turn(self) -> None:
        self.turn_at = time.monotonic()
        self._exchange.start()

    def _arrive(self, arrival: Arrival) -> None:
        if self._closed:
            return
        self._inbox.put(arrival)
        if isinstance(arrival, (End, Broken)):
            self.close()
