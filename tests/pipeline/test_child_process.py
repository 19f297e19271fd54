"""A child that sends a frame that does not fit is replaced; only the request that it had fails."""

from __future__ import annotations

import logging
import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glm_api.backend.base import Cause
from glm_api.backend.errors import EngineError
from glm_api.pipeline import child_process
from glm_api.pipeline import pipeline as pipeline_module
from glm_api.pipeline.child_process import ChildProcess, LoadFailures
from glm_api.pipeline.cpus import child_environment
from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    HEADER,
    MAX_FRAME_BYTES,
    Cancel,
    Encoded,
    Finished,
    GenerationEvent,
    LoadModel,
    Ready,
    Started,
    Text,
    pack,
)
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import ModelInfo, OutputSpec
from tests.support.fake_pipeline import MODEL
from tests.support.processes import PATIENCE

from .conftest import MakePipeline, await_state, collect

MISFITS = {
    "nonsense": HEADER.pack(5) + b"\xc1\xff\x00\x91\x91",
    "a type of no frame": pack(GenerationEvent(1, Text("x", [])))[:-1] + b"\xa1x",
    "a frame of the other child": pack(Encoded(1, [], OutputSpec())),
    "a frame of the other direction": pack(Cancel(1)),
    "a frame that is too large": HEADER.pack(MAX_FRAME_BYTES + 1),
}
EACH_MISFIT = pytest.mark.parametrize("misfit", MISFITS.values(), ids=list(MISFITS))


@pytest.fixture(autouse=True)
def restart_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "FIRST_BACKOFF", 0.0)


def script_child(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Run the Python code ``body`` in place of the children; ``connection`` is the child's socket."""
    program = directory / "child"
    program.write_text(
        f"""#!{sys.executable}
import socket, sys
_, _, module, role, fd, parent = sys.argv
connection = socket.socket(fileno=int(fd))
connection.setblocking(True)
connection.recv(65536)  # LoadModel
{body}
while connection.recv(65536):
    pass
"""
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


class Recorder:
    """A `Listener` that puts what it is told into a queue."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[object, ...]] = queue.Queue()

    def on_ready(self, info: ModelInfo) -> None:
        self.told.put(("ready", info))

    def on_frame(self, frame: GenerationEvent) -> None:
        self.told.put(("frame", frame))

    def on_down(self, cause: Cause, message: str) -> None:
        self.told.put((cause, message))

    def next(self) -> tuple[object, ...]:
        return self.told.get(timeout=PATIENCE)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def child(recorder: Recorder) -> Iterator[ChildProcess[GenerationEvent]]:
    """A child process that is not started yet."""
    load_model = LoadModel("model", None, 1, "auto", 1)
    child: ChildProcess[GenerationEvent] = ChildProcess(
        "pipeline", FROM_PIPELINE, load_model, recorder, child_environment(), LoadFailures()
    )
    yield child
    child.stop()
    child.join(PATIENCE)


KILLED = "The pipeline process sent a frame that does not fit and was killed; a new one is started."


@EACH_MISFIT
def test_a_child_that_sends_a_frame_that_does_not_fit_is_replaced(
    misfit: bytes,
    child: ChildProcess[GenerationEvent],
    recorder: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = GenerationEvent(1, Started(1, 0))
    sent = pack(Ready(MODEL)) + pack(begun)
    script_child(tmp_path, monkeypatch, f"connection.sendall({sent!r}); connection.sendall({misfit!r})")
    with caplog.at_level(logging.WARNING):
        child.start()
        for _ in range(2):
            assert recorder.next() == ("ready", MODEL)
            assert recorder.next() == ("frame", begun)
            assert recorder.next() == ("died", KILLED)
        child.stop()
        child.join(PATIENCE)
    assert {record.getMessage() for record in caplog.records} == {KILLED}


def test_a_frame_that_does_not_fit_before_the_child_is_ready_is_a_failure_to_load(
    child: ChildProcess[GenerationEvent],
    recorder: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script_child(tmp_path, monkeypatch, f"connection.sendall({MISFITS['nonsense']!r})")
    child.start()
    for _ in range(3):
        assert recorder.next() == ("load_failed", KILLED)
    # The same failure to load is logged once.
    assert [record.getMessage() for record in caplog.records] == [KILLED]


def test_a_child_that_was_killed_as_hung_is_not_said_to_have_died(
    child: ChildProcess[GenerationEvent], recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_child(tmp_path, monkeypatch, f"connection.sendall({pack(Ready(MODEL))!r}); import time; time.sleep(600)")
    child.start()
    assert recorder.next() == ("ready", MODEL)
    # What it has not read makes its end an error of the connection.
    assert child.send(Cancel(1))
    child.kill("hung")
    hung = "The pipeline process stopped responding and was killed; a new one is started."
    assert recorder.next() == ("hung", hung)
    assert child.restarts == {"hung": 1}


def test_a_child_that_hangs_while_it_loads_is_said_to_be_killed_for_that(
    child: ChildProcess[GenerationEvent], recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LOAD_TIMEOUT", 0.0)
    monkeypatch.setattr(child_process, "WATCH_INTERVAL", 0.1)
    script_child(tmp_path, monkeypatch, "")
    child.start()
    told = "The pipeline process stopped responding while it opened model and was killed."
    assert recorder.next() == ("load_failed", told)


@EACH_MISFIT
def test_a_frame_that_does_not_fit_replaces_its_sender(
    misfit: bytes, make_pipeline: MakePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = (Started(2, 0), Text("x", [5]), Finished("stop", 1, 1.0, 1.0, 0, 3))
    answer = b"".join(pack(GenerationEvent(1, event)) for event in events)
    # The first pipeline process and the first two tokenizer processes are broken.
    script_child(
        tmp_path,
        monkeypatch,
        f"""
import pathlib
starts = pathlib.Path({str(tmp_path)!r}, role)
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
connection.sendall({pack(Ready(MODEL))!r})
connection.recv(65536)
broken = count < (1 if role == "pipeline" else 2)
connection.sendall({misfit!r} if broken or role == "tokenizer" else {answer!r})
""",
    )
    pipeline = make_pipeline(tmp_path / "model.bin")
    assert [type(event) for event in collect(pipeline.generate(Job([[1, 2]], 1)))] == [Started, Text, Finished]
    assert pipeline.restarts["pipeline", "died"] == 1
    if misfit != MISFITS["a frame of the other child"]:
        with pytest.raises(EngineError, match="failed twice"):
            pipeline.tokenize("hello", special=False)
        await_state(pipeline, "ready")


def test_a_child_that_computes_and_says_nothing_is_replaced(
    make_pipeline: MakePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "HUNG_AFTER", 0.0)
    script_child(
        tmp_path,
        monkeypatch,
        f"""
connection.sendall({pack(Ready(MODEL))!r})
while role == "pipeline" and connection.recv(65536):
    while True:
        pass
""",
    )
    pipeline = make_pipeline(tmp_path / "model.bin")
    with pytest.raises(EngineError):
        collect(pipeline.generate(Job([[1, 2]], 1)))
    await_state(pipeline, "ready")
    # The second one had the same request.
    assert pipeline.restarts["pipeline", "hung"] == 2
