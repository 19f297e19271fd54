"""The pipeline with its real children: every family answers, and nothing that happens to a child is contagious."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glm_api.backend.errors import (
    ClientGone,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    Interrupted,
    ModelLoading,
    PromptError,
    QueueFull,
    ShuttingDown,
)
from glm_api.pipeline.conversation import Conversation, Message, Tool
from glm_api.pipeline.frames import Event, Finished, Progress, Started, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job, Sampling
from glm_api.pipeline.pipeline import Pipeline
from tests.support.processes import until

from .conftest import MakePipeline, await_state, collect, text_of

DEMO = Path(__file__).parents[2] / "demo" / "chatglm3-demo.q8_0.bin"
GREEDY = Sampling(temperature=0)
# New tokens: more than any context has room for.
UNBOUNDED = 1_000_000
FAMILIES = ["chatglm", "chatglm2", "chatglm3", "glm4"]


def says(text: str) -> Conversation:
    return Conversation((Message("user", text),))


def ask(pipeline: Pipeline, text: str, max_tokens: int = UNBOUNDED) -> Generation:
    return pipeline.generate(Job([pipeline.encode_chat(says(text)).ids], max_tokens, GREEDY))


def finished(events: list[Event]) -> Finished:
    (last,) = (event for event in events if isinstance(event, Finished))
    return last


def first_text(generation: Generation) -> Text:
    return next(event for events in generation.events() for event in events if isinstance(event, Text))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers(family: str, make_pipeline: MakePipeline, model_file: Callable[[str], Path]) -> None:
    pipeline = make_pipeline(model_file(family))
    prompt = pipeline.encode_chat(says("你好, hello"))
    events = collect(pipeline.generate(Job([prompt.ids], 24, GREEDY, output=prompt.output)))
    started = events[0]
    assert isinstance(started, Started)
    assert started.prompt_tokens == len(prompt.ids)
    last = finished(events)
    assert last.completion_tokens <= 24
    assert last.reason in ("stop", "length")
    assert (last.reason == "length") == (last.completion_tokens == 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_where_the_context_ends(
    family: str, make_pipeline: MakePipeline, model_file: Callable[[str], Path]
) -> None:
    pipeline = make_pipeline(model_file(family), max_length=64)
    prompt = pipeline.encode_text("x")
    last = finished(collect(pipeline.generate(Job([prompt], 100_000, Sampling()))))
    assert last.completion_tokens <= 64 - len(prompt)
    assert collect(pipeline.generate(Job([prompt], 2, Sampling())))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_answer_behind_a_short_prompt_stays_inside_its_memory(
    family: str, make_pipeline: MakePipeline, model_file: Callable[..., Path]
) -> None:
    pipeline = make_pipeline(model_file(family, max_length=1024), prefill="step")
    prompt = pipeline.encode_text("x")[:3]
    for _ in range(3):
        assert finished(collect(pipeline.generate(Job([prompt], UNBOUNDED, Sampling())))).completion_tokens > 0
    long = pipeline.encode_text("word " * 200)
    assert finished(collect(pipeline.generate(Job([long], UNBOUNDED, Sampling())))).completion_tokens > 0


def test_a_prompt_that_fills_the_context_is_refused(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, max_length=100)
    with pytest.raises(ContextLengthExceeded) as refused:
        ask(pipeline, "word " * 300)
    assert refused.value.context_length == 100
    assert "maximum context length is 100 tokens" in refused.value.message


def test_a_model_that_sees_answers_to_an_image(make_pipeline: MakePipeline, model_file: Callable[..., Path]) -> None:
    pipeline = make_pipeline(model_file("glm4v"))
    assert pipeline.model.supports_images
    answers = []
    for colour in ("black", "white"):
        file = io.BytesIO()
        Image.new("RGB", (40, 30), colour).save(file, "PNG")
        image = file.getvalue()
        prompt = pipeline.encode_chat(Conversation((Message("user", "What is this?", image=image),)))
        events = collect(pipeline.generate(Job([prompt.ids], 12, GREEDY, output=prompt.output, image=image)))
        assert finished(events).completion_tokens > 0
        answers.append([token for event in events if isinstance(event, Text) for token in event.ids])
    # It looks at the pixels, and nothing of an image stays in the cache.
    assert answers[0] != answers[1]
    assert {slot.tokens for slot in pipeline.slots()} == {0}


def test_a_model_with_virtual_tokens_answers_with_the_whole_context(
    make_pipeline: MakePipeline, model_file: Callable[..., Path]
) -> None:
    answers = []
    for virtual in (0, 8):
        pipeline = make_pipeline(model_file("chatglm2", virtual_tokens=virtual, extra_rows=7), max_length=64)
        events = collect(ask(pipeline, "hello"))
        assert finished(events).reason in ("stop", "length")
        answers.append([token for event in events if isinstance(event, Text) for token in event.ids])
        assert not pipeline.restarts
    assert answers[0] != answers[1]


@pytest.mark.parametrize("size", [16, 32])
def test_an_images_patches_count_as_tokens_of_the_prompt(
    size: int, make_pipeline: MakePipeline, model_file: Callable[..., Path]
) -> None:
    pipeline = make_pipeline(model_file("glm4v", image_size=size), max_length=64)
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    image = file.getvalue()
    patches = (size // 4 // 2) ** 2
    prompt = pipeline.encode_chat(Conversation((Message("user", "a", image=image),)))
    room = 64 - (len(prompt.ids) - 1 + patches)
    # An answer runs to the end of the context and not beyond; nothing that would is begun.
    for more in range(room + 4):
        job = Job([prompt.ids + [5] * more], 2, GREEDY, image=image)
        if more < room:
            events = collect(pipeline.generate(job))
            assert isinstance(events[0], Started)
            assert events[0].prompt_tokens == 64 - room + more
            assert finished(events).completion_tokens <= room - more
        else:
            with pytest.raises(ContextLengthExceeded, match=f"{patches - 1} of them for the image") as refused:
                pipeline.generate(job)
            assert refused.value.prompt_tokens == 64 - room + more
    generation = pipeline.generate(Job([prompt.ids], 1, GREEDY, image=image))
    assert generation.prompt_tokens == 64 - room
    collect(generation)
    assert not pipeline.restarts


def test_an_image_that_is_none_is_refused(make_pipeline: MakePipeline, model_file: Callable[..., Path]) -> None:
    pipeline = make_pipeline(model_file("glm4v"))
    prompt = pipeline.encode_chat(Conversation((Message("user", "What is this?", image=b"hello"),)))
    with pytest.raises(PromptError, match="neither a PNG nor a JPEG"):
        collect(pipeline.generate(Job([prompt.ids], 12, GREEDY, image=b"hello")))
    assert collect(ask(pipeline, "hello", max_tokens=2))


def test_several_prompts_are_answered_in_order_under_one_place(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    prompts = [pipeline.encode_chat(says(text)).ids for text in ("hello", "tell me a joke")]
    alone = [text_of(collect(pipeline.generate(Job([prompt], UNBOUNDED, GREEDY)))) for prompt in prompts]
    events = collect(pipeline.generate(Job(prompts, UNBOUNDED, GREEDY)))
    ends = [index for index, event in enumerate(events) if isinstance(event, Finished)]
    assert [text_of(events[: ends[0]]), text_of(events[ends[0] :])] == alone


def test_a_tool_is_called_with_the_declared_name(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    weather = Tool(
        "get_weather",
        "Get the weather of a city",
        '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
    )
    prompt = pipeline.encode_chat(Conversation((Message("user", "What is the weather in Paris?"),), (weather,)))
    events = collect(pipeline.generate(Job([prompt.ids], UNBOUNDED, GREEDY, output=prompt.output)))
    calls = [event for event in events if isinstance(event, ToolCallStarted)]
    arguments = "".join(event.text for event in events if isinstance(event, ToolArguments))
    assert [call.name for call in calls] == ["get_weather"]
    assert arguments == '{"city": "Paris"}'
    assert finished(events).reason == "tool_calls"


def test_usage_counts_the_ids_that_the_events_stand_for(make_pipeline: MakePipeline) -> None:
    events = collect(ask(make_pipeline(DEMO), "Tell me a short story"))
    carried = sum(len(event.ids) for event in events if isinstance(event, Text))
    # The id that ends the answer is counted and stands for no text.
    assert carried == finished(events).completion_tokens - 1


def test_what_the_tokenizer_is_asked_is_answered(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    ids = pipeline.tokenize("你好 world", special=False)
    assert pipeline.decode(ids) == "你好 world"
    assert pipeline.encode_text("你好 world")[-len(ids) :] == ids
    with pytest.raises(PromptError) as refused:
        pipeline.encode_chat(Conversation((Message("tool", "22", tool_call_id="nobody"),)))
    assert refused.value.param


# --- children that die ---


def kill(pipeline: Pipeline, child: str, number: int = signal.SIGKILL) -> int:
    pid = pipeline.pids[child]
    assert pid is not None
    os.kill(pid, number)
    return pid


def test_a_child_killed_while_idle_is_replaced(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    old = kill(pipeline, "pipeline")
    await_state(pipeline, "restarting")
    await_state(pipeline, "ready")
    assert pipeline.pids["pipeline"] != old
    assert collect(ask(pipeline, "hello"))


@pytest.mark.parametrize("when", ["prefill", "decode"])
def test_a_child_killed_at_work_costs_no_request(when: str, make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, prefill="step")
    question = "word " * 400 if when == "prefill" else "count from 1 to 60"
    expected = collect(ask(pipeline, question))
    running = ask(pipeline, question)
    queued = [ask(pipeline, text) for text in ("hello", "tell me a joke")]
    events = (event for together in running.events() for event in together)
    awaited = Started if when == "prefill" else Text
    next(event for event in events if isinstance(event, awaited))
    kill(pipeline, "pipeline")
    rest = list(events)
    assert finished(rest).completion_tokens == finished(expected).completion_tokens
    assert text_of(expected).endswith(text_of(rest))
    for generation in queued:
        assert finished(collect(generation)).reason == "stop"
    await_state(pipeline, "ready")


def test_a_request_that_comes_during_a_restart_waits_for_it(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    kill(pipeline, "pipeline")
    await_state(pipeline, "restarting")
    assert finished(collect(ask(pipeline, "hello"))).reason == "stop"


@pytest.mark.parametrize("prefill", ["step", "batch"])
def test_a_child_that_is_stopped_at_work_is_replaced_however_long_its_prompt_is(
    prefill: str, make_pipeline: MakePipeline, model_file: Callable[..., Path]
) -> None:
    pipeline = make_pipeline(model_file("chatglm3", max_length=16384), max_length=16384, prefill=prefill)
    running = pipeline.generate(Job([pipeline.encode_text("word " * 3000)], 1, GREEDY))
    queued = ask(pipeline, "hello", max_tokens=1)
    next(running.events())
    old = kill(pipeline, "pipeline", signal.SIGSTOP)
    await_state(pipeline, "restarting")
    assert pipeline.health().message == "The model process does not respond and is being replaced."
    assert finished(collect(running)).completion_tokens == 1
    assert finished(collect(queued)).completion_tokens == 1
    assert pipeline.pids["pipeline"] != old
    assert pipeline.restarts["pipeline", "hung"] == 1


def test_a_child_that_is_stopped_in_an_answer_is_replaced(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    running = ask(pipeline, "count from 1 to 60")
    first_text(running)
    kill(pipeline, "pipeline", signal.SIGSTOP)
    assert finished([event for events in running.events() for event in events]).reason == "stop"
    assert pipeline.restarts["pipeline", "hung"] == 1


def test_a_request_at_which_each_process_dies_is_given_up(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, prefill="step")
    running = ask(pipeline, "word " * 400)
    until(lambda: pipeline.snapshot()["running"])
    old = kill(pipeline, "pipeline")
    until(lambda: pipeline.restarts["pipeline", "died"] == 1)
    until(lambda: pipeline.health().state == "ready")
    assert kill(pipeline, "pipeline") != old
    with pytest.raises(EngineError):
        collect(running)
    await_state(pipeline, "ready")
    assert finished(collect(ask(pipeline, "hello"))).reason == "stop"


@pytest.mark.parametrize("child", ["pipeline", "tokenizer"])
def test_a_child_that_is_stopped_while_idle_is_replaced(child: str, make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    old = kill(pipeline, child, signal.SIGSTOP)
    await_state(pipeline, "restarting")
    await_state(pipeline, "ready")
    assert pipeline.pids[child] != old
    assert finished(collect(ask(pipeline, "hello"))).reason == "stop"


def test_a_tokenizer_that_dies_is_replaced_counted_and_logged(
    make_pipeline: MakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline = make_pipeline(DEMO)
    assert "The tokenizer is ready again." not in caplog.messages
    kill(pipeline, "tokenizer")
    await_state(pipeline, "restarting")
    await_state(pipeline, "ready")
    assert pipeline.restarts == {("tokenizer", "died"): 1}
    until(lambda: "The tokenizer is ready again." in caplog.messages)
    assert pipeline.decode(pipeline.tokenize("hello", special=False)) == "hello"


def test_children_do_not_outlive_a_parent_that_is_killed() -> None:
    script = f"""
