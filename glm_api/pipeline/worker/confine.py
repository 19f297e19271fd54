"""Set up a child process: it dies with its parent, ignores terminal signals, and is the OOM killer's first choice."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
OOM_SCORE_ADJ = 500


def confine(parent: int) -> None:
    """Set this process up as a child of ``parent``; exit at once if that is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent died before the line above took effect, so no signal will come.
        raise SystemExit(0)
    # Ctrl-C goes to the whole process group; the web process decides what it means for a running answer.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # The core dump of a process that maps a model would be as large as the model.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ))
