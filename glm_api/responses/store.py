"""Stored responses: what a store keeps, within which limits, and the store in memory.

Each response is kept with its own input and output only. A conversation is a chain: each response names the one that it
continues. An owner is the digest of an API key, or empty bytes without keys; nobody sees what another owner has.
"""

from __future__ import annotations

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Seconds between two looks for responses that are too old, while there are any.
SWEEP_INTERVAL = 60.0
# What a response takes beside its JSON, in bytes, roughly: ids, owner, index.
OVERHEAD = 512


class StoreError(Exception):
    """The store cannot be read or written now. The reason is in the log."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many responses a store keeps, how many bytes they take, and for how many seconds they stay unused."""

    responses: int = 1000
    bytes: int = 64 * 2**20
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What a response adds to its conversation. ``items`` is JSON: its own input items, and its output items."""

    id: str
    previous: str | None
    items: bytes


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response. ``body`` is the JSON of the response object, without its output items."""

    owner: bytes
    turn: Turn
    body: bytes

    @property
    def size(self) -> int:
        """The bytes that count for the limit."""
        return len(self.turn.items) + len(self.body) + OVERHEAD


class ResponseStore(ABC):
    """Keeps responses within limits: what was unused for longest goes first.

    A response is used when it is put or renewed. All methods may be called from several threads. They raise
    `StoreError`.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    @abstractmethod
    def put(self, response: StoredResponse) -> None:
        """Keep a response with a new id."""

    @abstractmethod
    def turn(self, owner: bytes, id: str) -> Turn | None:
        """Return what the response adds to its conversation; None if the owner has no such response."""

    @abstractmethod
    def get(self, owner: bytes, id: str) -> StoredResponse | None:
        """Return the whole response; None if the owner has no such response."""

    @abstractmethod
    def renew(self, owner: bytes, ids: Iterable[str]) -> None:
        """Note that these responses are used now, in this order; ids that the owner does not have are ignored."""

    @abstractmethod
    def delete(self, owner: bytes, id: str) -> bool:
        """Erase the response, and return whether the owner had it."""

    @abstractmethod
    def sweep(self) -> bool:
        """Erase what is too old, and return whether anything is left."""

    def _schedule(self) -> None:
        """Have the store swept a while from now, again and again until it is empty or gone. The lock is held."""
        if self._sweeper is None:
            self._sweeper = threading.Timer(SWEEP_INTERVAL, _sweep, [weakref.ref(self)])
            self._sweeper.daemon = True
            self._sweeper.start()

    def _swept(self) -> None:
        try:
            left = self.sweep()
        except StoreError:
            left = True
        with self._lock:
            self._sweeper = None
            if left:
                self._schedule()


def _sweep(reference: weakref.ref[ResponseStore]) -> None:
    # The timer must not keep the store of an application that is gone.
    store = reference()
    if store is not None:
        store._swept()


@dataclass(slots=True)
class _Entry:
    response: StoredResponse
    used: float


class MemoryStore(ResponseStore):
    """A store that is lost with its process."""

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(limits or Limits(), clock)
        # In the order of use.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def put(self, response: StoredResponse) -> None:
        with self._lock:
            self._expire()
            self._entries[response.turn.id] = _Entry(response, self._clock())
            self._bytes += response.size
            while len(self._entries) > self.limits.responses or self._bytes > self.limits.bytes:
                self._remove(next(iter(self._entries)))
            self._schedule()

    def turn(self, owner: bytes, id: str) -> Turn | None:
        response = self.get(owner, id)
        return None if response is None else response.turn

    def get(self, owner: bytes, id: str) -> StoredResponse | None:
        with self._lock:
            self._expire()
            return self._find(owner, id)

    def renew(self, owner: bytes, ids: Iterable[str]) -> None:
        with self._lock:
            now = self._clock()
            for id in ids:
                if self._find(owner, id) is not None:
                    self._entries[id].used = now
                    self._entries.move_to_end(id)

    def delete(self, owner: bytes, id: str) -> bool:
        with self._lock:
            self._expire()
            found = self._find(owner, id) is not None
            if found:
                self._remove(id)
            return found

    def sweep(self) -> bool:
        with self._lock:
            self._expire()
            return bool(self._entries)

    def _find(self, owner: bytes, id: str) -> StoredResponse | None:
        entry = self._entries.get(id)
        return entry.response if entry is not None and entry.response.owner == owner else None

    def _expire(self) -> None:
        oldest = self._clock() - self.limits.seconds
        while self._entries and (first := next(iter(self._entries))) and self._entries[first].used <= oldest:
            self._remove(first)

    def _remove(self, id: str) -> None:
        self._bytes -= self._entries.pop(id).response.size
