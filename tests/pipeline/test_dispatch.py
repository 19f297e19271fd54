"""What the pipeline sends to its process and when, and whose turn it is whatever becomes of that process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from msgspec import structs

from glm_api.backend.admission import RequestStatus
from glm_api.backend.base import Cause, QueueDepth
from glm_api.backend.errors import ClientGone, EngineError, Interrupted, ModelLoading, PromptError, ShuttingDown
from glm_api.backend.semaphore import FairSemaphore
from glm_api.pipeline import pipeline as pipeline_module
from glm_api.pipeline.frames import (
    Cancel,
    Event,
    Failed,
    Finished,
    Frame,
    Generate,
    GenerationEvent,
    PipelineEvent,
    Progress,
    PromptLogprobs,
    Reasoning,
    Started,
    Text,
    ToolCallStarted,
)
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job, Sampling
from glm_api.pipeline.pipeline import Pipeline, PipelineSettings, SlotState
from tests.support.fake_pipeline import MODEL
from tests.support.processes import PATIENCE

from .conftest import collect

ANSWERED = Finished("stop", 1, 0.0, 0.0, 0, 3, step_threads=1, batch_threads=2)
CANCELLED = Finished("cancelled", 0, 0.0, 0.0, 0, 3)


class FakeProcess:
    """A child process that keeps what it is sent; ``during_send`` is called while that is on its way."""

    responsive = True
    pid = None
    role = "fake"

    def __init__(self, *_: Any) -> None:
        self.sent: list[Frame] = []
        self.killed: list[Cause] = []
        self.expected: float | None = None
        self.during_send: Callable[[Frame], None] = lambda frame: None

    def send(self, frame: Frame) -> bool:
        self.during_send(frame)
        self.sent.append(frame)
        return True

    def expect_within(self, seconds: float | None) -> None:
        self.expected = seconds

    def kill(self, cause: Cause) -> None:
        self.killed.append(cause)

    def stop(self) -> None:
        """Nothing: there is no process."""


class FakeTokenizer:
    ready = True

    def __init__(self, *_: Any, **__: Any) -> None:
        self.process = FakeProcess()

    def stop(self) -> None:
        """Nothing: there is no process."""


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def semaphore() -> FairSemaphore[Generation]:
    return FairSemaphore(Generation.take_turn)


@pytest.fixture
def pipeline(semaphore: FairSemaphore[Generation], process: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline whose process is ready."""
    monkeypatch.setattr(pipeline_module, "ChildProcess", lambda *_: process)
    monkeypatch.setattr(pipeline_module, "TokenizerClient", FakeTokenizer)
    made = Pipeline(semaphore)
    made.configure(PipelineSettings("model.bin", None, 1, "auto", 1, 64, PATIENCE, PATIENCE, {}))
    made.on_ready(MODEL)
    return made


def ask(pipeline: Pipeline, prompts: int = 1) -> Generation:
    return pipeline.generate(Job([[1, 2, 3]] * prompts, 8))


def generated(process: FakeProcess) -> list[int]:
    """The ids of the generations that the process was told to work on."""
    return [frame.id for frame in process.sent if isinstance(frame, Generate)]


def say(pipeline: Pipeline, *events: Event, of: Generation | None = None) -> None:
    """The process sends events of ``of``, or of the request that has run for longest."""
    for event in events:
        running = [of.id] if of is not None else [entry["id"] for entry in pipeline.snapshot()["running"]]
        pipeline.on_frame(GenerationEvent(running[0] if running else 0, cast("PipelineEvent", event)))


def test_one_after_the_other_is_sent(pipeline: Pipeline, process: FakeProcess) -> None:
    first, second = ask(pipeline), ask(pipeline)
    assert generated(process) == [first.id]
    say(pipeline, Started(3, 0), Text("a", [1]), ANSWERED)
    assert generated(process) == [first.id, second.id]
    assert collect(first) == [Started(3, 0), Text("a", [1]), ANSWERED]
    say(pipeline, ANSWERED)
    assert collect(second) == [ANSWERED]
    assert process.expected is None


def test_the_place_is_kept_until_the_last_prompt_is_answered(pipeline: Pipeline, process: FakeProcess) -> None:
    first, second = ask(pipeline, prompts=2), ask(pipeline)
    say(pipeline, ANSWERED)
    assert generated(process) == [first.id]
    say(pipeline, ANSWERED)
    assert generated(process) == [first.id, second.id]
    assert collect(first) == [ANSWERED, ANSWERED]


