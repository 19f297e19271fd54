"""Cache slots: several chatglm_cpp pipelines over one mapped file, each with its own KV cache.

chatglm_cpp evaluates a new token on top of ``n_past`` evaluated ones. So a cache can be continued token by token from
the last id that it has in common with a new prompt. What follows there is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from glm_api.pipeline.worker.prefix import common_prefix

P = TypeVar("P")


@dataclass(slots=True)
class Slot(Generic[P]):
    """One KV cache. ``cached_ids`` are the token ids whose keys and values are in it, in order.

    ``allocated`` is the number of its places for which the graph's memory is laid out. ``stepped``: each of the ids was
    evaluated by itself.
    """

    index: int
    pipeline: P
    cached_ids: list[int] = field(default_factory=list)
    last_used: int = 0
    allocated: int = 0
    stepped: bool = True


class SlotPool(Generic[P]):
    """At most ``size`` slots, which are opened as they are needed and used one at a time."""

    def __init__(self, size: int, open_pipeline: Callable[[], P], first: P) -> None:
        self._size = size
        self._open = open_pipeline
        self._clock = count(1)
        self._slots = [Slot(0, first)]

    def choose(self, prompt: Sequence[int]) -> tuple[Slot[P], int]:
        """Return the slot for ``prompt``, and how many of its first tokens need no evaluation.

        The slot is the one with the longest common prefix. If no prefix is worth it, it is an unused slot, else the
        least recently used one. At least one token is left to evaluate, because only that gives logits.
        """
        best, shared = max(
            ((slot, common_prefix(slot.cached_ids, prompt)) for slot in self._slots), key=lambda entry: entry[1]
        )
        # A short overlap (the ids that open every prompt, the same system prompt) is no reason to overwrite most of
        # another chat's cache.
        if 2 * shared < len(best.cached_ids):
            best = self._fresh() or min(self._slots, key=lambda slot: slot.last_used)
            shared = common_prefix(best.cached_ids, prompt)
        best.last_used = next(self._clock)
        return best, min(shared, len(prompt) - 1)

    def _fresh(self) -> Slot[P] | None:
        for slot in self._slots:
            if not slot.cached_ids:
                return slot
        if len(self._slots) < self._size:
            self._slots.append(Slot(len(self._slots), self._open()))
            return self._slots[-1]
        return None
