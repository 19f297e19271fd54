"""Stall detection: tell a process that computes or reads its file from an idle one, by the kernel's counters.

A child that evaluates a prompt in one call sends nothing until it is done, which may take minutes. But it uses the CPU
meanwhile. So a child that was stopped, or that waits for ever, is found within seconds, however long its prompt is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# States of proc(5) in which a process makes progress by itself: on a CPU or waiting for one, and waiting for a disk.
_PROGRESSING = frozenset("RD")
_STOPPED = "T"


@dataclass(frozen=True, slots=True)
class _Sample:
    """The state of the main thread, and a count that grows while any thread computes, faults in pages or sends."""

    state: str
    activity: int


class StallDetector:
    """Watches the process ``pid``. None stands for no process, which never stalls."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self._last: _Sample | None = None
        self._looks = 0

    def look(self, *, busy: bool, received: int) -> int:
        """Return how many looks in a row, this one included, found the process doing nothing.

        A process that is not ``busy`` may do nothing; it counts as stalled only when a signal has stopped it.
        ``received`` counts what came from it so far: many short answers take less CPU than the kernel counts.
        """
        sample = _sample(self.pid, received)
        last, self._last = self._last, sample
        if sample is None or last is None:
            self._looks = 0
        elif sample.state == _STOPPED or (busy and _idle(last, sample)):
            self._looks += 1
        else:
            self._looks = 0
        return self._looks


def _idle(last: _Sample, now: _Sample) -> bool:
    return now.state not in _PROGRESSING and now.activity == last.activity


def _sample(pid: int | None, received: int) -> _Sample | None:
    if pid is None:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field, the name, may hold spaces and parentheses; the fields are counted from behind it.
    fields = stat.rpartition(")")[2].split()
    minor_faults, major_faults, user_ticks, system_ticks = (int(fields[index]) for index in (7, 9, 11, 12))
    return _Sample(fields[0], minor_faults + major_faults + user_ticks + system_ticks + received)
