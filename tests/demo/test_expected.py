"""The demo model's answers at temperature 0, and the properties of its file on which the server relies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.recipe.generate import DemoModel, parse_arguments
from demo.recipe.prompt import CALL_START, Dialogue, assistant, observation, system, tool_call, tools_system, user

DEMO = Path(__file__).resolve().parents[2] / "demo"
MODEL = DEMO / "chatglm3-demo.q8_0.bin"
EXPECTED = json.loads((DEMO / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model() -> DemoModel:
    return DemoModel(MODEL)


def test_table_has_forty_prompts_and_the_file_is_small() -> None:
    assert len(EXPECTED) >= 40
    assert MODEL.stat().st_size <= 8_000_000


@pytest.mark.parametrize("case", EXPECTED, ids=lambda case: case["name"])
def test_answers(model: DemoModel, case: dict[str, Any]) -> None:
    dialogue: Dialogue = []
    if case["tools"]:
        dialogue.append(tools_system(case["tools"], case["system"]))
    elif case["system"]:
        dialogue.append(system(case["system"]))
    for message in case["messages"]:
        if message["role"] == "user":
            dialogue.append(user(message["content"]))
        elif message["role"] == "tool":
            dialogue.append(observation(message["content"]))
        else:
            call = message.get("tool_call")
            wanted = tool_call(call["name"], call["arguments"]) if call else assistant(message["content"])
            assert model.answer(dialogue) == wanted
            dialogue.append(wanted)


def test_forced_call_begins_with_the_ids_of_a_free_one(model: DemoModel) -> None:
    """A server that forces a call writes its beginning itself, piece by piece."""
    whole = model.encode("get_weather\n") + model.encode(CALL_START + "city='Paris')\n```")
    beginning = model.encode("get_weather\n") + model.encode(CALL_START)
    assert whole[: len(beginning)] == beginning


def test_every_id_can_be_decoded(model: DemoModel) -> None:
    """An id that the tokenizer does not have would crash the process that samples it."""
    for token in range(model.vocab_size):
        model.decode([token])


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("```python\ntool_call(city='Paris', days=3)\n```", {"city": "Paris", "days": 3}),
        ("```python\ntool_call('Paris')\n```", None),
        ("```python\nprint(1)\n```", None),
        ("no call", None),
    ],
)
def test_parse_arguments(text: str, arguments: dict[str, Any] | None) -> None:
    assert parse_arguments(text) == arguments
