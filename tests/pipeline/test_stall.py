"""An idle process is told from one that computes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from glm_api.pipeline.stall import StallDetector
from tests.support.processes import until

COMPUTE = "print(flush=True)\nwhile True: pass"
WAIT = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs the parameter's code and has said that it does."""
    with subprocess.Popen(
        [sys.executable, "-c", request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


@pytest.mark.parametrize("process", [COMPUTE], indirect=True)
def test_a_process_that_computes_is_not_stalled(process: subprocess.Popen[bytes]) -> None:
    detector = StallDetector(process.pid)
    assert [detector.look(busy=True, received=0) for _ in range(100)] == [0] * 100


@pytest.mark.parametrize("process", [WAIT], indirect=True)
def test_a_process_that_waits_is_stalled_only_when_it_is_busy(process: subprocess.Popen[bytes]) -> None:
    detector = StallDetector(process.pid)
    until(lambda: detector.look(busy=True, received=0) > 3)
    assert detector.look(busy=False, received=0) == 0
    assert detector.look(busy=True, received=0) == 1


@pytest.mark.parametrize("process", [WAIT], indirect=True)
def test_a_process_that_sends_something_between_looks_is_not_stalled(process: subprocess.Popen[bytes]) -> None:
    detector = StallDetector(process.pid)
    assert [detector.look(busy=True, received=count) for count in range(100)] == [0] * 100


@pytest.mark.parametrize("process", [COMPUTE, WAIT], indirect=True)
def test_a_stopped_process_is_stalled_busy_or_not(process: subprocess.Popen[bytes]) -> None:
    detector = StallDetector(process.pid)
    process.send_signal(signal.SIGSTOP)
    until(lambda: detector.look(busy=False, received=0) > 3)
    process.send_signal(signal.SIGCONT)
    until(lambda: detector.look(busy=False, received=0) == 0)


def test_no_process_is_never_stalled() -> None:
    for pid in (None, 2**22 + 1):
        detector = StallDetector(pid)
        assert [detector.look(busy=True, received=0) for _ in range(3)] == [0, 0, 0]
