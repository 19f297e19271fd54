"""The engine listens while the model computes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    TO_PIPELINE,
    Alive,
    Cancel,
    Finished,
    Frame,
    FrameBuffer,
    FrameError,
    Generate,
    GenerationEvent,
    PipelineEvent,
    Progress,
    Started,
    Text,
    pack,
)
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.chatglm_cpp import bridge, engine
from glm_api.pipeline.worker.chatglm_cpp.engine import Engine
from glm_api.pipeline.worker.connection import Connection, ParentGone
from tests.support.model_files.fixtures import OpenModel
from tests.support.processes import PATIENCE

from .test_answering import Bench

GREEDY = Sampling(temperature=0.0)
LONG = [3 + index % 200 for index in range(1500)]


class WebProcess:
    """The other end of an engine's socket; the engine runs in a thread. ``ended`` is what its `serve` raised."""

    def __init__(self, model: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self.socket = ours
        self._buffer = FrameBuffer(FROM_PIPELINE)
        self._frames: list[PipelineEvent] = []
        self.ended: BaseException | None = None
        bench = Bench(model, "batch")
        connection = Connection(theirs.detach(), TO_PIPELINE)
        monkeypatch.setattr(bench.answerer, "_connection", connection)
        self._connection = connection
        self._engine = Engine(connection, bench.answerer)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._engine.serve()
        except (ParentGone, FrameError) as error:
            self.ended = error
        bridge.abort(False)

    def send(self, frame: Frame) -> None:
        self.socket.sendall(pack(frame))

    def receive(self) -> PipelineEvent:
        while not self._frames:
            for frame in self._buffer.feed(self.socket.recv(65536)):
                assert isinstance(frame, GenerationEvent)
                self._frames.append(frame.event)
        return self._frames.pop(0)

    def until_finished(self) -> list[PipelineEvent]:
        events = [self.receive()]
        while not isinstance(events[-1], Finished):
            events.append(self.receive())
        return events

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._connection._socket.close()


def generate(number: int, prompt: list[int], limit: int = 1) -> Generate:
    return Generate(number, [prompt], [len(prompt)], [limit], GREEDY, (), OutputSpec(mode="text"), None, False)


@pytest.fixture
def web(open_demo: OpenModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebProcess]:
    monkeypatch.setattr(engine, "ALIVE_SECONDS", 0.001)
    web = WebProcess(open_demo, monkeypatch)
    yield web
    if web.socket.fileno() >= 0:
        web.close()


def test_progress_is_told_during_a_call_that_evaluates_many_tokens(web: WebProcess) -> None:
    # The first call measures how many nodes one has.
    for number, prompt in enumerate([LONG, LONG[::-1]]):
        web.send(generate(number, prompt))
        events = web.until_finished()
    reports = [event.processed for event in events if isinstance(event, Progress)]
    assert any(0 < processed < len(LONG) for processed in reports)
    assert reports == sorted(reports)


def test_the_web_process_hears_that_an_answer_goes_on(web: WebProcess) -> None:
    web.send(generate(1, LONG[:10], limit=400))
    assert any(isinstance(event, Alive) for event in web.until_finished())


def computed(web: WebProcess, act: Callable[[], None]) -> int:
    """How many nodes were computed after ``act``, which runs when a long call has begun."""
    web.send(generate(1, LONG))
    assert isinstance(web.receive(), Started)
    begun = bridge.nodes()
    while bridge.nodes() - begun < 5:
        pass
    before = bridge.nodes()
    act()
    return bridge.nodes() - before


def test_a_call_that_evaluates_many_tokens_ends_when_it_is_cancelled(web: WebProcess) -> None:
    web.send(generate(0, LONG[::-1]))
    began = bridge.nodes()
    web.until_finished()
    whole = bridge.nodes() - began
    last: list[PipelineEvent] = []

    def cancel() -> None:
        web.send(Cancel(1))
        last.extend(web.until_finished()[-1:])

    assert computed(web, cancel) < whole / 2
    assert isinstance(last[0], Finished)
    assert (last[0].reason, last[0].slot_tokens) == ("cancelled", 0)
    # The next one is not cancelled.
    web.send(generate(2, LONG[:20], limit=5))
    assert any(isinstance(event, Text) and event.ids for event in web.until_finished())


def test_a_cancel_that_comes_too_late_concerns_nothing(web: WebProcess) -> None:
    web.send(generate(1, LONG[:20]))
    web.until_finished()
    web.send(Cancel(1))
    web.send(generate(2, LONG[:20], limit=5))
    web.send(Cancel(1))
    last = web.until_finished()[-1]
    assert isinstance(last, Finished)
    assert last.reason != "cancelled"


def test_the_engine_ends_in_the_middle_of_a_call_when_the_web_process_is_gone(web: WebProcess) -> None:
    computed(web, web.close)
    assert isinstance(web.ended, ParentGone)


def test_a_frame_that_does_not_fit_ends_the_engine_and_not_only_the_request(web: WebProcess) -> None:
    computed(web, lambda: web.socket.sendall(pack(Alive())))
    web._thread.join(PATIENCE)
    assert isinstance(web.ended, FrameError)
