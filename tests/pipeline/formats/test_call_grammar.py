"""Whatever the grammar of a call admits is read as a call with arguments that fit the schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from glm_api.pipeline.formats.call_grammar import Rules, json_value, python_call
from glm_api.pipeline.formats.python_call import read_call
from glm_api.pipeline.worker.constraints import Constraints, GrammarError
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.vocabulary import read_vocabulary
from tests.support.model_files.fixtures import DEMO_MODEL, OpenModel
from tests.support.schemas import random_answer, random_parameters

VOCABULARY = read_vocabulary(inspect(DEMO_MODEL))


@pytest.fixture(scope="module")
def constraints(open_demo: OpenModel) -> Constraints:
    size = open_demo.pipeline.model.config.vocab_size
    return Constraints(VOCABULARY, size, open_demo.tokenizer.end_ids, open_demo.tokenizer.encode)


def answer(constraints: Constraints, end_ids: frozenset[int], rules: Rules, start: str, seed: int) -> str | None:
    text = random_answer(constraints.compile(rules.text(start)), VOCABULARY.pieces, end_ids, seed)
    return None if text is None else text.decode()


def call(parameters: dict[str, Any]) -> tuple[Rules, str]:
    rules = Rules()
    return rules, python_call(rules, parameters)


@pytest.mark.parametrize("seed", range(100))
def test_a_python_call_is_read_and_fits_its_schema(constraints: Constraints, open_demo: OpenModel, seed: int) -> None:
    parameters = random_parameters(seed)
    text = answer(constraints, open_demo.tokenizer.end_ids, *call(parameters), seed)
    if text is not None:
        arguments = read_call(text, "f")
        assert arguments is not None, text
        jsonschema.validate(json.loads(arguments), parameters)


@pytest.mark.parametrize("seed", range(100))
def test_json_fits_its_schema(constraints: Constraints, open_demo: OpenModel, seed: int) -> None:
    parameters = random_parameters(seed)
    rules = Rules()
    text = answer(constraints, open_demo.tokenizer.end_ids, rules, json_value(rules, parameters), seed)
    if text is not None:
        jsonschema.validate(json.loads(text), parameters)


def admitted(constraints: Constraints, rules: Rules, start: str, text: str) -> tuple[int, bool]:
    """Return how many characters of ``text`` may follow each other, and whether the answer may end behind them."""
    constraint = constraints.compile(rules.text(start))
    for position, character in enumerate(text):
        complete = constraint.complete
        try:
            constraint.consume(VOCABULARY.pieces.index(character.encode()))
        except GrammarError:
            return position, complete
    return len(text), constraint.complete


DIGITS = "1234567890" * 4
INTEGER: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
# Of an integer 19 digits may be written, of a fraction 17, of one between bounds 10, and of an exponent 2.
ENDLESS: list[tuple[dict[str, Any], str, int]] = [
    (INTEGER, DIGITS, 19),
    (INTEGER, f"-{DIGITS}", 20),
    ({**INTEGER, "minimum": 0, "description": "How many"}, DIGITS, 19),
    ({**INTEGER, "minimum": 1}, DIGITS, 19),
    ({**INTEGER, "maximum": 5}, f"-{DIGITS}", 20),
    ({**INTEGER, "exclusiveMinimum": -3}, DIGITS, 19),
    ({**INTEGER, "minimum": 3, "exclusiveMinimum": True}, DIGITS, 19),
    (NUMBER, f"0.{DIGITS}", 19),
    (NUMBER, f"-{DIGITS}", 20),
    (NUMBER, f"1.5e{DIGITS}", 6),
    (NUMBER, f"6.02E-{DIGITS}", 8),
    ({**NUMBER, "minimum": 0}, f"0.{DIGITS}", 19),
    ({**NUMBER, "minimum": 0, "maximum": 1}, f"0.{DIGITS}", 12),
    ({**NUMBER, "exclusiveMinimum": 0}, f"0.{'3' * 40}", 12),
    ({**NUMBER, "maximum": 2.5}, f"-{DIGITS}", 20),
    ({"type": ["integer", "null"]}, DIGITS, 19),
    ({"anyOf": [NUMBER, {"type": "null"}]}, f"0.{DIGITS}", 19),
    ({"$ref": "#/$defs/n", "$defs": {"n": INTEGER}}, DIGITS, 19),
]
IN_A_CALL = {"object": '{"n": ', "call": "tool_call(n="}


@pytest.mark.parametrize(("schema", "text", "length"), ENDLESS)
@pytest.mark.parametrize("place", ["alone", "object", "call"])
def test_no_number_goes_on_for_ever(
    constraints: Constraints, schema: dict[str, Any], text: str, length: int, place: str
) -> None:
    rules = Rules()
    if place == "alone":
        assert admitted(constraints, rules, json_value(rules, schema), text) == (length, True)
        return
    value = {key: schema[key] for key in schema if key != "$defs"}
    parameters = {"type": "object", "properties": {"n": value}, "required": ["n"], "additionalProperties": False}
    parameters["$defs"] = schema.get("$defs", {})
    begin = IN_A_CALL[place]
    start = json_value(rules, parameters) if place == "object" else python_call(rules, parameters)
    assert admitted(constraints, rules, start, begin + text) == (len(begin) + length, False)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({**INTEGER, "minimum": 10**18}, f"1{'0' * 18}"),
        ({**INTEGER, "minimum": 8 * 10**18}, f"9{'0' * 18}"),
        ({**INTEGER, "minimum": 10**15, "multipleOf": 10**6}, f"3{'0' * 17}"),
        ({**INTEGER, "maximum": -(10**17)}, f"-2{'0' * 17}"),
        ({**INTEGER, "multipleOf": 4 * 10**8}, f"8{'0' * 8}"),
        ({**NUMBER, "multipleOf": 4 * 10**8}, f"8{'0' * 8}"),
        ({**NUMBER, "multipleOf": 0.0025, "minimum": 0}, "0.0025"),
        ({**NUMBER, "exclusiveMinimum": 0, "exclusiveMaximum": 1e-12}, "0.0000000000001"),
        ({**NUMBER, "minimum": 1e-9, "maximum": 1e-8}, "0.000000005"),
        ({**NUMBER, "minimum": 0.12345678901, "maximum": 0.12345678902}, "0.123456789015"),
        ({**NUMBER, "minimum": 1e17}, f"2{'0' * 17}.5"),
        ({**NUMBER, "minimum": 0, "maximum": 0}, "0"),
        ({"const": 10**25}, f"1{'0' * 25}"),
        ({"type": "integer", "enum": [10**25]}, f"1{'0' * 25}"),
        ({"type": "number", "const": 1e-20}, "1e-20"),
        ({"allOf": [INTEGER, {"minimum": 10**17}]}, f"1{'0' * 17}"),
    ],
)
def test_bounds_of_its_own_leave_a_number_room(constraints: Constraints, schema: dict[str, Any], text: str) -> None:
    rules = Rules()
    start = json_value(rules, schema)
    assert constraints.refusal(rules.text(start)) is None
    assert admitted(constraints, rules, start, text) == (len(text), True)
    jsonschema.validate(json.loads(text), schema)


def test_open_objects_are_written_with_more_than_they_declare(constraints: Constraints) -> None:
    schema = {"type": "object", "properties": {"n": INTEGER}, "additionalProperties": True}
    rules = Rules()
    text = '{"n": 1, "m": 2}'
    assert admitted(constraints, rules, json_value(rules, schema), text) == (len(text), True)
