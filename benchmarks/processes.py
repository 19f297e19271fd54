"""CPU time and wake-ups of a process, from Linux's /proc: psutil's clock ticks (10 ms) are too coarse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has used since its start. ``wake_ups`` counts how often it went to sleep and was woken."""

    cpu_seconds: float
    wake_ups: int

    @classmethod
    def of(cls, pid: int) -> Use:
        cpu = 0
        wake_ups = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            cpu += int((task / "schedstat").read_text().split()[0])
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    wake_ups += int(line.split()[1])
        return cls(cpu / 1e9, wake_ups)

    def since(self, earlier: Use) -> Use:
        return Use(self.cpu_seconds - earlier.cpu_seconds, self.wake_ups - earlier.wake_ups)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of the process, in bytes."""
    return int(psutil.Process(pid).memory_info().rss)
