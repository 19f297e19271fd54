"""Choose the slot of llama.cpp for a prompt. A slot is a KV cache, and works on one prompt at a time.

llama.cpp would choose by itself, but a short overlap, such as the same system prompt, is enough for it to overwrite
most of another chat's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from glm_api.pipeline.worker.prefix import common_prefix


@dataclass(slots=True)
class Slot:
    """One KV cache. ``cached_ids`` are the token ids whose keys and values are in it, in order."""

    index: int
    cached_ids: list[int] = field(default_factory=list)
    last_used: int = 0
    free: bool = True


class SlotPool:
    """The ``size`` slots of llama.cpp. Methods may be called from any thread."""

    def __init__(self, size: int) -> None:
        self._slots = [Slot(index) for index in range(size)]
        self._clock = count(1)
        self._lock = threading.Lock()

    def take(self, prompt: Sequence[int]) -> Slot | None:
        """Return the free slot for ``prompt``, which is not free from now on; None if no slot is free.

        It is the one with the longest common prefix. If no prefix is worth it, it is the least recently used one.
        """
        with self._lock:
            free = [slot for slot in self._slots if slot.free]
            if not free:
                return None
            shared, best = max(
                ((common_prefix(slot.cached_ids, prompt), slot) for slot in free), key=lambda entry: entry[0]
            )
            if 2 * shared < len(best.cached_ids):
                best = min(free, key=lambda slot: slot.last_used)
            best.free = False
            best.last_used = next(self._clock)
            return best

    def give_back(self, slot: Slot, cached_ids: list[int]) -> None:
        """Let others have ``slot``, whose cache holds ``cached_ids``."""
        with self._lock:
            slot.cached_ids = cached_ids
            slot.free = True
