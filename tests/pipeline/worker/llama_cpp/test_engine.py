"""The engine answers several requests at a time, and listens meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    TO_PIPELINE,
    Alive,
    Cancel,
    Event,
    Failed,
    Frame,
    FrameBuffer,
    Generate,
    GenerationEvent,
    Text,
    pack,
)
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.llama_cpp import engine
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.engine import Engine
from tests.support.processes import PATIENCE


class Answer:
    """Runs ``work`` until it is cancelled, if that waits for it."""

    def __init__(self, work: Callable[[EventWriter, threading.Event], None], writer: EventWriter) -> None:
        self._work = work
        self._writer = writer
        self.cancelled = threading.Event()

    def run(self) -> None:
        self._work(self._writer, self.cancelled)

    def cancel(self) -> None:
        self.cancelled.set()


class Web:
    """The other end of the engine's socket. ``works`` are what the answers do, by the id of their request."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self.socket = ours
        self.works: dict[int, Callable[[EventWriter, threading.Event], None]] = {}
        self.ended: BaseException | None = None
        self._buffer = FrameBuffer(FROM_PIPELINE)
        self._events: list[tuple[int, Event]] = []
        self._connection = Connection(theirs.detach(), TO_PIPELINE)
        self._engine = Engine(self._connection, lambda request, writer: Answer(self.works[request.id], writer))
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self._engine.serve()
        except ParentGone as gone:
            self.ended = gone

    def send(self, frame: Frame) -> None:
        self.socket.sendall(pack(frame))

    def generate(self, id: int, work: Callable[[EventWriter, threading.Event], None]) -> None:
        self.works[id] = work
        self.send(Generate(id, [[3]], [1], [1], Sampling(), (), OutputSpec(), None, False))

    def receive(self) -> tuple[int, Event]:
        while not self._events:
            for frame in self._buffer.feed(self.socket.recv(65536)):
                assert isinstance(frame, GenerationEvent)
                self._events.append((frame.id, frame.event))
        return self._events.pop(0)

    def close(self) -> None:
        self.socket.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def end(self) -> None:
        if self.socket.fileno() >= 0:
            self.close()
        self._connection._socket.close()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(engine, "ALIVE_SECONDS", 0.01)
    web = Web()
    yield web
    web.end()
    assert isinstance(web.ended, ParentGone)


def say(text: str) -> Callable[[EventWriter, threading.Event], None]:
    return lambda writer, _: writer.send(Text(text, []))


def fail(error: Exception) -> Callable[[EventWriter, threading.Event], None]:
    def work(writer: EventWriter, cancelled: threading.Event) -> None:
        raise error

    return work


def test_requests_run_at_the_same_time_and_one_is_cancelled(web: Web) -> None:
    def wait(writer: EventWriter, cancelled: threading.Event) -> None:
        assert cancelled.wait(PATIENCE)
        writer.send(Text("cancelled", []))

    web.generate(1, wait)
    web.generate(2, say("answered"))
    assert web.receive() == (2, Text("answered", []))
    web.send(Cancel(3))
    web.send(Cancel(1))
    assert web.receive() == (1, Text("cancelled", []))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PromptError("It is wrong.", "messages"), Failed("prompt", "It is wrong.", "messages")),
        (LlamaError(500, "", ""), Failed("engine", engine._FAILED)),
        (ZeroDivisionError(), Failed("engine", engine._FAILED)),
    ],
)
def test_a_failure_costs_its_request_only(web: Web, error: Exception, told: Failed) -> None:
    web.generate(1, fail(error))
    assert web.receive() == (1, told)
    web.generate(2, say("answered"))
    assert web.receive() == (2, Text("answered", []))


def test_the_web_process_hears_that_the_process_computes(web: Web) -> None:
    def compute(writer: EventWriter, cancelled: threading.Event) -> None:
        until = time.monotonic() + PATIENCE
        while not cancelled.is_set() and time.monotonic() < until:
            sum(range(1000))

    web.generate(1, compute)
    assert web.receive() == (1, Alive())
    web.send(Cancel(1))


def test_an_answer_ends_quietly_when_the_web_process_is_gone(web: Web) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work(writer: EventWriter, cancelled: threading.Event) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        try:
            writer.send(Text("nobody hears", []))
        finally:
            ended.set()

    web.generate(1, work)
    assert begun.wait(PATIENCE)
    web.close()
    go_on.set()
    assert ended.wait(PATIENCE)
