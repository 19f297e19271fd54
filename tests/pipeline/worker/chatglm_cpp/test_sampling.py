"""How an id is chosen: each parameter against its formula, and chance against its distribution."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_api.pipeline.job import Sampling
from glm_api.pipeline.worker.chatglm_cpp.sampling import Logprobs, NothingAllowed, Sampler

SIZE = 12
IDS = st.integers(0, SIZE - 1)
LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=SIZE, max_size=SIZE).map(
    lambda values: np.array(values, np.float32)
)


def greedy(**fields: Any) -> Sampling:
    return Sampling(temperature=0.0, **fields)


def freely(**fields: Any) -> Sampling:
    return Sampling(**{"temperature": 1.0, "top_p": 1.0, **fields})


def choose(sampling: Sampling, logits: Any, prompt: list[int] | None = None) -> int:
    return Sampler(sampling, prompt or [], len(logits)).choose(np.array(logits, np.float32))[0]


def frequencies(sampling: Sampling, logits: list[float], draws: int = 4000) -> dict[int, float]:
    sampler = Sampler(sampling, [], len(logits))
    counts = Counter(sampler.choose(np.array(logits, np.float32))[0] for _ in range(draws))
    return {token: count / draws for token, count in counts.items()}


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    weights = [math.exp(value / temperature) for value in logits]
    return [weight / sum(weights) for weight in weights]


class Seen:
    """A sampler whose logits, as they are before the choice, can be looked at."""

    def __init__(self, sampling: Sampling, prompt: list[int]) -> None:
        self.sampler = Sampler(sampling, prompt, SIZE)

    def after(self, logits: Any) -> tuple[Any, int]:
        changed = logits.copy()
        token, _ = self.sampler.choose(changed)
        return changed, token


@given(LOGITS, st.lists(IDS), st.integers(0, 5), st.floats(0.5, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_penalties_follow_their_formulas(
    logits: Any, prompt: list[int], steps: int, repetition: float, presence: float, frequency: float
) -> None:
    sampling = greedy(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
    seen = Seen(sampling, prompt)
    answer: list[int] = []
    for _ in range(steps + 1):
        changed, token = seen.after(logits)
        expected = logits.astype(np.float64)
        for number in {*prompt, *answer}:
            expected[number] = expected[number] / repetition if expected[number] > 0 else expected[number] * repetition
        for number, count in Counter(answer).items():
            expected[number] -= presence + frequency * count
        others = [number for number in range(SIZE) if number != token]
        assert changed[others] == pytest.approx(expected[others], rel=1e-4, abs=1e-4)
        assert expected[token] == pytest.approx(expected.max(), rel=1e-4, abs=1e-4)
        answer.append(token)


@given(LOGITS, st.dictionaries(IDS, st.floats(-100, 100)))
def test_a_bias_is_added_to_its_logit(logits: Any, bias: dict[int, float]) -> None:
    changed, token = Seen(greedy(logit_bias=bias), []).after(logits)
    expected = logits + np.array([bias.get(number, 0.0) for number in range(SIZE)])
    others = [number for number in range(SIZE) if number != token]
    assert changed[others] == pytest.approx(expected[others], rel=1e-4, abs=1e-4)
    assert expected[token] == pytest.approx(expected.max(), rel=1e-4, abs=1e-4)


@given(LOGITS, IDS, st.integers())
def test_a_bias_of_100_decides(logits: Any, token: int, seed: int) -> None:
    assert choose(freely(logit_bias={token: 100.0}, seed=seed), logits) == token
    assert choose(freely(logit_bias={token: -100.0}, seed=seed), logits) != token


@given(LOGITS, st.lists(IDS, min_size=1), st.integers())
def test_only_allowed_ids_are_chosen(logits: Any, allowed: list[int], seed: int) -> None:
    assert choose(freely(allowed_token_ids=tuple(allowed), seed=seed), logits) in allowed
    assert choose(greedy(allowed_token_ids=tuple(allowed)), logits) in allowed


def test_masks_that_leave_nothing_are_told() -> None:
    sampler = Sampler(greedy(allowed_token_ids=(3,)), [], SIZE)
    forbidden = np.zeros(SIZE, np.bool_)
    forbidden[3] = True
    with pytest.raises(NothingAllowed):
        sampler.choose(np.zeros(SIZE, np.float32), forbidden)


@given(LOGITS)
def test_the_chosen_id_is_the_likeliest_that_is_left(logits: Any) -> None:
    sampler = Sampler(freely(seed=1), [], SIZE)
    token, _ = sampler.choose(logits)
    assert int(logits.argmax()) == token


@given(LOGITS, st.integers(), st.floats(0.01, 2), st.floats(0.01, 1), st.integers(0, SIZE), st.floats(0, 1))
def test_the_same_seed_gives_the_same_ids(
    logits: Any, seed: int, temperature: float, top_p: float, top_k: int, min_p: float
) -> None:
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)

    def draw(index: int) -> list[int]:
        sampler = Sampler(sampling, [], SIZE, index)
        return [sampler.choose(logits.copy())[0] for _ in range(8)]

    assert draw(0) == draw(0)


def test_answers_to_one_request_and_requests_without_a_seed_differ() -> None:
    def draw(sampling: Sampling, index: int = 0) -> list[int]:
        sampler = Sampler(sampling, [], 100, index)
        return [sampler.choose(np.zeros(100, np.float32))[0] for _ in range(20)]

    assert draw(freely(seed=1)) != draw(freely(seed=1), 1)
    assert draw(freely(seed=1)) != draw(freely(seed=-1))
    assert draw(freely()) != draw(freely())


EXAMPLE = [2.0, 1.0, 0.5, 0.0, -3.0]


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (freely(seed=1), 5),
        (freely(seed=1, temperature=2.0), 5),
        (freely(seed=1, top_k=2), 2),
        # 0.56, 0.21, 0.12, 0.08, 0.004
        (freely(seed=1, top_p=0.5), 1),
        (freely(seed=1, top_p=0.6), 2),
        (freely(seed=1, top_p=0.8), 3),
        (freely(seed=1, top_p=0.99), 4),
        (freely(seed=1, min_p=0.3), 2),
        (freely(seed=1, top_k=3, top_p=0.7), 2),
    ],
)
def test_chance_follows_the_distribution_that_is_left(sampling: Sampling, left: int) -> None:
    found = frequencies(sampling, EXAMPLE)
    kept = softmax(EXAMPLE, sampling.temperature)[:left]
    assert max(found) < left
    for token, probability in enumerate(kept):
        assert found.get(token, 0.0) == pytest.approx(probability / sum(kept), abs=0.03)


@given(LOGITS, st.integers(0, SIZE), st.integers())
def test_logprobs_are_those_of_the_model_whatever_is_done_to_its_logits(logits: Any, top: int, seed: int) -> None:
    sampling = freely(top_logprobs=top, seed=seed, logit_bias={1: 5.0}, presence_penalty=1.0, temperature=2.0)
    exact = logits.astype(np.float64)
    exact = exact - exact.max() - math.log(np.exp(exact - exact.max()).sum())
    token, told = Sampler(sampling, [], SIZE).choose(logits)
    assert isinstance(told, Logprobs)
    assert told.chosen == pytest.approx(exact[token], abs=1e-4)
    assert len(told.top) == top
    assert [value for _, value in told.top] == pytest.approx(sorted(exact, reverse=True)[:top], abs=1e-4)
    assert all(value == pytest.approx(exact[number], abs=1e-4) for number, value in told.top)


@pytest.mark.parametrize(
    ("sampling", "needed"),
    [
        (greedy(), False),
        (greedy(top_p=0.5, top_k=7, min_p=0.2, seed=3), False),
        (freely(), True),
        (greedy(top_logprobs=0), True),
        (greedy(logit_bias={1: 1.0}), True),
        (greedy(repetition_penalty=1.1), True),
        (greedy(allowed_token_ids=(1,)), True),
    ],
)
def test_a_plain_greedy_choice_needs_no_sampler(sampling: Sampling, needed: bool) -> None:
    assert Sampler.is_needed(sampling) is needed
