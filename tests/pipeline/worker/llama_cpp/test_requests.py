"""Our sampling parameters by llama.cpp's names."""

from __future__ import annotations

from typing import Any

from glm_api.pipeline.job import Sampling
from glm_api.pipeline.worker.llama_cpp.requests import completion_body


def body(sampling: Sampling, **other: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"limit": 8, "index": 0, "slot": 1, "size": 6, "context": 99, "grammar": None, **other}
    return completion_body(sampling, [3, 4], **given)


def test_a_greedy_answer_takes_the_likeliest_whatever_the_other_parameters_say() -> None:
    found = body(Sampling(temperature=0.0, top_k=50, top_p=0.5, seed=3))
    assert (found["samplers"], found["top_k"]) == (("penalties", "top_k"), 1)
    assert "seed" not in found


def test_the_order_of_the_samplers_is_that_of_the_other_engine() -> None:
    found = body(Sampling(temperature=1.5, top_k=50, top_p=0.5, min_p=0.1))
    assert found["samplers"] == ("penalties", "temperature", "min_p", "top_k", "top_p")
    assert (found["temperature"], found["top_k"], found["top_p"], found["min_p"]) == (1.5, 50, 0.5, 0.1)


def test_each_answer_of_a_request_has_a_seed_of_its_own() -> None:
    seeds = [body(Sampling(seed=7), index=index)["seed"] for index in range(3)]
    assert len(set(seeds)) == 3
    assert seeds == [body(Sampling(seed=7), index=index)["seed"] for index in range(3)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert body(Sampling(seed=-7))["seed"] != seeds[0]
    assert "seed" not in body(Sampling())


def test_ids_are_biased_and_forbidden() -> None:
    assert body(Sampling(logit_bias={2: -5.0, 9: 1.0}))["logit_bias"] == [[2, -5.0]]
    found = body(Sampling(logit_bias={2: 5.0, 3: 1.0}, allowed_token_ids=(1, 2, 4)), forbidden=[4])["logit_bias"]
    assert found[0] == [2, 5.0]
    assert sorted(found[1:]) == [[0, False], [3, False], [4, False], [5, False]]
    assert "logit_bias" not in body(Sampling())


def test_logprobs_are_asked_for_when_they_are_wanted() -> None:
    assert body(Sampling(top_logprobs=0))["n_probs"] == 1
    assert body(Sampling(top_logprobs=5))["n_probs"] == 5
    assert "n_probs" not in body(Sampling())


def test_a_grammar_is_named_as_llguidances() -> None:
    assert body(Sampling(), grammar='start: "a"')["grammar"] == '%llguidance {}\nstart: "a"'
    assert "grammar" not in body(Sampling())
