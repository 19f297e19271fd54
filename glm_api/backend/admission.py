"""Admission of requests to a backend, and the state of each request, from the queue to its last event.

Both backends use this: `glm_api.pipeline.generation.Generation` and `glm_api.upstream.request.UpstreamRequest` are the
two kinds of `QueuedRequest`.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from glm_api.backend.deadlines import Deadlines
from glm_api.backend.errors import BackendError, ClientGone, queue_full, shutting_down
from glm_api.backend.semaphore import FairSemaphore, Full

# The weight of the last request in the moving average of durations.
LAST_WEIGHT = 0.2


class RequestStatus(Enum):
    """The status of a `QueuedRequest`. It only moves forward."""

    WAITING = auto()
    """It waits for its turn, or for the backend to become ready."""
    RUNNING = auto()
    """The backend works on it."""
    FINISHED = auto()
    """It is answered, has failed or was closed. Events that the backend still sends are dropped."""


# Looking a member up in its Enum takes Python 3.11 longer than all else in `QueuedRequest.put`.
_WAITING, _RUNNING, _FINISHED = RequestStatus


class _Complete(Exception):
    """Marks the end of the events in an inbox."""


Item = TypeVar("Item")
Request = TypeVar("Request", bound="QueuedRequest[Any]")


class QueuedRequest(ABC, Generic[Item]):
    """One request to a backend. One consumer reads `events`; all other methods may be called from any thread.

    ``status`` changes in this class only, under the request's lock:

    - WAITING to RUNNING: `begin`. The backend calls it when it takes the work, in the thread in which the request got
      its turn, or in the one in which the backend became ready.
    - RUNNING to FINISHED: `finish`. The backend calls it when its work has ended, in the thread that listens to it.
    - WAITING or RUNNING to FINISHED: `close`, `fail` and `cancel`. Their callers are the consumer, the greenlet that
      watches the client's connection, and the thread that stops the backend.

    The first of them decides how the request ends, and the others do nothing. The place in the queue is given back
    exactly once: at once if the request was waiting, else by `finish`, so no other request gets the place before the
    backend has stopped. A slow consumer delays no other request: events wait here, and do not keep the place.
    """

    def __init__(self, admission: Admission[Any]) -> None:
        self.status = _WAITING
        self.turn_at: float | None = None
        """When it got its turn, by ``time.monotonic``."""
        self.begun_at: float | None = None
        """When the backend began with it, by ``time.monotonic``: later than its turn if the backend was not ready."""
        self._admission = admission
        self._deadlines = admission.deadlines()
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Item | Exception] = queue.SimpleQueue()

    @property
    def queue_ms(self) -> float:
        """Milliseconds waited until the backend began, so far or in all."""
        return ((self.begun_at or time.monotonic()) - self._deadlines.created) * 1000

    # --- for the consumer ---

    def events(self, silence: float | None = None) -> Iterator[list[Item]]:
        """Yield the events in order, those that are ready together as one list, until the backend has finished.

        With ``silence`` (seconds) an empty list comes whenever that time has passed without an event. Raises
        `DeadlineExceeded`, or what the request failed with, after the events that came before.
        """
        while True:
            events, end = self._next_events(silence)
            if events or end is None:
                yield events
            if isinstance(end, _Complete):
                return
            if end is not None:
                raise end

    def _next_events(self, silence: float | None) -> tuple[list[Item], Exception | None]:
        """Wait for an event, then take all that are there. Return them and, if there is one, the end behind them."""
        events: list[Item] = []
        quiet_until = None if silence is None else time.monotonic() + silence
        while True:
            waiting = self.turn_at is None
            left = self._deadlines.left(waiting)
            if left <= 0:
                self.close()
                return [], self._deadlines.exceeded(waiting)
            if quiet_until is not None:
                quiet_left = quiet_until - time.monotonic()
                if quiet_left <= 0:
                    return [], None
                left = min(left, quiet_left)
            try:
                item = self._inbox.get(timeout=left)
                while True:
                    if isinstance(item, Exception):
                        return events, item
                    events.append(item)
                    item = self._inbox.get_nowait()
            except queue.Empty:
                if events:
                    return events, None

    # --- to end it early ---

    def close(self) -> None:
        """End the request, whatever its status: stop its work and give its place back. Idempotent."""
        self._close(None)

    def fail(self, error: Exception) -> None:
        """`close` the request, and let its consumer see ``error`` after the events that are there."""
        self._close(error)

    def cancel(self) -> None:
        """`close` the request because its client is gone; its consumer sees `ClientGone`."""
        self._close(ClientGone("The client closed the connection."))

    def _close(self, error: Exception | None) -> None:
        before = self._to_finished()
        if before is _FINISHED:
            return
        if error is not None:
            self._inbox.put(error)
        if before is _RUNNING:
            self._stop_work()
        else:
            self._admission.leave(self)

    # --- for the backend ---

    def take_turn(self) -> None:
        """Note the time of the turn and call `_on_turn`. The semaphore calls this as its ``on_turn``."""
        with self._lock:
            if self.status is not _WAITING:
                return
            self.turn_at = time.monotonic()
        self._on_turn()

    def begin(self) -> bool:
        """Start to run. Return False, and do nothing, if it runs already, is finished, or has not got its turn."""
        with self._lock:
            if self.status is not _WAITING or self.turn_at is None:
                return False
            self.status = _RUNNING
            self.begun_at = time.monotonic()
            return True

    def put(self, item: Item) -> None:
        """Give ``item``, an event of the backend, to the consumer."""
        if self.status is not _FINISHED:
            self._inbox.put(item)

    def finish(self, error: Exception | None = None) -> None:
        """End the events, with ``error`` if there is one, and give the place back: the backend's work has ended.

        If the request was closed before, only its place is given back. Idempotent.
        """
        if self._to_finished() is not _FINISHED:
            self._inbox.put(error or _Complete())
        self._admission.leave(self, ran=True)

    def _to_finished(self) -> RequestStatus:
        """Finish, and return the status before."""
        with self._lock:
            before, self.status = self.status, _FINISHED
        return before

    @abstractmethod
    def _on_turn(self) -> None:
        """Let the backend call `begin`, now or when it is ready: the request has its turn.

        Like ``on_turn`` of `FairSemaphore`, this must not block and must not give a place back.
        """

    @abstractmethod
    def _stop_work(self) -> None:
        """Let the backend stop, and call `finish` when it has: the request was closed while it ran."""


class Admission(Generic[Request]):
    """Admits requests to one backend. Methods may be called from any thread. Times are in seconds.

    ``assumed_duration``: what a request is assumed to take, for Retry-After, before one has been measured.
    """

    def __init__(
        self,
        semaphore: FairSemaphore[Request],
        queue_timeout: float,
        request_timeout: float,
        assumed_duration: float,
    ) -> None:
        self.draining = False
        self._semaphore = semaphore
        self._queue_timeout = queue_timeout
        self._request_timeout = request_timeout
        self._duration = assumed_duration
        self._stopped = False

    def deadlines(self) -> Deadlines:
        """Return the deadlines of a request that comes now."""
        return Deadlines(self._queue_timeout, self._request_timeout)

    def enter(self, request: Request) -> None:
        """Give ``request`` a place in the queue, in order of arrival. Raises `QueueFull` or `ShuttingDown`."""
        if self.draining:
            raise shutting_down(begun=False)
        try:
            self._semaphore.enter(request)
        except Full:
            waiting = self._semaphore.waiting
            raise queue_full(waiting, self.estimated_wait(waiting + 1)) from None
        if self._stopped:
            # `stop` may have run in between without seeing it.
            self._interrupt(request)

    def leave(self, request: Request, ran: bool = False) -> None:
        """Give the place of ``request`` back. ``ran``: the backend has worked on it. Idempotent."""
        if self._semaphore.leave(request) and ran:
            assert request.turn_at is not None
            self._duration += LAST_WEIGHT * (time.monotonic() - request.turn_at - self._duration)

    def drain(self) -> None:
        """Refuse new requests and go on with admitted ones. Does not block."""
        self.draining = True

    def stop(self) -> None:
        """Refuse new requests, and fail running ones with `Interrupted`, waiting ones with `ShuttingDown`."""
        self.draining = self._stopped = True
        for request in self._last_first():
            self._interrupt(request)

    def fail_all(self, error: BackendError) -> None:
        """Fail all admitted requests with ``error``."""
        for request in self._last_first():
            request.fail(error)

    def with_turn(self) -> list[Request]:
        """Return the requests that have their turn."""
        return [request for position, request in self._semaphore.positions() if position == 0]

    def waiting(self) -> list[tuple[int, Request]]:
        """Return the requests that wait for their turn, in order, each with its position from 1 on."""
        return [(position, request) for position, request in self._semaphore.positions() if position > 0]

    def estimated_wait(self, position: int) -> float:
        """Return the seconds until the request at ``position`` gets its turn, by how long others took."""
        return self._duration * position / self._semaphore.places

    def _interrupt(self, request: Request) -> None:
        request.fail(shutting_down(begun=request.status is _RUNNING))

    def _last_first(self) -> list[Request]:
        """Return all admitted requests, the last one first. Ended in this order, none gives its turn to another."""
        return [request for _, request in reversed(self._semaphore.positions())]
