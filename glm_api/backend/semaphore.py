"""The semaphore in front of a backend: a fair, bounded queue that knows the position of each item.

The standard library's semaphores (and gevent's) let a waiter that polls lose its place, so the queue is explicit here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Full(Exception):
    """The queue is full."""


class FairSemaphore(Generic[T]):
    """Admits ``places`` items at a time, first come, first served; at most ``max_waiting`` items wait behind them.

    An item is hashable and enters once. ``on_turn`` is called with each item whose turn has come. It runs without the
    lock, in the thread that called `enter` or another item's `leave`. It must not block and must not call `leave`.
    """

    def __init__(self, on_turn: Callable[[T], None], max_waiting: int = 64, places: int = 1) -> None:
        self.max_waiting = max_waiting
        self.places = places
        self._on_turn = on_turn
        self._lock = threading.Lock()
        self._holders: dict[T, None] = {}
        self._waiting: deque[T] = deque()

    @property
    def held(self) -> int:
        """The number of items that have their turn."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """The number of items that wait for their turn."""
        return len(self._waiting)

    def enter(self, item: T) -> None:
        """Put ``item`` at the end of the queue; if a place is free, it has its turn at once. Raises `Full`."""
        with self._lock:
            if len(self._holders) >= self.places:
                if len(self._waiting) >= self.max_waiting:
                    raise Full
                self._waiting.append(item)
                return
            self._holders[item] = None
        self._on_turn(item)

    def leave(self, item: T) -> bool:
        """Take ``item`` out; if it had its turn, the next item gets it. Return whether it had. Idempotent."""
        with self._lock:
            if item not in self._holders:
                if item in self._waiting:
                    self._waiting.remove(item)
                return False
            del self._holders[item]
            following = self._waiting.popleft() if self._waiting and len(self._holders) < self.places else None
            if following is not None:
                self._holders[following] = None
        if following is not None:
            self._on_turn(following)
        return True

    def resize(self, places: int) -> None:
        """Admit ``places`` items at a time from now on. Items that have their turn keep it."""
        with self._lock:
            self.places = places
            following = [self._waiting.popleft() for _ in range(min(places - len(self._holders), len(self._waiting)))]
            self._holders.update(dict.fromkeys(following))
        for item in following:
            self._on_turn(item)

    def positions(self) -> list[tuple[int, T]]:
        """Return each item with its position, in order. 0: it has its turn; n: it is the n-th that waits."""
        with self._lock:
            return [*((0, item) for item in self._holders), *enumerate(self._waiting, 1)]

    def position(self, item: T) -> int | None:
        """Return the position of ``item``, see `positions`; None: it is not in the queue."""
        return next((position for position, other in self.positions() if other is item), None)
