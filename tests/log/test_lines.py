"""Lines reach standard error in order, and nobody waits for its reader."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from glm_api.log import lines as log_lines
from glm_api.log.lines import MOST_BYTES, LineWriter, StderrHandler
from tests.support.processes import PATIENCE

LONG = "x" * 10_000


@dataclass
class Pipe:
    """Standard error, for the handler under test."""

    reader: int
    writer: int
    lines: LineWriter
    handler: StderrHandler

    def log(self, message: str) -> None:
        self.handler.handle(logging.LogRecord("x", logging.INFO, "x.py", 1, message, (), None))

    def read_all(self) -> list[str]:
        """What was written, to the end, which comes when all is written and the pipe closed."""
        received = bytearray()
        while not received.endswith(b"last\n"):
            received += os.read(self.reader, 65536)
        return received.decode().splitlines()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    reader, writer = os.pipe()
    lines = LineWriter(writer)
    monkeypatch.setattr(log_lines, "stderr", lines)
    yield Pipe(reader, writer, lines, StderrHandler())
    for fd in (reader, writer):
        os.close(fd)


def fill(pipe: Pipe) -> list[str]:
    """Log until lines are dropped; those that were taken."""
    taken: list[str] = []
    while not pipe.lines.dropped:
        taken.append(f"{len(taken)} {LONG}")
        pipe.log(taken[-1])
        assert len(taken) < 10 * MOST_BYTES / len(LONG)
    return taken[:-1]


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    expected = [f"{number} 你好" for number in range(1000)]
    for line in expected:
        pipe.log(line)
    pipe.log("last")
    assert pipe.read_all() == [*expected, "last"]
    assert pipe.lines.dropped == 0


def test_lines_that_nobody_reads_are_dropped_and_counted(pipe: Pipe) -> None:
    taken = fill(pipe)
    for _ in range(99):
        pipe.log(LONG)
    assert pipe.lines.dropped == 100
    received = [read_line(pipe.reader) for _ in taken]
    pipe.lines.flush(PATIENCE)
    pipe.log("last")
    assert received == taken
    assert pipe.read_all() == ["100 log lines were dropped: standard error was not read fast enough.", "last"]
    assert pipe.lines.dropped == 100


def test_the_number_of_dropped_lines_is_logged_at_the_end_of_the_process(pipe: Pipe) -> None:
    taken = fill(pipe)
    for _ in taken:
        read_line(pipe.reader)
    pipe.lines.flush(PATIENCE)
    pipe.handler.flush()
    assert read_line(pipe.reader) == "1 log line was dropped: standard error was not read fast enough."


def test_the_end_of_the_process_does_not_wait_for_ever(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "LAST_SECONDS", 0.01)
    taken = fill(pipe)
    pipe.handler.flush()
    # So that the thread ends its write before the pipe is closed.
    for _ in taken:
        read_line(pipe.reader)


def test_a_line_larger_than_the_queue_is_written_whole(pipe: Pipe) -> None:
    pipe.log("x" * (3 * MOST_BYTES))
    pipe.log("last")
    assert len(read_line(pipe.reader)) == 3 * MOST_BYTES


def test_a_non_blocking_pipe_loses_no_lines(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    expected = [f"{number} {LONG}" for number in range(50)]
    for line in expected:
        pipe.log(line)
    pipe.log("last")
    assert pipe.read_all() == [*expected, "last"]


def test_lines_that_cannot_be_written_are_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, writer = os.pipe()
    os.close(closed)
    broken = LineWriter(writer)
    monkeypatch.setattr(log_lines, "stderr", broken)
    pipe.log("one")
    pipe.log("two")
    broken.flush(PATIENCE)
    assert broken.dropped == 2
    os.close(writer)


def test_a_forked_process_writes_its_own_lines_once(pipe: Pipe) -> None:
    pipe.log("of the parent")
    pipe.lines.flush(PATIENCE)
    child = os.fork()
    if not child:
        pipe.lines.begin()
        pipe.log("of the child")
        pipe.lines.flush(PATIENCE)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    pipe.log("last")
    assert pipe.read_all() == ["of the parent", "of the child", "last"]


def read_line(fd: int) -> str:
    """One line, and nothing behind it."""
    line = bytearray()
    while not line.endswith(b"\n"):
        line += os.read(fd, 1)
    return line.decode().removesuffix("\n")
