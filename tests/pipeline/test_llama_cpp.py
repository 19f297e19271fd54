"""A pipeline on llama.cpp with real children: the same answers, several at a time."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config import DEMO_MODEL
from glm_api.backend.base import QueueDepth
from glm_api.backend.errors import ClientGone, EngineError, PromptError
from glm_api.pipeline.conversation import (
    ChoiceOutput,
    Conversation,
    JsonOutput,
    Message,
    RegexOutput,
    Tool,
    ToolChoice,
)
from glm_api.pipeline.frames import Event, Finished, Started, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job, Sampling
from glm_api.pipeline.pipeline import Pipeline
from glm_api.pipeline.worker.llama_cpp.repack import find_or_repack
from tests.support.gguf import models
from tests.support.model_files.scripted_tokenizer import ids_of
from tests.support.processes import PATIENCE, until

from .conftest import MakePipeline, await_state, collect, text_of

PARITY: list[dict[str, Any]] = json.loads((DEMO_MODEL.parent / "parity.json").read_text(encoding="utf-8"))
LOGPROBS: list[dict[str, Any]] = json.loads((DEMO_MODEL.parent / "logprobs.json").read_text(encoding="utf-8"))
GREEDY = Sampling(temperature=0.0)
WEATHER = Tool(
    "get_weather",
    "Get the weather in a city.",
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)
# So many ids that the answer goes on until it is ended.
ENDLESS = 1500


@pytest.fixture(scope="module")
def demo_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, repacked."""
    model = tmp_path_factory.mktemp("repacked") / DEMO_MODEL.name
    model.symlink_to(DEMO_MODEL)
    return find_or_repack(model)


@pytest.fixture
def start(make_pipeline: MakePipeline, demo_gguf: Path) -> Callable[..., Pipeline]:
    """``start(**settings)``: a pipeline with the demo model on llama.cpp, four requests at a time."""

    def make(**settings: Any) -> Pipeline:
        given = {"engine": "llama-cpp", "gguf": str(demo_gguf), "cache_slots": 4, "queue_size": 100, **settings}
        return make_pipeline(DEMO_MODEL, **given)

    return make


@pytest.fixture
def pipeline(start: Callable[..., Pipeline]) -> Pipeline:
    return start()


def ask(pipeline: Pipeline, prompt: list[int], limit: int, sampling: Sampling = GREEDY, **job: Any) -> Generation:
    return pipeline.generate(Job([prompt], limit, sampling, **job))


def endless(pipeline: Pipeline, row: int = 0, limit: int = ENDLESS) -> Generation:
    return ask(pipeline, PARITY[row]["prompt_ids"], limit, Sampling(temperature=0.0, ignore_eos=True))


def chat(pipeline: Pipeline, conversation: Conversation, sampling: Sampling = GREEDY, limit: int = 200) -> list[Event]:
    prompt = pipeline.encode_chat(conversation)
    return collect(pipeline.generate(Job([prompt.ids], limit, sampling, output=prompt.output)))


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


class Reading:
    """Collects the events of a generation in a thread; ``error`` is how it ended, None for well."""

    def __init__(self, generation: Generation) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self._generation = generation
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for events in self._generation.events():
                self.events += events
        except Exception as error:
            self.error = error

    def join(self) -> list[Event]:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.events


# --- answers ---


def test_every_row_of_the_demo_has_the_same_ids(pipeline: Pipeline) -> None:
    rows = [(row, Reading(ask(pipeline, row["prompt_ids"], len(row["greedy_ids"])))) for row in PARITY]
    for row, reading in rows:
        found = [id for event in reading.join() for id in getattr(event, "ids", [])]
        assert reading.error is None
        assert found == row["greedy_ids"][: len(found)]
        finished = reading.events[-1]
        assert isinstance(finished, Finished)
        assert finished.completion_tokens == len(row["greedy_ids"])


def test_the_beginning_of_a_prompt_is_taken_from_the_cache(pipeline: Pipeline) -> None:
    prompt = PARITY[0]["prompt_ids"]
    events = collect(ask(pipeline, prompt, 5))
    again = collect(ask(pipeline, [*prompt, *ids_of(events)], 5))
    assert events[0] == Started(len(prompt), 0, 0)
    assert isinstance(again[0], Started)
    assert again[0].cached_tokens >= len(prompt)


def test_the_same_seed_gives_the_same_answer(pipeline: Pipeline) -> None:
    def sampled(seed: int) -> list[int]:
        sampling = Sampling(temperature=2.0, top_p=1.0, seed=seed)
        return ids_of(collect(ask(pipeline, PARITY[0]["prompt_ids"], 40, sampling)))

    # The first answer fills the cache.
    sampled(0)
    answers = {seed: sampled(seed) for seed in range(5)}
    assert len({tuple(answer) for answer in answers.values()}) > 1
    assert answers == {seed: sampled(seed) for seed in range(5)}