import sys
from pathlib import Path
from glm_api.pipeline.cpus import child_environment
from glm_api.pipeline.pipeline import Pipeline, PipelineSettings
from glm_api.backend.semaphore import FairSemaphore
from glm_api.pipeline.generation import Generation
pipeline = Pipeline(FairSemaphore(Generation.take_turn))
pipeline.configure(PipelineSettings({str(DEMO)!r}, None, 1, "auto", 1, 1, 60, 60, child_environment()))
pipeline.start()
while pipeline.health().state != "ready":
    pass
print(*pipeline.pids.values(), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=DEMO.parents[1]
    ) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
        parent.wait()
    until(lambda: not any(Path(f"/proc/{child}/exe").exists() for child in children))


# --- files that cannot be served ---

AGAIN = "The server tries to load it again at least every 30 seconds."


def test_a_broken_file_is_said_in_one_line_and_a_mended_one_is_loaded(
    make_pipeline: MakePipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"GGUF" + bytes(100))
    pipeline = make_pipeline(path, ready=False)
    await_state(pipeline, "failed")
    assert "GGUF" in pipeline.health().message
    assert "\n" not in pipeline.health().message
    # Both processes find the fault at each try; it is logged once.
    until(lambda: len(pipeline.restarts) == 2)
    assert [record.getMessage() for record in caplog.records] == [pipeline.health().message]
    with pytest.raises(ModelLoading):
        pipeline.generate(Job([[1, 2]], 1))
    path.write_bytes(DEMO.read_bytes())
    await_state(pipeline, "ready")
    assert collect(ask(pipeline, "hello"))
    assert not any("Traceback" in record.getMessage() for record in caplog.records)