def test_the_place_is_kept_until_the_process_says_that_it_has_stopped(pipeline: Pipeline, process: FakeProcess) -> None:
    first, second = ask(pipeline, prompts=2), ask(pipeline)
    first.cancel()
    say(pipeline, Text("a", [1]))
    assert process.sent[1:] == [Cancel(first.id)]
    assert pipeline.queue_depth().running == 1
    say(pipeline, CANCELLED)
    assert generated(process) == [first.id, second.id]
    with pytest.raises(ClientGone):
        collect(first)


def test_a_failed_answer_makes_way(pipeline: Pipeline, process: FakeProcess) -> None:
    first, second = ask(pipeline), ask(pipeline)
    say(pipeline, Failed("engine", "It failed."))
    assert generated(process) == [first.id, second.id]
    with pytest.raises(EngineError, match=r"It failed\."):
        collect(first)


def test_a_refused_answer_names_the_parameter(pipeline: Pipeline, process: FakeProcess) -> None:
    generation = ask(pipeline)
    say(pipeline, Failed("prompt", "It is damaged.", "messages"))
    with pytest.raises(PromptError, match=r"It is damaged\.") as refused:
        collect(generation)
    assert refused.value.param == "messages"


def test_a_cancel_that_overtakes_the_work_is_sent_again(
    pipeline: Pipeline, semaphore: FairSemaphore[Generation], process: FakeProcess
) -> None:
    def close(frame: Frame) -> None:
        if isinstance(frame, Generate):
            # Here the work has begun, and has not arrived.
            [(_, generation)] = semaphore.positions()
            generation.close()

    process.during_send = close
    generation = ask(pipeline)
    assert [type(frame) for frame in process.sent] == [Cancel, Generate, Cancel]
    assert pipeline.queue_depth().running == 1
    say(pipeline, CANCELLED)
    assert pipeline.queue_depth().running == 0
    assert generation.status is RequestStatus.FINISHED


def test_work_goes_on_when_its_process_dies_while_it_is_sent(pipeline: Pipeline, process: FakeProcess) -> None:
    downs: list[threading.Thread] = []

    def die(_: Frame) -> None:
        process.during_send = lambda frame: None
        downs.append(threading.Thread(target=pipeline.on_down, args=("died", "It died.")))
        downs[0].start()
        # Its end is told only when nothing is on the way to it any more, or its successor might get that.
        downs[0].join(0.1)
        assert downs[0].is_alive()

    process.during_send = die
    first, second = ask(pipeline), ask(pipeline)
    downs[0].join()
    assert second.status is RequestStatus.WAITING
    pipeline.on_ready(MODEL)
    assert generated(process) == [first.id, first.id]
    say(pipeline, ANSWERED)
    assert collect(first) == [ANSWERED]
    assert generated(process) == [first.id, first.id, second.id]


def test_another_process_goes_on_where_one_has_died(pipeline: Pipeline, process: FakeProcess) -> None:
    request = pipeline.generate(Job([[1, 2], [3]], 10))
    begun = [Started(2, 0), Text("a", [5], fed=[5]), ANSWERED, Started(1, 0), Text("b", [7], fed=[6, 7])]
    say(pipeline, *begun, Text("c", [8], fed=[8, 9]))
    pipeline.on_down("died", "It died.")
    assert pipeline.queue_depth() == QueueDepth(1, 0)
    pipeline.on_ready(MODEL)
    work = process.sent[-1]
    assert isinstance(work, Generate)
    assert (work.answered, work.fed) == (1, [6, 7, 8, 9])
    # The consumer has been told that this answer has begun.
    say(pipeline, Started(1, 0), Text("d", [10], fed=[10]), ANSWERED)
    assert collect(request) == [*begun, Text("c", [8], fed=[8, 9]), Text("d", [10], fed=[10]), ANSWERED]


def test_another_process_goes_on_with_what_one_has_thought(pipeline: Pipeline, process: FakeProcess) -> None:
    request = ask(pipeline)
    thought: list[Event] = [Started(2, 0), Reasoning("a", [5], fed=[5]), Reasoning("b", [6], fed=[6])]
    say(pipeline, *thought)
    pipeline.on_down("died", "It died.")
    pipeline.on_ready(MODEL)
    work = process.sent[-1]
    assert isinstance(work, Generate)
    assert work.fed == [5, 6]
    say(pipeline, Started(2, 0), Text("c", [7], fed=[7]), ANSWERED)
    assert collect(request) == [*thought, Text("c", [7], fed=[7]), ANSWERED]


