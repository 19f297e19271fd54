"""Answers that must be JSON."""

from __future__ import annotations

import pytest

from glm_api.pipeline.worker.demands import DemandNotMet, json_answer

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
    ],
)
def test_anything_else_is_named(text: str, schema: dict[str, object], said: str) -> None:
    with pytest.raises(DemandNotMet, match=said):
        json_answer(text, schema)


def test_a_pattern_that_never_ends_is_ended() -> None:
    with pytest.raises(DemandNotMet, match="could not be checked"):
        json_answer('{"a": "' + "a" * 60 + '!"}', {"properties": {"a": {"pattern": "^(a|a)*$"}}})
