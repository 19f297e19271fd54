"""Answers by ids, from a scripted llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import Finished, Generate, Progress, Started, Text
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.constraints import GrammarError
from glm_api.pipeline.worker.llama_cpp.answering import Answer, CannotGoOn
from glm_api.pipeline.worker.llama_cpp.client import LlamaError
from glm_api.pipeline.worker.llama_cpp.lost_ids import LostIds
from glm_api.pipeline.worker.llama_cpp.slots import SlotPool
from glm_api.pipeline.worker.llama_cpp.streamed import GrammarDropped, Model
from tests.support.model_files.fixtures import OpenModel

from .scripted import Chunk, Recorder, ScriptedClient

PROGRESS: list[Chunk] = [
    {"tokens": [0], "prompt_progress": {"total": 3, "cache": 1, "processed": processed, "time_ms": 2}}
    for processed in (1, 3)
]
LAST: Chunk = {"tokens": [], "stop": True, "stop_type": "limit", "timings": {"cache_n": 2}}


def said(model: OpenModel, text: str, predicted: int, **more: Any) -> Chunk:
    """The chunk of the id that is ``text``."""
    return {"tokens": [id_of(model, text)], "content": text, "tokens_predicted": predicted, **more}


def id_of(model: OpenModel, text: str) -> int:
    return model.tokenizer.ids_by_bytes[text.encode()]


class Bench:
    def __init__(self, model: OpenModel, *scripts: Sequence[Chunk]) -> None:
        self.client = ScriptedClient(*scripts)
        self.recorder = Recorder()
        self.pool = SlotPool(1)
        tokenizer = model.tokenizer
        lost = LostIds(tokenizer.ids_by_bytes)
        self._model = Model(cast("Any", self.client), tokenizer, model.format, self.pool, 99, 2, lost)

    def answer(self, **changed: Any) -> Answer:
        request: dict[str, Any] = {
            "id": 7,
            "prompts": [[3, 4, 5]],
            "sizes": [3],
            "limits": [8],
            "sampling": Sampling(temperature=0.0),
            "stop": (),
            "output": OutputSpec(mode="text"),
            "image": None,
            "progress": False,
            **changed,
        }
        return Answer(self._model, Generate(**request), EventWriter(self.recorder, 7))

    def run(self, **changed: Any) -> list[Any]:
        self.answer(**changed).run()
        return self.recorder.events


def test_an_answer_is_told_as_it_comes(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [*PROGRESS, said(open_demo, "a", 1), said(open_demo, "b", 2), LAST])
    events = bench.run(limits=[2])
    assert events[:2] == [Started(3, 1, 0), Progress(3, 3, 1, 2.0)]
    assert "".join(event.text for event in events if isinstance(event, Text)) == "ab"
    finished = bench.recorder.finished
    assert (finished.reason, finished.completion_tokens, finished.slot_tokens) == ("length", 2, 4)
    assert (finished.step_threads, finished.batch_threads) == (2, 2)
    assert bench.client.bodies[0]["prompt"] == [3, 4, 5]
    assert bench.client.bodies[0]["n_predict"] == 2


def test_the_answers_of_one_request_come_one_after_the_other(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "a", 1)], [said(open_demo, "b", 1)])
    events = bench.run(prompts=[[3], [4]], sizes=[1, 1], limits=[1, 1])
    assert sum(isinstance(event, Finished) for event in events) == 2
    assert [body["prompt"] for body in bench.client.bodies] == [[3], [4]]


def test_another_process_goes_on_behind_what_was_told(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "b", 1), LAST])
    told = id_of(open_demo, "a")
    events = bench.run(prompts=[[3], [4]], sizes=[1, 1], limits=[9, 2], answered=1, fed=[told])
    assert bench.client.bodies[0]["prompt"] == [4, told]
    assert bench.client.bodies[0]["n_predict"] == 1
    assert [event.text for event in events if isinstance(event, Text)] == ["b"]
    assert bench.recorder.finished.completion_tokens == 2


def test_the_ids_of_a_character_are_found_if_the_stream_lacks_some(open_demo: OpenModel) -> None:
    first, last = (open_demo.tokenizer.ids_by_bytes[byte] for byte in (b"\xc3", b"\xbf"))
    bench = Bench(open_demo, [{"tokens": [last], "content": "ÿ", "tokens_predicted": 2}, LAST])
    [text] = [event for event in bench.run() if isinstance(event, Text)]
    assert (text.text, text.ids, text.fed) == ("ÿ", [first, last], [first, last])


def test_an_answer_with_log_probabilities_comes_at_once(open_demo: OpenModel) -> None:
    token = id_of(open_demo, "a")
    told = {"id": token, "logprob": -0.5, "top_logprobs": [{"id": token, "logprob": -0.5}, {"id": 9, "logprob": None}]}
    chunk: Chunk = {
        "tokens": [token],
        "stop": True,
        "tokens_predicted": 1,
        "timings": {"cache_n": 2},
        "completion_probabilities": [told],
    }
    bench = Bench(open_demo, [chunk])
    events = bench.run(sampling=Sampling(temperature=0.0, top_logprobs=2))
    assert bench.client.bodies[0]["stream"] is False
    assert events[0] == Started(3, 2, 0)
    [entry] = [entry for event in events if isinstance(event, Text) for entry in event.logprobs]
    assert (entry.id, entry.logprob) == (token, -0.5)
    assert [(id, value) for id, _, value in entry.top] == [(token, -0.5), (9, -9999.0)]


def test_ids_inside_of_a_character_have_no_log_probabilities(open_demo: OpenModel) -> None:
    """llama.cpp leaves them out, and those of the ids behind them must not be taken for theirs."""
    ids = open_demo.tokenizer.ids_by_bytes
    first, *inside, last = (ids[bytes([byte])] for byte in b"a" + "🎉".encode())
    cut = ids[b"\xf0"]
    chunk: Chunk = {
        "tokens": [first, *inside, last, cut],
        "stop": True,
        "tokens_predicted": 6,
        "completion_probabilities": [{"id": first, "logprob": -0.5}, {"id": last, "logprob": -0.25}],
    }
    bench = Bench(open_demo, [chunk])
    events = [event for event in bench.run(sampling=Sampling(top_logprobs=0)) if isinstance(event, Text)]
    assert "".join(event.text for event in events) == "a🎉"
    told = [(entry.id, entry.logprob) for event in events for entry in event.logprobs]
    assert told == [(first, -0.5), (last, -0.25)]


def test_end_ids_are_forbidden_until_the_answer_may_end(open_demo: OpenModel) -> None:
    a, b = said(open_demo, "a", 1), said(open_demo, "b", 1)
    bench = Bench(open_demo, [a, LAST], [b, LAST])
    bench.run(sampling=Sampling(temperature=0.0, min_tokens=1, stop_token_ids=(9,)))
    forbidden = {token for token, bias in bench.client.bodies[0]["logit_bias"] if bias is False}
    assert forbidden == {*open_demo.tokenizer.end_ids, 9}
    assert bench.client.bodies[0]["n_predict"] == 1
    assert "logit_bias" not in bench.client.bodies[1]
    assert bench.client.bodies[1]["n_predict"] == 7
    # llama.cpp gives fewer ids: the context is full.
    assert bench.recorder.finished.reason == "length"


def test_a_grammar_ends_the_answer(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "a", 1), said(open_demo, "b", 2)])
    bench.run(output=OutputSpec(mode="text", grammar='start: "a"'))
    assert bench.client.bodies[0]["grammar"] == '%llguidance {}\nstart: "a"'
    assert (bench.recorder.finished.reason, bench.recorder.finished.completion_tokens) == ("stop", 1)
    assert bench.client.streams[0].closed


def test_an_id_that_the_grammar_does_not_admit_is_noticed(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "b", 1)])
    with pytest.raises(GrammarDropped):
        bench.run(output=OutputSpec(mode="text", grammar='start: "a"'))
    assert bench.client.streams[0].closed
    # Its slot is free again.
    assert bench.pool.take([1]) is not None


def test_an_answer_that_no_allowed_id_continues_is_cut(open_demo: OpenModel) -> None:
    letter, other = id_of(open_demo, "a"), id_of(open_demo, "b")
    output = OutputSpec(mode="text", grammar='start: "a" /[0-9]/')
    bench = Bench(open_demo, [*PROGRESS, said(open_demo, "a", 1), said(open_demo, "b", 2), LAST])
    events = bench.run(output=output, sampling=Sampling(allowed_token_ids=(letter, other)))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "a"
    assert bench.recorder.finished.reason == "length"
    # Here the number could follow, so it is llama.cpp that does not hold the answer to the grammar.
    bench = Bench(open_demo, [*PROGRESS, said(open_demo, "a", 1), said(open_demo, "b", 2), LAST])
    with pytest.raises(GrammarDropped):
        bench.run(output=output, sampling=Sampling(allowed_token_ids=(letter, other, id_of(open_demo, "1"))))


def test_a_grammar_that_does_not_compile_costs_no_slot(open_demo: OpenModel) -> None:
    bench = Bench(open_demo)
    with pytest.raises(GrammarError):
        bench.run(output=OutputSpec(mode="text", grammar="start: ("))
    assert bench.pool.take([3]) is not None


def test_an_answer_ends_where_no_allowed_id_fits_the_grammar(
    open_demo: OpenModel, capfd: pytest.CaptureFixture[str]
) -> None:
    output = OutputSpec(mode="text", grammar="start: /a[b-z]+/")
    a = id_of(open_demo, "a")
    bench = Bench(open_demo, [said(open_demo, "a", 1), said(open_demo, "c", 2)])
    bench.run(output=output, sampling=Sampling(temperature=0.0, allowed_token_ids=(a, 2**20)))
    assert (bench.recorder.finished.reason, bench.recorder.finished.completion_tokens) == ("length", 1)
    assert bench.client.streams[0].closed
    # llama.cpp is not asked for what it could not choose.
    for sampling in (
        Sampling(temperature=0.0, allowed_token_ids=(id_of(open_demo, "c"),)),
        Sampling(temperature=0.0, allowed_token_ids=(a,), stop_token_ids=(a,), ignore_eos=True),
    ):
        bench = Bench(open_demo)
        bench.run(output=output, sampling=sampling)
        assert (bench.recorder.finished.reason, bench.recorder.finished.completion_tokens) == ("length", 0)
        assert bench.client.bodies == []
    assert capfd.readouterr().out == "An answer ended early: no token may follow.\n" * 3


def test_a_structured_answer_cannot_be_continued(open_demo: OpenModel) -> None:
    with pytest.raises(CannotGoOn):
        Bench(open_demo).run(fed=[3], output=OutputSpec(mode="text", grammar='start: "a"'))


def test_a_stop_string_ends_the_answer_and_the_work(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "a", 1), said(open_demo, "b", 2), said(open_demo, "c", 3)])
    events = bench.run(stop=("b",))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "a"
    assert bench.recorder.finished.reason == "stop"
    assert bench.client.streams[0].closed


def test_a_cancelled_answer_says_so(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "a", 1), said(open_demo, "b", 2)])
    answer = bench.answer(prompts=[[3], [4]], sizes=[1, 1], limits=[5, 5])
    bench.client.before = lambda number: answer.cancel() if number else None
    answer.run()
    assert bench.recorder.finished.reason == "cancelled"
    assert len(bench.client.bodies) == 1


def test_an_answer_that_is_cancelled_before_it_runs_is_not_asked_for(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "a", 1)])
    answer = bench.answer()
    answer.cancel()
    answer.run()
    assert bench.recorder.events == [bench.recorder.finished]
    assert bench.recorder.finished.reason == "cancelled"


def test_nothing_is_generated_when_nothing_is_wanted(open_demo: OpenModel) -> None:
    bench = Bench(open_demo)
    assert bench.run(limits=[0])[0] == Started(3, 0, 0)
    assert bench.recorder.finished.completion_tokens == 0


@pytest.mark.parametrize(
    "script",
    [
        [],
        [{"error": {"code": 500, "type": "server_error", "message": "out of memory"}}],
        [LlamaError(500, "", "")],
        [{"tokens": [3], "content": "x", "tokens_predicted": 5}],
    ],
)
def test_what_llama_cpp_fails_at_is_raised(open_demo: OpenModel, script: list[Chunk]) -> None:
    with pytest.raises(LlamaError):
        Bench(open_demo, script).run()


def test_log_probabilities_of_the_prompt_are_refused(open_demo: OpenModel) -> None:
    with pytest.raises(PromptError) as refused:
        Bench(open_demo).run(sampling=Sampling(prompt_logprobs=True, top_logprobs=1))
    assert refused.value.param == "logprobs"


def test_an_answer_in_two_parts_has_no_grammar(open_demo: OpenModel) -> None:
    output = OutputSpec(mode="text", grammar='start: "a"')
    with pytest.raises(PromptError) as refused:
        Bench(open_demo).run(sampling=Sampling(min_tokens=3), output=output)
    assert refused.value.param == "min_tokens"


def test_ids_that_the_end_leaves_out_are_counted(open_demo: OpenModel) -> None:
    bench = Bench(open_demo, [said(open_demo, "a", 1), {"stop": True, "tokens_predicted": 3}])
    bench.run(limits=[3])
    assert (bench.recorder.finished.reason, bench.recorder.finished.completion_tokens) == ("length", 3)
