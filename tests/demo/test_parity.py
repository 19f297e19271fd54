"""The exported demo model answers in chatglm-cpp what PyTorch answers from the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.recipe.generate import DemoModel

DEMO = Path(__file__).resolve().parents[2] / "demo"
MODEL = DEMO / "chatglm3-demo.q8_0.bin"
FIXTURE = json.loads((DEMO / "parity.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return DemoModel(MODEL)


def test_fixture_has_twenty_prompts() -> None:
    assert len(FIXTURE) >= 20


@pytest.mark.parametrize("case", FIXTURE, ids=lambda case: case["name"])
def test_chatglm_cpp_equals_recorded_pytorch(model: DemoModel, case: dict[str, Any]) -> None:
    given = model.greedy(case["prompt_ids"], max_new_tokens=len(case["greedy_ids"]))
    assert given == case["greedy_ids"]


def test_recorded_answers_are_those_of_pytorch() -> None:
    """Skipped without PyTorch, which only the recipe needs."""
    pytest.importorskip("torch")
    pytest.importorskip("sentencepiece")
    from demo.recipe.parity import greedy_answers

    assert greedy_answers(MODEL) == FIXTURE
