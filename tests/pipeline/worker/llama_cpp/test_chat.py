"""Answers of llama.cpp's chat API, scripted."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from PIL import Image

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import (
    Generate,
    Progress,
    Reasoning,
    Started,
    Text,
    ToolArguments,
    ToolCallStarted,
)
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.llama_cpp.chat import ChatAnswer
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.lost_ids import LostIds
from glm_api.pipeline.worker.llama_cpp.slots import SlotPool
from glm_api.pipeline.worker.llama_cpp.streamed import GrammarDropped, Model
from tests.support.model_files.fixtures import OpenModel

from .scripted import Chunk, Recorder, ScriptedClient

QUESTION = {"messages": [{"role": "user", "content": "Hi"}]}
PROGRESS: list[Chunk] = [
    {"choices": [], "prompt_progress": {"total": 3, "cache": 1, "processed": processed, "time_ms": 2}}
    for processed in (1, 3)
]


def delta(predicted: int, **delta: Any) -> Chunk:
    return {"choices": [{"delta": delta}], "timings": {"predicted_n": predicted, "prompt_n": 2, "cache_n": 1}}


def end(reason: str, predicted: int) -> Chunk:
    return {"choices": [{"delta": {}, "finish_reason": reason}], "timings": {"predicted_n": predicted}}


class Bench:
    def __init__(self, model: OpenModel, *scripts: Sequence[Chunk]) -> None:
        self.client = ScriptedClient(*scripts)
        self.recorder = Recorder()
        lost = LostIds({})
        self._model = Model(cast("Any", self.client), model.tokenizer, model.format, SlotPool(1), 99, 1, lost)

    def answer(self, body: dict[str, Any] = QUESTION, *, thinking: bool = False, **changed: Any) -> ChatAnswer:
        request: dict[str, Any] = {
            "id": 7,
            "prompts": [[3, 4, 5]],
            "sizes": [3],
            "limits": [50],
            "sampling": Sampling(temperature=0.0),
            "stop": (),
            "output": OutputSpec(chat=json.dumps(body), thinking=thinking),
            "image": None,
            "progress": False,
            **changed,
        }
        return ChatAnswer(self._model, Generate(**request), EventWriter(self.recorder, 7))

    def run(self, body: dict[str, Any] = QUESTION, **changed: Any) -> list[Any]:
        self.answer(body, **changed).run()
        return self.recorder.events


def text_of(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_thinking_text_and_calls_become_events(open_demo: OpenModel) -> None:
    script = [
        *PROGRESS,
        delta(1, role="assistant", content=None),
        delta(3, reasoning_content="Hm"),
        delta(5, content="Yes"),
        delta(9, tool_calls=[{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{"}}]),
        delta(10, tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
        end("tool_calls", 11),
    ]
    bench = Bench(open_demo, script)
    started, progress, *events = bench.run()
    assert (started, progress) == (Started(3, 1), Progress(3, 3, 1, 2.0))
    assert [type(event) for event in events[:-1]] == [Reasoning, Text, ToolCallStarted, ToolArguments, ToolArguments]
    # As many ids as were generated, though nobody knows which.
    assert [len(event.ids) for event in events[:-1]] == [3, 2, 4, 0, 1]
    assert (bench.recorder.finished.reason, bench.recorder.finished.completion_tokens) == ("tool_calls", 11)
    body = bench.client.bodies[0]
    assert (body["messages"], body["max_tokens"], body["stream"]) == (QUESTION["messages"], 50, True)


def test_a_call_carries_the_clients_name(open_demo: OpenModel) -> None:
    called = delta(1, tool_calls=[{"index": 0, "id": "x", "function": {"name": "weather_get", "arguments": "{}"}}])
    output = OutputSpec(chat=json.dumps(QUESTION), names=(("weather_get", "weather.get"),))
    events = Bench(open_demo, [called, end("tool_calls", 2)]).run(output=output)
    assert [event.name for event in events if isinstance(event, ToolCallStarted)] == ["weather.get"]


def test_a_call_without_arguments_has_an_empty_object(open_demo: OpenModel) -> None:
    calls = [
        delta(index + 1, tool_calls=[{"index": index, "id": "x", "function": {"name": name, "arguments": ""}}])
        for index, name in enumerate("fg")
    ]
    events = Bench(open_demo, [*calls, end("tool_calls", 3)]).run()
    told = [(type(event), event.index) for event in events if isinstance(event, ToolCallStarted | ToolArguments)]
    assert told == [(kind, index) for index in (0, 1) for kind in (ToolCallStarted, ToolArguments)]
    assert [event.text for event in events if isinstance(event, ToolArguments)] == ["{}", "{}"]
    cut = Bench(open_demo, [calls[0], end("length", 2)]).run()
    assert [event.text for event in cut if isinstance(event, ToolArguments)] == ["{"]


def test_thinking_that_llama_cpp_takes_for_text_is_told_apart(open_demo: OpenModel) -> None:
    script = [delta(1, content="Hm"), delta(2, content="m</th"), delta(3, content="ink>\nYes"), end("stop", 4)]
    events = Bench(open_demo, script).run(thinking=True)
    assert "".join(event.text for event in events if isinstance(event, Reasoning)) == "Hmm"
    assert text_of(events) == "Yes"


def test_thinking_that_is_cut_is_told(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [delta(1, content="Hm</"), end("length", 2)])
    events = bench.run(thinking=True)
    assert "".join(event.text for event in events if isinstance(event, Reasoning)) == "Hm</"
    assert bench.recorder.finished.reason == "length"


def test_a_stop_string_ends_the_text_and_the_work(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [delta(1, content="a"), delta(2, content="bc"), delta(3, content="d")])
    assert text_of(bench.run(stop=("b",))) == "a"
    assert bench.recorder.finished.reason == "stop"
    assert bench.client.streams[0].closed


def test_log_probabilities_are_told(open_demo: OpenModel) -> None:
    entry = {"id": 5, "bytes": [97], "logprob": -1.0, "top_logprobs": [{"id": 6, "bytes": None, "logprob": None}]}
    chunk: Chunk = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [entry]}}]}
    bench = Bench(open_demo, [chunk, end("stop", 1)])
    events = bench.run(sampling=Sampling(top_logprobs=1))
    [told] = [entry for event in events for entry in getattr(event, "logprobs", [])]
    assert (told.id, told.piece, told.logprob, told.top) == (5, b"a", -1.0, [(6, b"", -9999.0)])
    assert (bench.client.bodies[0]["logprobs"], bench.client.bodies[0]["top_logprobs"]) == (True, 1)


def test_log_probabilities_are_told_of_the_answer_to_a_message_that_says_tools(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [delta(1, content="Hm"), end("stop", 1)])
    question = {"messages": [{"role": "user", "content": "tools"}]}
    assert text_of(bench.run(question, sampling=Sampling(top_logprobs=1))) == "Hm"


@pytest.mark.parametrize(
    ("sampling", "body", "param"),
    [
        (Sampling(min_tokens=1), QUESTION, "min_tokens"),
        (Sampling(stop_token_ids=(3,)), QUESTION, "stop_token_ids"),
        (Sampling(top_logprobs=0), {**QUESTION, "tools": []}, "logprobs"),
    ],
)
def test_what_the_chat_api_does_not_do_is_refused(
    open_demo: OpenModel, sampling: Sampling, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(PromptError) as refused:
        Bench(open_demo).run(body, sampling=sampling)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LlamaError(400, "exceed_context_size_error", "too long"), PromptError),
        (LlamaError(400, "invalid_request_error", "wrong"), PromptError),
        (LlamaError(500, "server_error", "failed"), LlamaError),
        ({"error": {"code": 500, "message": "does not match the expected format"}}, LlamaError),
    ],
)
def test_an_error_is_the_clients_or_the_models(open_demo: OpenModel, error: Chunk, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Bench(open_demo, [error]).run()


def test_an_answer_without_its_end_has_failed(open_demo: OpenModel) -> None:
    with pytest.raises(LlamaError):
        Bench(open_demo, [delta(1, content="a")]).run()


def test_a_text_that_is_not_what_it_must_be_is_noticed(open_demo: OpenModel) -> None:
    output = OutputSpec(chat=json.dumps(QUESTION), grammar='start: "yes" | "no"')
    for text in ("maybe", "ye", "yes!"):
        with pytest.raises(GrammarDropped):
            Bench(open_demo, [delta(1, content=text), end("stop", 2)]).run(output=output)
    assert text_of(Bench(open_demo, [delta(1, content="\nyes"), end("stop", 2)]).run(output=output)) == "yes"
    # What is cut need not be whole.
    assert text_of(Bench(open_demo, [delta(1, content="y"), end("length", 2)]).run(output=output)) == "y"


def test_a_text_for_which_no_allowed_id_was_left_is_not_complete(open_demo: OpenModel) -> None:
    output = OutputSpec(chat=json.dumps(QUESTION), grammar='start: "yes" | "no"')
    bench = Bench(open_demo, [delta(1, content="ye"), end("stop", 2)])
    bench.run(output=output, sampling=Sampling(allowed_token_ids=(5, 6)))
    assert bench.recorder.finished.reason == "length"


def test_a_cancelled_answer_says_so(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [delta(1, content="a"), delta(2, content="b")])
    answer = bench.answer()
    bench.client.before = lambda number: answer.cancel() if number else None
    answer.run()
    assert bench.recorder.finished.reason == "cancelled"
    bench = Bench(open_demo, [delta(1, content="a")])
    answer = bench.answer()
    answer.cancel()
    answer.run()
    assert bench.recorder.finished.reason == "cancelled"


def test_an_image_is_put_where_the_message_shows_it(open_demo: OpenModel) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    part = {"type": "image_url", "image_url": {"url": ""}}
    body = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]}
    bench = Bench(open_demo, [end("stop", 1)])
    bench.run(body, image=file.getvalue())
    url = bench.client.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert url == f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    with pytest.raises(PromptError):
        Bench(open_demo).run(body, image=b"no image")
