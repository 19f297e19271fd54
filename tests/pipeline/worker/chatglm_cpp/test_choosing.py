"""Answers of the real model whose ids are chosen by sampling parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glm_api.pipeline.frames import Event, Finished, PromptLogprobs, Text, TokenLogprob
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from tests.support.model_files.fixtures import OpenModel

from .test_answering import Bench, ids_of


@pytest.fixture
def bench(open_demo: OpenModel) -> Bench:
    return Bench(open_demo, "auto")


@pytest.fixture
def prompt(open_demo: OpenModel) -> list[int]:
    return [*open_demo.tokenizer.prefix, *range(400, 420)]


def greedy(**fields: Any) -> Sampling:
    return Sampling(temperature=0.0, **fields)


def last(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


def exact(bench: Bench, ids: list[int], first: int) -> list[Any]:
    """The log-probabilities of every id behind the first ``first`` of ``ids`` and each further one.

    In double precision, and evaluated as the answerer does: the first ids in one call, the others one by one.
    """
    seen: list[Any] = []
    config = _C.GenerationConfig(do_sample=False, repetition_penalty=bridge.CALL_HOOK)
    with bridge.logits_hook(lambda logits: seen.append(logits.astype(np.float64))) as raise_failure:
        for length in range(first, len(ids) + 1):
            past = 0 if length == first else length - 1
            bench.reference.model.generate_next_token(ids[:length], None, config, past, first)
            raise_failure()
    return [logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()) for logits in seen]


def check(bench: Bench, told: list[TokenLogprob], values: list[Any], top: int) -> None:
    for entry, exactly in zip(told, values, strict=True):
        assert entry.logprob == pytest.approx(exactly[entry.id], abs=1e-3)
        assert [value for _, _, value in entry.top] == pytest.approx(sorted(exactly)[: -top - 1 : -1], abs=1e-3)
        # Special tokens add no bytes to a text; they are shown by their names.
        tokenizer = bench.model.tokenizer
        assert entry.piece == (tokenizer.decode([entry.id]) or tokenizer.show([entry.id]).encode())


def test_logprobs_are_those_of_the_model(bench: Bench, prompt: list[int]) -> None:
    events = bench.run(prompt, 12, sampling=greedy(top_logprobs=5))
    told = [entry for event in events if isinstance(event, Text) for entry in event.logprobs]
    assert [entry.id for entry in told] == ids_of(events) == bench.expected(prompt, 12)
    check(bench, told, exact(bench, [*prompt, *ids_of(events)[:-1]], len(prompt)), 5)


def test_logprobs_of_a_prompt_are_those_of_the_model(bench: Bench, prompt: list[int]) -> None:
    events = bench.run(prompt, 0, sampling=greedy(top_logprobs=2, prompt_logprobs=True))
    [told] = [event.logprobs for event in events if isinstance(event, PromptLogprobs)]
    assert [entry.id for entry in told] == prompt[1:]
    check(bench, told, exact(bench, prompt[:-1], 1), 2)
    assert last(events).completion_tokens == 0
    assert ids_of(bench.run(prompt, 5, sampling=greedy(prompt_logprobs=True))) == bench.expected(prompt, 5)


def test_a_hook_changes_no_greedy_answer(bench: Bench, prompt: list[int]) -> None:
    hooked = greedy(logit_bias={5: 0.0})
    assert ids_of(bench.run(prompt, 40, sampling=hooked)) == bench.expected(prompt, 40)


def test_biases_of_100_decide(bench: Bench, prompt: list[int]) -> None:
    assert ids_of(bench.run(prompt, 5, sampling=Sampling(logit_bias={777: 100.0}, seed=1))) == [777] * 5
    banned = bench.expected(prompt, 10)
    found = ids_of(bench.run(prompt, 10, sampling=Sampling(logit_bias=dict.fromkeys(banned, -100.0), seed=1)))
    assert set(found).isdisjoint(banned)


def end_behind(bench: Bench) -> tuple[list[int], int]:
    """A prompt whose greedy answer ends by itself, and its length."""
    tokenizer = bench.model.tokenizer
    ids = [*tokenizer.prefix, tokenizer.role("user"), *tokenizer.encode("\nhello"), tokenizer.role("assistant")]
    answer = bench.expected(ids, 200)
    assert len(answer) < 200
    return ids, len(answer)


def test_the_end_waits_for_as_many_tokens_as_are_asked_for(bench: Bench) -> None:
    prompt, natural = end_behind(bench)
    assert last(bench.run(prompt, natural + 20)).completion_tokens == natural + 1
    least = last(bench.run(prompt, natural + 20, sampling=greedy(min_tokens=natural + 5)))
    assert least.completion_tokens > natural + 5
    endless = last(bench.run(prompt, natural + 20, sampling=greedy(ignore_eos=True)))
    assert (endless.completion_tokens, endless.reason) == (natural + 20, "length")


def test_a_stop_token_ends_the_answer_and_is_not_shown(bench: Bench, prompt: list[int]) -> None:
    expected = bench.expected(prompt, 10)
    stop = expected[4]
    events = bench.run(prompt, 10, sampling=greedy(stop_token_ids=(stop,)))
    assert ids_of(events) == expected[: expected.index(stop)]
    assert last(events).reason == "stop"


def test_a_mask_that_leaves_nothing_ends_the_answer_and_is_logged(
    bench: Bench, prompt: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    end = min(bench.model.tokenizer.end_ids)
    events = bench.run(prompt, 10, sampling=greedy(allowed_token_ids=(end,), min_tokens=3))
    assert last(events).reason == "stop"
    assert capfd.readouterr().out == "An answer ended early: no token may follow.\n"


def test_an_answer_that_a_mask_keeps_from_its_end_is_cut(
    bench: Bench, prompt: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    y = bench.model.tokenizer.encode("\ny")[-1]
    output = OutputSpec(mode="text", grammar='start: "y" | "yes"\n')
    sampling = greedy(allowed_token_ids=(y,))
    events = bench.run(prompt, 10, sampling=sampling, output=output)
    assert (ids_of(events), last(events).reason) == ([y], "stop")
    output = OutputSpec(mode="text", grammar='start: "yes"\n')
    events = bench.run(prompt, 10, sampling=sampling, output=output)
    assert (ids_of(events), last(events).reason) == ([y], "length")
    called = OutputSpec(tools=("f",), forced="f", grammar='start: "y" "es"\n')
    events = bench.run(prompt, 10, sampling=sampling, output=called)
    assert last(events).reason == "length"
    assert capfd.readouterr().out == "An answer ended early: no token may follow.\n" * 3