def test_a_request_is_given_up_when_a_second_process_dies_at_the_same_place(
    pipeline: Pipeline, process: FakeProcess
) -> None:
    request, waiting = ask(pipeline), ask(pipeline)
    for token in range(3):
        # As long as it gets further, it goes on.
        say(pipeline, Text("a", [token], fed=[token]))
        pipeline.on_down("died", "It died.")
        pipeline.on_ready(MODEL)
    pipeline.on_down("died", "It died.")
    with pytest.raises(EngineError):
        collect(request)
    pipeline.on_ready(MODEL)
    assert generated(process) == [request.id] * 4 + [waiting.id]


@pytest.mark.parametrize(
    ("sampling", "events"),
    [
        # How much of the next answer the consumer has is not known.
        (Sampling(), [Text("a", [5], fed=[5]), ToolCallStarted(0, "call", "f", [6])]),
        (Sampling(top_logprobs=0), [Text("a", [5], fed=[5, 6])]),
        (Sampling(top_logprobs=0, prompt_logprobs=True), [PromptLogprobs([])]),
    ],
)
def test_what_cannot_be_continued_fails(pipeline: Pipeline, sampling: Sampling, events: list[Event]) -> None:
    request = pipeline.generate(Job([[1, 2]], 10, sampling))
    say(pipeline, Started(2, 0), *events)
    pipeline.on_down("died", "It died.")
    with pytest.raises(EngineError):
        collect(request)


@pytest.mark.parametrize("when", ["between", "while it is sent"])
def test_a_request_that_is_closed_between_two_processes_makes_way(
    pipeline: Pipeline, process: FakeProcess, when: str
) -> None:
    first, second = ask(pipeline), ask(pipeline)
    pipeline.on_down("died", "It died.")

    def close(frame: Frame) -> None:
        process.during_send = lambda frame: None
        first.cancel()

    if when == "between":
        first.cancel()
        pipeline.on_ready(MODEL)
    else:
        process.during_send = close
        pipeline.on_ready(MODEL)
        assert process.sent[-1] == Cancel(first.id)
        say(pipeline, CANCELLED)
    with pytest.raises(ClientGone):
        collect(first)
    assert generated(process)[-1] == second.id


def test_a_cancelled_request_makes_way_when_its_process_dies(pipeline: Pipeline, process: FakeProcess) -> None:
    first, second = ask(pipeline), ask(pipeline)
    first.cancel()
    pipeline.on_down("died", "It died.")
    with pytest.raises(ClientGone):
        collect(first)
    pipeline.on_ready(MODEL)
    assert generated(process) == [first.id, second.id]


def test_a_request_that_is_closed_during_a_restart_is_not_sent(pipeline: Pipeline, process: FakeProcess) -> None:
    pipeline.on_down("died", "It died.")
    first, second = ask(pipeline), ask(pipeline)
    assert pipeline.queue_depth().running == 0
    first.close()
    assert process.sent == []
    pipeline.on_ready(MODEL)
    assert process.sent == [second.work]


def test_what_a_process_says_of_nothing_is_ignored(pipeline: Pipeline, process: FakeProcess) -> None:
    say(pipeline, Text("a", [1]), ANSWERED)
    generation = ask(pipeline)
    say(pipeline, ANSWERED)
    assert collect(generation) == [ANSWERED]


def test_a_model_that_cannot_be_loaded_any_more_fails_all_and_begins_nothing(
    pipeline: Pipeline, process: FakeProcess
) -> None:
    requests = [ask(pipeline) for _ in range(3)]
    pipeline.on_down("load_failed", "It is no model.")
    with pytest.raises(EngineError):
        collect(requests[0])
    for request in requests[1:]:
        with pytest.raises(ModelLoading):
            collect(request)
    pipeline.on_ready(MODEL)
    assert generated(process) == [requests[0].id]
    assert pipeline.snapshot()["waiting"] == []


def test_stopping_begins_nothing(pipeline: Pipeline, process: FakeProcess) -> None:
    running, waiting = ask(pipeline), ask(pipeline)
    pipeline.stop()
    pipeline.on_down("stopped", "It was stopped.")
    assert process.sent == [running.work, Cancel(running.id)]
    with pytest.raises(Interrupted):
        collect(running)
    with pytest.raises(ShuttingDown):
        collect(waiting)


# --- several at once ---


@pytest.fixture
def wide(pipeline: Pipeline) -> Pipeline:
    """A pipeline whose process works on two requests at a time."""
    pipeline.on_ready(replace(MODEL, parallel=2, slots=2))
    return pipeline


