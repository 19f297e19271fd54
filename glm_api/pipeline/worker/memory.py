"""Compute how many cache slots, and how many tokens in one call, fit into this machine's memory."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from glm_api.pipeline.worker.model_file import ModelFile
from glm_api.pipeline.worker.service import LoadError

logger = logging.getLogger(__name__)

# Caches take memory in proportion to the context. So models that could read 131,072 tokens get a context of this many
# unless GLM_MAX_LENGTH asks for more.
DEFAULT_MAX_LENGTH = 8192
# Left for the graph buffers, the web process and everything else on the machine.
RESERVE_BYTES = 512 * 1024 * 1024
ASSUMED_BYTES = 4 * 1024 * 1024 * 1024
_CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class CachedFile(Protocol):
    """The part of a model file that tells how large a cache is."""

    @property
    def path(self) -> Path:
        """Where the file is."""

    def slot_bytes(self, max_length: int) -> int:
        """Return the bytes of a cache slot for ``max_length`` tokens."""


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """The number of slots, and the size of each."""

    slots: int
    slot_bytes: int


def context_length(name: str, most: int, wanted: int | None) -> int:
    """Return the length of the context in tokens for the model file ``name``, which takes ``most`` at most.

    ``wanted`` is GLM_MAX_LENGTH. Raises `LoadError` for more than the model takes.
    """
    if wanted is None:
        return min(most, DEFAULT_MAX_LENGTH)
    if wanted > most:
        raise LoadError(
            f"GLM_MAX_LENGTH is {wanted}, but {name} was made for at most {most} tokens. Lower it, or leave it out."
        )
    return wanted


def available_bytes() -> int | None:
    """Return the bytes of memory that are free, on the machine or in the cgroup if that has less; None if unknown."""
    found = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    for limit_file, usage_file in _CGROUP_LIMITS:
        limit, usage = _lines(limit_file), _lines(usage_file)
        if limit and usage and limit[0].isdigit() and usage[0].isdigit():
            found.append(int(limit[0]) - int(usage[0]))
    return min(found) if found else None


def plan_slots(model: CachedFile, max_length: int, wanted: int, available: int | None) -> SlotPlan:
    """Return as many slots as ``wanted``, or as fit (with a warning). Raises `LoadError` when not even one fits.

    The weights are not counted: they are mapped, not read into memory of our own.
    """
    slot_bytes = model.slot_bytes(max_length)
    fitting = wanted if available is None else min(wanted, (available - RESERVE_BYTES) // slot_bytes)
    if fitting < 1 and slot_bytes > (available or 0):
        raise LoadError(
            f"A context of {max_length} tokens needs {_mib(slot_bytes)} of memory for {model.path.name}, but only "
            f"{_mib(available or 0)} are available. Lower GLM_MAX_LENGTH."
        )
    slots = max(1, fitting)
    if slots < wanted:
        logger.warning(
            "Memory suffices for %d cache slots, not %d (%s each): lower GLM_MAX_LENGTH or GLM_CACHE_SLOTS.",
            slots,
            wanted,
            _mib(slot_bytes),
        )
    return SlotPlan(slots, slot_bytes)


def longest_batch(model: ModelFile) -> int:
    """Return the most tokens that may be evaluated in one call.

    The attention scores take 4 bytes for each pair of tokens and each head, twice. They may use a quarter of the free
    memory, or of 4 GiB if that is unknown.
    """
    budget = (available_bytes() or ASSUMED_BYTES) // 4
    return max(1, math.isqrt(budget // (2 * 4 * model.attention_heads)))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
