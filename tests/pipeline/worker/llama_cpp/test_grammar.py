"""Grammars are written as llama.cpp takes them, and say the same."""

from __future__ import annotations

import json

import pytest

from glm_api.pipeline.formats.call_grammar import LAYOUT
from glm_api.pipeline.worker.llama_cpp.grammar import for_llama_cpp
from tests.support.model_files.fixtures import OpenModel


def rule(**schema: object) -> str:
    return f"start: r0\nr0: %json {json.dumps({**schema, 'x-guidance': LAYOUT})}\n"


def test_a_grammar_without_schemas_stays_as_it_is() -> None:
    grammar = 'start: "%json {}" r0\nr0: /%json {"type": "string"}/\n'
    assert for_llama_cpp(grammar) == grammar


def test_what_llama_cpp_does_not_know_is_left_out() -> None:
    written = for_llama_cpp(rule(type="string", pattern="^a$"))
    assert "json_allowed_escapes" not in written
    assert '"pattern": "^a$"' in written
    assert '"whitespace_flexible": false' in written


@pytest.mark.parametrize("schema", [{}, {"maxLength": 3}, {"minLength": 2, "maxLength": 4}])
def test_a_plain_string_stays_the_same(open_demo: OpenModel, schema: dict[str, int]) -> None:
    grammar = rule(type="string", **schema)
    constraints = open_demo.tokenizer.constraints
    for text in (
        '""',
        '"a"',
        '"ab"',
        '"abc"',
        '"abcd"',
        '"abcde"',
        '"\\n"',
        '"\\""',
        '"天地"',
        '"a\nb"',
        '"\\u0041"',
        "a",
    ):
        verdicts = []
        for written in (grammar, for_llama_cpp(grammar)):
            constraint = constraints.compile(written)
            try:
                for token in open_demo.tokenizer.encode(f"\n{text}")[2:]:
                    constraint.consume(token)
                verdicts.append(constraint.complete)
            except ValueError:
                verdicts.append(False)
        assert verdicts[0] == verdicts[1], text
