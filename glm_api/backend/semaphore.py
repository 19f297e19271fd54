"""The semaphore in front of a backend: a fair, bounded queue that knows each ticket's position.

The standard library's semaphores (and gevent's) let a waiter that polls lose its place, so the queue is explicit
here: tickets are served strictly in the order in which they entered, and a ticket that leaves frees its place
exactly once, whether it ran or only waited.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Full(Exception):
    """The queue is full."""


class Ticket:
    """A place in the queue. Made by `FairSemaphore.ticket`."""

    def __init__(self, semaphore: FairSemaphore, on_turn: Callable[[], None]) -> None:
        self._semaphore = semaphore
        self.on_turn = on_turn

    def enter(self) -> None:
        """Join the queue; ``on_turn`` is called as soon as this ticket has its turn. Raises `Full`."""
        self._semaphore.enter(self)

    def leave(self) -> None:
        """Leave the queue; if this ticket had its turn, the next ticket gets it. Idempotent."""
        self._semaphore.leave(self)

    @property
    def position(self) -> int | None:
        """0: the ticket has its turn; n: it is the n-th waiting ticket; None: it is not in the queue."""
        return self._semaphore.position(self)


class FairSemaphore:
    """Admits ``places`` tickets at a time, first come, first served; at most ``max_waiting`` tickets wait behind them.

    ``on_turn`` runs without the lock, in the thread that called ``enter`` or another ticket's ``leave``. It must not
    block and must not call ``leave``.
    """

    def __init__(self, max_waiting: int = 64, places: int = 1) -> None:
        self.max_waiting = max_waiting
        self._places = places
        self._lock = threading.Lock()
        self._holders: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()

    def ticket(self, on_turn: Callable[[], None]) -> Ticket:
        return Ticket(self, on_turn)

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many tickets have their turn."""
        return len(self._holders)

    def enter(self, ticket: Ticket) -> None:
        with self._lock:
            if len(self._holders) >= self._places:
                if len(self._waiting) >= self.max_waiting:
                    raise Full
                self._waiting.append(ticket)
                return
            self._holders.add(ticket)
        ticket.on_turn()

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket not in self._holders:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                return
            self._holders.remove(ticket)
            following = self._waiting.popleft() if self._waiting else None
            if following is not None:
                self._holders.add(following)
        if following is not None:
            following.on_turn()

    def position(self, ticket: Ticket) -> int | None:
        with self._lock:
            if ticket in self._holders:
                return 0
            try:
                return self._waiting.index(ticket) + 1
            except ValueError:
                return None