def test_as_many_run_as_the_process_works_on(wide: Pipeline, process: FakeProcess) -> None:
    first, second, third = ask(wide), ask(wide), ask(wide)
    assert generated(process) == [first.id, second.id]
    assert wide.queue_depth() == QueueDepth(2, 1)
    say(wide, Started(3, 0), Text("b", [1]), of=second)
    say(wide, Text("a", [1]), of=first)
    say(wide, ANSWERED, of=second)
    assert generated(process) == [first.id, second.id, third.id]
    assert collect(second) == [Started(3, 0), Text("b", [1]), ANSWERED]
    # The process still has work.
    assert process.expected is not None
    say(wide, ANSWERED, of=third)
    say(wide, ANSWERED, of=first)
    assert collect(first) == [Text("a", [1]), ANSWERED]
    assert process.expected is None


def test_one_of_several_is_cancelled(wide: Pipeline, process: FakeProcess) -> None:
    first, second, third = ask(wide), ask(wide), ask(wide)
    first.cancel()
    assert process.sent[-1] == Cancel(first.id)
    say(wide, CANCELLED, of=first)
    assert generated(process) == [first.id, second.id, third.id]
    say(wide, ANSWERED, of=second)
    assert collect(second) == [ANSWERED]


def test_all_go_on_in_the_next_process(wide: Pipeline, process: FakeProcess) -> None:
    first, second, third = ask(wide), ask(wide), ask(wide)
    say(wide, Started(3, 0), Text("a", [1], fed=[1]), of=first)
    second.cancel()
    wide.on_down("died", "It died.")
    assert wide.queue_depth().running == 1
    wide.on_ready(replace(MODEL, parallel=2, slots=2))
    assert generated(process) == [first.id, second.id, first.id, third.id]
    with pytest.raises(ClientGone):
        collect(second)


def test_requests_that_wait_run_when_the_process_takes_more(pipeline: Pipeline, process: FakeProcess) -> None:
    first, second = ask(pipeline), ask(pipeline)
    pipeline.on_down("died", "It died.")
    pipeline.on_ready(replace(MODEL, parallel=2, slots=2))
    assert generated(process) == [first.id, first.id, second.id]


def test_a_process_that_takes_fewer_gets_no_more_until_it_has(wide: Pipeline, process: FakeProcess) -> None:
    first, second, third = ask(wide), ask(wide), ask(wide)
    wide.on_down("died", "It died.")
    wide.on_ready(MODEL)
    say(wide, ANSWERED, of=first)
    assert third.id not in generated(process)
    say(wide, ANSWERED, of=second)
    assert generated(process)[-1] == third.id


# --- /queue and /slots ---


def test_the_queue_shows_who_runs_and_who_waits(pipeline: Pipeline) -> None:
    running, *waiting = (ask(pipeline) for _ in range(3))
    say(pipeline, Started(3, 0), Progress(2, 3, 0, 1.0))
    snapshot = pipeline.snapshot()
    assert [(entry["id"], entry["processed_tokens"]) for entry in snapshot["running"]] == [(running.id, 2)]
    assert [(entry["id"], entry["position"]) for entry in snapshot["waiting"]] == [
        (generation.id, position) for position, generation in enumerate(waiting, 1)
    ]
    estimates = [entry["estimated_wait_ms"] for entry in snapshot["waiting"]]
    assert estimates == [2000, 4000]
    assert all(entry["waiting_ms"] > 0 for entry in snapshot["waiting"])


def test_slots_show_what_they_hold_and_who_uses_them(wide: Pipeline) -> None:
    first, second = ask(wide), ask(wide)
    say(wide, Started(3, 0, 1), Text("a", [5], fed=[5]), of=first)
    # llama.cpp has not told which slot the second one has.
    say(wide, Started(3, 0), of=second)
    empty, used = (replace(slot, tokens=0) for slot in wide.slots())
    assert (empty.generation, used.generation) == (second, first)
    assert first.generated_tokens == 1
    say(wide, ANSWERED, of=first)
    say(wide, structs.replace(ANSWERED, slot=None), of=second)
    assert wide.slots() == [SlotState(0, 3, None), SlotState(1, 0, None)]


def test_the_numbers_of_threads_are_those_of_the_last_answer(pipeline: Pipeline) -> None:
    ask(pipeline)
    most = pipeline.threads["most"]
    assert pipeline.threads == {"most": most, "step": most, "batch": most}
    say(pipeline, Started(3, 0), ANSWERED)
    assert pipeline.threads == pipeline.snapshot()["threads"] == {"most": most, "step": 1, "batch": 2}
