"""Constraints hold an answer to a grammar; no grammar costs the process much time or memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glm_api.pipeline.worker.constraints import TOO_COSTLY, TRIAL_CPU_SECONDS, Constraints, GrammarError
from tests.support.model_files.fixtures import OpenModel


@pytest.fixture(scope="module")
def constraints(open_demo: OpenModel) -> Constraints:
    return open_demo.tokenizer.constraints


def json_grammar(schema: dict[str, Any]) -> str:
    return f"start: %json {json.dumps(schema)}\n"


def nested(depth: int, wrap: Callable[[Any], Any], schema: Any) -> Any:
    for _ in range(depth):
        schema = wrap(schema)
    return schema


def doubling(levels: int, keyword: str) -> dict[str, Any]:
    both = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n - 1}"}, {"items": {"$ref": f"#/$defs/d{n - 1}"}}]}
        for n in range(1, levels)
    }
    return {"$ref": f"#/$defs/d{levels - 1}", "$defs": {"d0": {"type": "integer"}, **both}}


# Within the limits of glm_api.api.json_schema. Some of them take minutes or gigabytes to compile.
HOSTILE: dict[str, dict[str, Any]] = {
    "common multiples": {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (7, 11, 13, 17, 19, 23)]},
    "a large multiple": {"type": "integer", "multipleOf": 999_983},
    "patterns that must all match": {"allOf": [{"type": "string", "pattern": f"a.{{{n}}}b"} for n in range(150)]},
    "optional properties": {"type": "object", "properties": {f"p{n}": {} for n in range(5000)}},
    "repeated repetitions": {"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"},
    "a window": {"type": "string", "pattern": "^.*a.{200}$"},
    "windows": {"type": "string", "pattern": "a.{1,50}b.{1,50}c.{1,50}d"},
    "letters": {"type": "string", "pattern": "\\p{L}+[^\\p{Lu}]" * 1000},
    "long values": {"anyOf": [{"const": "x" * 30_000}, {"const": "x" * 29_999 + "y"}]},
    "many values": {"enum": [f"{n:x}abc" for n in range(6000)]},
    "long arrays": nested(10, lambda inner: {"type": "array", "items": inner, "minItems": 10, "maxItems": 1000}, {}),
    "long strings": {"type": "string", "minLength": 10**6, "maxLength": 10**7},
    "choices in choices": nested(15, lambda inner: {"anyOf": [inner, {"type": "array", "items": inner}]}, {}),
    "doubled choices": doubling(12, "anyOf"),
    "doubled demands": doubling(12, "allOf"),
    "a circle": {"$ref": "#"},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_judging_a_hostile_schema_is_bounded_and_leaves_nothing_behind(constraints: Constraints, kind: str) -> None:
    before, memory = os.times(), resident_bytes()
    constraints.refusal(json_grammar(HOSTILE[kind]))
    after = os.times()
    # The clock of a process's CPU time ticks a hundred times a second.
    assert after.children_user + after.children_system - before.children_user - before.children_system < (
        TRIAL_CPU_SECONDS + 0.3
    )
    assert after.user + after.system - before.user - before.system < 0.3
    assert resident_bytes() - memory < 16 * 2**20


@pytest.mark.parametrize(
    ("text", "fits"), [("abc", True), ("ab", False), ("abcd", False), (" abc", False), ("", False), ("a<|user|>", True)]
)
def test_a_whole_text_fits_a_grammar_or_not(constraints: Constraints, text: str, fits: bool) -> None:
    assert constraints.fits('start: "abc" | /a<.*>/', text) == fits


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("kind", ["common multiples", "patterns that must all match", "optional properties"])
def test_what_costs_too_much_is_refused(constraints: Constraints, kind: str) -> None:
    assert constraints.refusal(json_grammar(HOSTILE[kind])) == TOO_COSTLY


@pytest.mark.parametrize("kind", HOSTILE)
def test_each_step_of_what_is_accepted_is_bounded(constraints: Constraints, kind: str) -> None:
    if constraints.refusal(json_grammar(HOSTILE[kind])) is not None:
        return
    constraint = constraints.compile(json_grammar(HOSTILE[kind]))
    chance = np.random.default_rng(0)
    for _ in range(40):
        begun = time.thread_time()
        try:
            allowed = np.flatnonzero(~constraint.forbidden())
            constraint.consume(int(chance.choice(allowed)))
        except GrammarError:
            return
        finally:
            assert time.thread_time() - begun < 0.5
        if constraint.over:
            return


def test_a_verdict_is_kept(constraints: Constraints, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = json_grammar({"not": {}})
    refusal = constraints.refusal(grammar)
    assert refusal is not None
    assert "not" in refusal
    monkeypatch.setattr(os, "fork", None)
    assert constraints.refusal(grammar) == refusal


def test_a_busy_machine_s_verdict_is_not_kept(constraints: Constraints, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = json_grammar({"const": "busy"})
    with monkeypatch.context() as busy:
        busy.setattr("glm_api.pipeline.worker.constraints.TRIAL_SECONDS", 0)
        assert constraints.refusal(grammar) == TOO_COSTLY
    assert constraints.refusal(grammar) is None


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("start: nothing\n", "unknown name"),
        ('start: "a', "lexer error"),
        ("start: /(?=a)b/\n", "look-ahead"),
        (json_grammar({"$ref": "#"}), "no answer can satisfy it"),
    ],
)
def test_what_is_no_grammar_is_refused(constraints: Constraints, grammar: str, reason: str) -> None:
    assert reason in (constraints.refusal(grammar) or "").lower()
    with pytest.raises(GrammarError):
        constraints.compile(grammar)


def test_an_answer_is_held_to_its_grammar(constraints: Constraints, open_demo: OpenModel) -> None:
    constraint = constraints.compile('start: "a" "b"?\n')
    a, b = (next(iter(open_demo.tokenizer.encode(f"\n{letter}")[-1:])) for letter in "ab")
    end = min(open_demo.tokenizer.end_ids)
    assert not constraint.forbidden()[a]
    assert constraint.forbidden()[b]
    assert constraint.forbidden()[end]
    constraint.consume(a)
    assert constraint.complete
    assert not constraint.forbidden()[end]
    constraint.consume(b)
    assert constraint.over
    with pytest.raises(GrammarError):
        constraints.compile('start: "a"\n').consume(b)


def test_answers_of_one_grammar_do_not_disturb_each_other(constraints: Constraints, open_demo: OpenModel) -> None:
    first, second = (constraints.compile('start: "a" "b"?\n') for _ in range(2))
    a = open_demo.tokenizer.encode("\na")[-1]
    first.consume(a)
    assert first.forbidden()[a]
    assert not second.forbidden()[a]
    assert (first.complete, second.complete) == (True, False)