def test_biases_and_limits_of_ids_are_kept(pipeline: Pipeline) -> None:
    prompt, usual = PARITY[0]["prompt_ids"], PARITY[0]["greedy_ids"]
    banned = collect(ask(pipeline, prompt, 20, Sampling(temperature=0.0, logit_bias={usual[3]: -100.0})))
    assert usual[3] not in ids_of(banned)
    wanted = collect(ask(pipeline, prompt, 8, Sampling(temperature=1.0, logit_bias={usual[3]: 100.0})))
    assert set(ids_of(wanted)) == {usual[3]}
    allowed = {usual[0], usual[3]}
    only = collect(ask(pipeline, prompt, 20, Sampling(temperature=2.0, allowed_token_ids=tuple(allowed))))
    assert set(ids_of(only)) <= allowed


def test_an_answer_does_not_end_before_its_fewest_tokens(pipeline: Pipeline) -> None:
    row = next(row for row in PARITY if len(row["greedy_ids"]) < 30)
    finished = collect(ask(pipeline, row["prompt_ids"], 100, Sampling(temperature=0.0, min_tokens=50)))[-1]
    assert isinstance(finished, Finished)
    assert finished.completion_tokens >= 50
    finished = collect(ask(pipeline, row["prompt_ids"], 100, Sampling(temperature=0.0, ignore_eos=True)))[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.completion_tokens) == ("length", 100)
    stop = row["greedy_ids"][5]
    finished = collect(ask(pipeline, row["prompt_ids"], 100, Sampling(temperature=0.0, stop_token_ids=(stop,))))[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == "stop"
    assert finished.completion_tokens == row["greedy_ids"].index(stop) + 1


def test_log_probabilities_are_told(pipeline: Pipeline) -> None:
    prompt, usual = PARITY[0]["prompt_ids"], PARITY[0]["greedy_ids"]
    events = collect(ask(pipeline, prompt, 10, Sampling(temperature=0.0, top_logprobs=3)))
    found = [entry for event in events if isinstance(event, Text) for entry in event.logprobs]
    assert [entry.id for entry in found] == usual[:10]
    for entry in found:
        assert entry.top[0][0] == entry.id
        assert len(entry.top) == 3
        assert 0 >= entry.logprob >= entry.top[1][2]


def test_log_probabilities_of_a_prompt_are_refused(pipeline: Pipeline) -> None:
    sampling = Sampling(temperature=0.0, top_logprobs=1, prompt_logprobs=True)
    with pytest.raises(PromptError) as refused:
        collect(ask(pipeline, [3, 4, 5], 1, sampling))
    assert refused.value.param == "logprobs"


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_structured_answers_are_held_to_their_grammar(pipeline: Pipeline, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=1.0, seed=3)
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    number = Conversation(user("Hello"), structured=JsonOutput(schema, "p"))
    found = json.loads(text_of(chat(pipeline, number, sampling)))
    assert isinstance(found["n"], int)
    pattern = Conversation(user("Hello"), structured=RegexOutput("[a-c]{3}-[0-9]{2}", "p"))
    assert len(text_of(chat(pipeline, pattern, sampling))) == 6
    choice = Conversation(user("Hello"), structured=ChoiceOutput(("yes", "no"), "p"))
    assert text_of(chat(pipeline, choice, sampling)) in ("yes", "no")


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("required", "get_weather")])
def test_a_demanded_call_is_made(pipeline: Pipeline, choice: ToolChoice) -> None:
    conversation = Conversation(user("What is the weather in Paris?"), (WEATHER,), choice)
    events = chat(pipeline, conversation)
    assert [event.name for event in events if isinstance(event, ToolCallStarted)][:1] == ["get_weather"]
    pieces = [event.text for event in events if isinstance(event, ToolArguments) and event.index == 0]
    assert list(json.loads("".join(pieces))) == ["city"]