def test_a_context_longer_than_the_model_knows_is_refused(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, ready=False, max_length=100_000)
    await_state(pipeline, "failed")
    assert "GLM_MAX_LENGTH" in pipeline.health().message
    with pytest.raises(ModelLoading) as refused:
        pipeline.generate(Job([[1, 2]], 1))
    assert refused.value.message.endswith("Lower it, or leave it out. " + AGAIN)
    assert refused.value.retry_after == 30


# --- the queue ---


def test_one_more_than_the_queue_holds_is_told_when_to_come_back(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, queue_size=2)
    admitted = [ask(pipeline, "Tell me a short story") for _ in range(3)]
    with pytest.raises(QueueFull) as refused:
        ask(pipeline, "hello")
    assert refused.value.retry_after >= 1
    answers = {text_of(collect(generation)) for generation in admitted}
    assert len(answers) == 1


def test_a_cancelled_request_makes_way(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    running, waiting, last = (ask(pipeline, "count from 1 to 60") for _ in range(3))
    first_text(running)
    waiting.cancel()
    with pytest.raises(ClientGone):
        collect(waiting)
    running.cancel()
    with pytest.raises(ClientGone):
        list(running.events())
    assert finished(collect(last)).reason == "stop"
    until(lambda: pipeline.snapshot()["running"] == [])


def test_a_prefill_that_nobody_waits_for_stops_after_a_token(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, prefill="step")
    reading = ask(pipeline, "word " * 400)
    assert isinstance(next(reading.events())[0], Started)
    reading.cancel()
    collect(ask(pipeline, "hello"))
    # What was read until then is kept, and it is less than the prompt.
    held = max(slot.tokens for slot in pipeline.slots())
    assert held < reading.prompt_tokens


def test_a_prefill_in_one_call_that_nobody_waits_for_is_interrupted(
    make_pipeline: MakePipeline, model_file: Callable[..., Path]
) -> None:
    pipeline = make_pipeline(model_file("chatglm3", max_length=8192), max_length=8192, prefill="batch")
    child = pipeline.pids["pipeline"]
    reading = pipeline.generate(Job([pipeline.encode_text("word " * 2000)], 1, GREEDY))
    assert isinstance(next(reading.events())[0], Started)
    reading.cancel()
    assert finished(collect(ask(pipeline, "hello"))).completion_tokens
    # The call did not come to its end, or the slot would hold the prompt.
    assert max(slot.tokens for slot in pipeline.slots()) < reading.prompt_tokens
    assert pipeline.pids["pipeline"] == child
    assert not pipeline.restarts


SAMPLED = Sampling(temperature=1.0, top_p=1.0, seed=7)


def sampled(pipeline: Pipeline, text: str, sampling: Sampling = SAMPLED, count: int = 1) -> list[str]:
    """The answers to ``text``."""
    ids = pipeline.encode_chat(says(text)).ids
    events = collect(pipeline.generate(Job([ids] * count, 12, sampling)))
    ends = [index for index, event in enumerate(events) if isinstance(event, Finished)]
    return [text_of(events[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def test_the_same_seed_gives_the_same_answer(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    questions = [f"Tell me a story about {number} robots" for number in range(25)]
    first = [sampled(pipeline, question) for question in questions]
    assert len({answer for [answer] in first}) > 1
    # From the cache now.
    assert [sampled(pipeline, question) for question in questions] == first
    kill(pipeline, "pipeline")
    await_state(pipeline, "restarting")
    await_state(pipeline, "ready")
    assert [sampled(pipeline, question) for question in questions] == first
    one, two = sampled(pipeline, questions[0], count=2)
    assert [one] == first[0]
    assert one != two


def test_without_a_seed_answers_differ(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    # Nothing that the model was trained on, so many ids are likely.
    job = Job([[*range(400, 420)]] * 4, 12, Sampling(temperature=1.5, top_p=1.0))
    events = collect(pipeline.generate(job))
    ends = [index for index, event in enumerate(events) if isinstance(event, Finished)]
    assert len({text_of(events[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)}) > 1


def test_waiting_too_long_is_said(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, queue_timeout=1.0)
    kill(pipeline, "pipeline", signal.SIGSTOP)
    running = ask(pipeline, "count from 1 to 60")
    waiting = ask(pipeline, "hello")
    with pytest.raises(DeadlineExceeded, match="waited"):
        collect(waiting)
    kill(pipeline, "pipeline", signal.SIGCONT)
    assert finished(collect(running)).reason == "stop"


def test_an_answer_that_takes_too_long_is_ended(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO, request_timeout=1.0)
    kill(pipeline, "pipeline", signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded, match="longer than"):
        collect(ask(pipeline, "count from 1 to 60"))
    kill(pipeline, "pipeline", signal.SIGCONT)
    until(lambda: pipeline.snapshot()["running"] == [])


def test_progress_is_reported_to_who_asks(make_pipeline: MakePipeline, model_file: Callable[..., Path]) -> None:
    pipeline = make_pipeline(DEMO, prefill="batch")
    ids = pipeline.encode_chat(says("word " * 100)).ids
    quiet = collect(pipeline.generate(Job([ids], 1, GREEDY)))
    asked = collect(pipeline.generate(Job([ids[:-1] + ids[-1:]], 1, GREEDY, progress=True)))
    assert not any(isinstance(event, Progress) for event in quiet)
    reports = [event for event in asked if isinstance(event, Progress)]
    assert reports
    assert all(report.processed <= report.total == len(ids) for report in reports)


def test_an_answer_that_is_complete_before_anybody_reads_it(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    generation = ask(pipeline, "hello")
    until(lambda: pipeline.queue_depth().running == 0)
    assert text_of(events := collect(generation))
    assert finished(events).completion_tokens > 0


def test_shutting_down_ends_what_runs_and_refuses_what_comes(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline(DEMO)
    running, waiting = (ask(pipeline, "count from 1 to 60") for _ in range(2))
    pipeline.drain()
    with pytest.raises(ShuttingDown):
        pipeline.generate(Job([[1, 2]], 1))
    pipeline.stop()
    with pytest.raises(Interrupted):
        collect(running)
    with pytest.raises(ShuttingDown):
        collect(waiting)
    pipeline.join()
    assert not pipeline.restarts


def test_a_process_that_cannot_be_started_is_told_and_counted(
    make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        pipeline = make_pipeline(DEMO, ready=False)
        await_state(pipeline, "failed")
        assert pipeline.health().message == "The pipeline process cannot be started (No such file or directory)."
        assert pipeline.restarts["pipeline", "load_failed"] >= 1
    await_state(pipeline, "ready")
