"""Answers that must be JSON."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glm_api.pipeline.worker.structured_output import ConstraintNotMet, json_answer
from tests.support.listener import Listener

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


@pytest.mark.parametrize(
    "text",
    ['{"name": "王芳", "age": 30}', '\n {"name": "王芳", "age": 30} ', '```json\n{"name": "王芳", "age": 30}\n```'],
)
def test_json_is_found_bare_or_in_a_fence(text: str) -> None:
    assert json_answer(text, PERSON) == '{"name": "王芳", "age": 30}'


@pytest.mark.parametrize(
    ("text", "schema", "said"),
    [
        ("hello", {}, "not valid JSON"),
        ('{"a": NaN}', {}, "not valid JSON"),
        ("[" * 100_000, {}, "not valid JSON"),
        ("[1]", {}, "not a JSON object"),
        ('{"name": "x"}', PERSON, r"does not fit the JSON schema at \$"),
        ('{"name": "x", "age": "old"}', PERSON, r"at \$.age"),
        ('{"a": "x"}', {"type": "nonsense"}, "could not be checked"),
        ('{"a": "x"}', {"properties": {"a": {"pattern": "("}}}, "could not be checked"),
        ('{"a": "x"}', {"properties": {"a": {"pattern": "a{99999999999999999999}"}}}, "could not be checked"),
        ("{}", {"$ref": "#/nope"}, "could not be checked"),
        ("{}", {"$dynamicRef": "#nope"}, "could not be checked"),
        ("{}", {"$ref": "#"}, "could not be checked"),
        ("{}", {"$ref": 0, "$schema": "http://json-schema.org/draft-04/schema#"}, "could not be checked"),
        ("{}", {"allOf": [{"$id": "x:y", "$ref": "#/y"}]}, "could not be checked"),
        ("{}", {"allOf": [{"$id": "http://[", "$ref": "#"}]}, "could not be checked"),
    ],
)
def test_the_missed_constraint_is_named(text: str, schema: dict[str, object], said: str) -> None:
    with pytest.raises(ConstraintNotMet, match=said):
        json_answer(text, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:{port}/x"},
        {"$ref": "#/h", "h": {"allOf": [{"$id": "http://127.0.0.1:{port}/x", "$ref": "#/y"}]}},
        {"$id": "http://127.0.0.1:{port}/x", "$ref": "y"},
    ],
)
def test_no_address_is_fetched(schema: dict[str, object], listener: Listener) -> None:
    with pytest.raises(ConstraintNotMet, match="could not be checked"):
        json_answer("{}", listener.at_port(schema))
    assert not listener.heard()


def test_no_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text("{}")
    with pytest.raises(ConstraintNotMet, match="could not be checked"):
        json_answer("{}", {"$ref": file.as_uri()})


def test_the_log_names_the_fault_in_one_line_and_nothing_that_was_sent(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConstraintNotMet):
        json_answer('{"a": "secret"}', {"properties": {"a": {"$ref": "#/secret"}}})
    logged = capfd.readouterr().out
    assert re.fullmatch(r"An answer could not be checked: \w+ at \S+\.py:\d+ in .+\n", logged)
    assert "secret" not in logged


def test_a_pattern_that_takes_for_ever_is_interrupted() -> None:
    with pytest.raises(ConstraintNotMet, match="could not be checked"):
        json_answer('{"a": "' + "a" * 60 + '!"}', {"properties": {"a": {"pattern": "^(a|a)*$"}}})