def test_a_grammar_that_llama_cpp_drops_is_noticed(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    # With this llama.cpp takes the piece of a space for a special token, and drops the grammar in mid-answer.
    model = models.write_model(tmp_path / "prefixed.gguf", models.CHATGLM3, add_space_prefix=True)
    pipeline = make_pipeline(model, engine="llama-cpp", gguf=str(model))
    conversation = Conversation(user("Hello"), structured=RegexOutput("[a-c]( [a-c]){40}", "p"))
    with pytest.raises(EngineError):
        chat(pipeline, conversation)


# --- several at a time ---


def test_as_many_run_as_there_are_slots(pipeline: Pipeline) -> None:
    running = [Reading(endless(pipeline, row)) for row in range(4)]
    waiting = [endless(pipeline, row, limit=5) for row in range(2)]
    until(lambda: all(len(reading.events) > 2 for reading in running))
    assert pipeline.queue_depth() == QueueDepth(4, 2)
    assert [entry["position"] for entry in pipeline.snapshot()["waiting"]] == [1, 2]
    assert len(pipeline.snapshot()["running"]) == 4
    for generation in waiting:
        collect(generation)
    for reading in running:
        assert isinstance(reading.join()[-1], Finished)
    assert all(slot.tokens > 0 and slot.generation is None for slot in pipeline.slots())


def test_one_of_four_is_cancelled(pipeline: Pipeline) -> None:
    generations = [endless(pipeline, row) for row in range(4)]
    readings = [Reading(generation) for generation in generations]
    waiting = Reading(endless(pipeline, 4, limit=5))
    until(lambda: all(reading.events for reading in readings))
    generations[1].cancel()
    assert isinstance(waiting.join()[-1], Finished)
    readings[1].join()
    assert isinstance(readings[1].error, ClientGone)
    for number in (0, 2, 3):
        finished = readings[number].join()[-1]
        assert isinstance(finished, Finished)
        assert finished.completion_tokens == ENDLESS


def test_a_cancelled_prompt_makes_way(start: Callable[..., Pipeline]) -> None:
    pipeline = start(cache_slots=1)
    generation = endless(pipeline)
    first = Reading(generation)
    until(lambda: bool(first.events))
    second = endless(pipeline, 1, limit=5)
    generation.cancel()
    assert isinstance(collect(second)[-1], Finished)
    first.join()
    assert isinstance(first.error, ClientGone)


def test_all_go_on_when_the_process_is_killed(pipeline: Pipeline) -> None:
    undisturbed = [ids_of(collect(endless(pipeline, row, limit=300))) for row in range(8)]
    readings = [Reading(endless(pipeline, row, limit=300)) for row in range(8)]
    until(lambda: all(len(reading.events) > 1 for reading in readings[:4]))
    pid = pipeline.pids["pipeline"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for reading, expected in zip(readings, undisturbed, strict=True):
        events = reading.join()
        assert reading.error is None
        assert ids_of(events) == expected
    assert sum(pipeline.restarts.values()) == 1


def test_a_structured_answer_that_has_begun_fails_with_its_process(pipeline: Pipeline) -> None:
    conversation = Conversation(user("Hello"), structured=RegexOutput("[a-z ]{1000,1500}", "p"))
    prompt = pipeline.encode_chat(conversation)
    reading = Reading(pipeline.generate(Job([prompt.ids], 1900, GREEDY, output=prompt.output)))
    waiting = Reading(endless(pipeline, limit=5))
    until(lambda: len(reading.events) > 1)
    pid = pipeline.pids["pipeline"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    reading.join()
    assert isinstance(reading.error, EngineError)
    waiting.join()
    assert waiting.error is None


# --- files ---


def test_a_file_that_cannot_be_loaded_is_told_in_one_line(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    whole = models.write_model(tmp_path / "whole.gguf", models.GLM_4_5)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-1000])
    pipeline = make_pipeline(cut, engine="llama-cpp", gguf=str(cut), ready=False)
    await_state(pipeline, "failed")
    message = pipeline.health().message
    assert message.startswith("cut.gguf ")
    assert "\n" not in message
    assert str(tmp_path) not in message


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_nobody_else_may_open_the_socket_and_it_goes_with_the_process(
    folders: Path, start: Callable[..., Pipeline]
) -> None:
    pipeline = start()
    [socket] = folders.glob("glm-api-*/**/llama.sock")
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (socket.parent, socket.parent.parent))
    pipeline.stop()
    pipeline.join()
    assert list(folders.glob("glm-api-*")) == []


def test_a_repacked_gguf_file_keeps_its_grammars(make_pipeline: MakePipeline, tmp_path: Path) -> None:
    # The same model as in the test of a dropped grammar.
    model = models.write_model(tmp_path / "prefixed.gguf", models.CHATGLM3, add_space_prefix=True)
    repacked = find_or_repack(model)
    assert repacked != model
    pipeline = make_pipeline(model, engine="llama-cpp", gguf=str(repacked))
    conversation = Conversation(user("Hello"), structured=RegexOutput("[a-c]( [a-c]){40}", "p"))
    assert len(text_of(chat(pipeline, conversation))) == 81
