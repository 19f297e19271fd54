"""Busy loops run as long as the benchmark wants them, and no longer."""

from __future__ import annotations

import os
import select
import subprocess
import sys

from benchmarks.busy import busy_loops


def test_loops_end_with_their_context() -> None:
    with busy_loops(2) as loops:
        assert [loop.poll() for loop in loops] == [None, None]
    assert all(loop.poll() is not None for loop in loops)


def test_a_loop_ends_when_the_benchmark_is_killed() -> None:
    code = """
from benchmarks.busy import busy_loops
with busy_loops(1) as loops:
    print(loops[0].pid, flush=True)
    loops[0].wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        loop = os.pidfd_open(int(benchmark.stdout.readline()))
        try:
            benchmark.kill()
            assert select.select([loop], [], [], 60)[0]
        finally:
            os.close(loop)
