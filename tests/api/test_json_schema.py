"""JSON schemas in requests: an accepted schema works, and a harmful one is refused before it is used."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from glm_api.api.json_schema import KEYWORDS, MAX_DEPTH, check_schema, standalone
from glm_api.api.response_format import to_json_output
from glm_api.backend.errors import PromptError
from glm_api.pipeline import formats
from glm_api.pipeline.conversation import Conversation, JsonOutput, Message, Tool
from glm_api.pipeline.formats.answer_grammar import structured_grammar
from tests.support.client import CHAT, HELLO, refused
from tests.support.fake_pipeline import FakePipeline
from tests.support.listener import Listener
from tests.support.model_files.fixtures import OpenModel

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"

LEAD_NOWHERE: list[dict[str, Any]] = [
    {"$ref": "#/nope"},
    {"$ref": "#nope"},
    {"$dynamicRef": "#nope"},
    {"$recursiveRef": "#/properties", "$schema": DRAFT_2019, "properties": {}},
    {"properties": {"a": {"items": [{"not": {"$ref": "#/nope"}}]}}, "$schema": DRAFT_7},
    {"$ref": "#/$defs/a/0", "$defs": {"a": {}}},
    {"$ref": "#/allOf/1", "allOf": [{}]},
    {"$ref": "#/allOf/-1", "allOf": [{}]},
    {"$ref": f"#/allOf/{'1' * 5000}", "allOf": [{}]},
    {"$ref": "#/type", "type": "object"},
    {"$ref": "#/default", "default": None},
    {"$ref": "#/h", "h": {"$ref": "#/nope"}},
    {"$ref": "#/h", "h": {"type": 5}},
    {"$ref": "#/h", "h": {"properties": {"a": {"$ref": 0}}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "nonsense"}}, "$schema": DRAFT_7},
    {"$ref": "#a", "$defs": {"a": {"$anchor": "a"}}, "$schema": DRAFT_7},
    {"$ref": "#a", "enum": [{"$anchor": "a"}]},
    {"$ref": 0, "$schema": DRAFT_4},
    {"$ref": None, "$schema": DRAFT_7},
]
LEAD_ELSEWHERE: list[dict[str, Any]] = [
    {"$ref": "http://127.0.0.1:{port}/x"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "other.json"},
    {"$ref": ""},
    {"$ref": "#/h", "h": {"$ref": "http://127.0.0.1:{port}/x"}},
    {"$ref": "#/h", "h": {"allOf": [{"$id": "http://127.0.0.1:{port}/x", "$ref": "#/y"}]}},
    {"$ref": "#/h", "h": {"allOf": [{"$id": "file:///etc/x", "$ref": "#/y"}]}},
    {"allOf": [{"$id": "http://127.0.0.1:{port}/x", "not": {"$ref": "#/y"}}], "y": {}},
    {"allOf": [{"$id": "http://127.0.0.1:{port}/x", "$ref": "#"}]},
    {"allOf": [{"$id": "x:y", "$ref": "#/y"}]},
    {"allOf": [{"id": "http://127.0.0.1:{port}/x", "properties": {"a": {"$ref": "#/y"}}}], "$schema": DRAFT_4},
]
# The last one must not be retrieved.
DIALECTS = [
    "https://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft/2020-12/schema#",
    "http://json-schema.org/schema#",
    "https://json-schema.org/schema",
    "https://spec.openapis.org/oas/3.1/dialect/base",
    "https://spec.openapis.org/oas/3.0/schema/2021-09-28",
    "",
    "x",
    "http://127.0.0.1:{port}/meta",
]
CIRCLES: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"$dynamicRef": "#a", "$dynamicAnchor": "a"},
    {"$recursiveRef": "#", "$schema": DRAFT_2019},
    {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/b"}]}, "b": {"$ref": "#"}}},
    {"if": {"not": {"$ref": "#"}}},
    {"dependencies": {"a": {"$ref": "#"}}, "$schema": DRAFT_7},
]
NO_PATTERNS = [
    "(",
    "[",
    "a**",
    "a{2,1}",
    "a{99999999999999999999}",
    "a{0,99999999999999999999}",
    "[\u9000-\u4000]",
    r"(?i)[\u9000-\u4000]",
    "\\",
    r"(?i)\Q",
]
PATTERNS = [
    "",
    r"^\d{4}-\d{2}$",
    r"(?i)^[a-z]+\Z",
    r"(?mi)^(?i:[a-z]+)(?-i:b)[(?i]\(?i$",
    "[\u4e00-\u9fa5]{2,4}",
    r"[a-\u00ff][\xa0-\uffff]",
    r"(?P<year>\d+)(?<!x)",
    r"(?i)\\u4e00[\x7f-\xff]",
    "^{.*}$",
    r"\é",
    "(a{1000}){1000}",
]


def doubling(levels: int) -> dict[str, Any]:
    """A schema that applies 2 to the power of ``levels`` schemas to one value."""
    definitions = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/0", "$defs": {**definitions, str(levels): {}}}


def chain(length: int) -> dict[str, Any]:
    return {
        "$ref": "#/$defs/0",
        "$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} if n < length else {} for n in range(length + 1)},
    }


def with_pattern(pattern: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"pattern": pattern}}}


REFUSED: list[dict[str, Any]] = [
    *LEAD_NOWHERE,
    *LEAD_ELSEWHERE,
    *CIRCLES,
    *map(with_pattern, NO_PATTERNS),
    {"patternProperties": {"(": {}}},
    {"properties": {str(n): {"pattern": f"{n}" * 20} for n in range(500)}},
    {"properties": {str(n): {"pattern": f"(?P<a>{n})"} for n in range(50)}},
    doubling(14),
    chain(MAX_DEPTH + 1),
]
WORK: list[dict[str, Any]] = [
    {"$id": "https://example.com/person.json", "$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}},
    {"$schema": DRAFT_7, "$id": "http://example.com/a#", "$ref": "#/definitions/a", "definitions": {"a": {}}},
    {
        "$schema": DRAFT_4,
        "id": "http://example.com/a",
        "allOf": [{"$ref": "#/definitions/a"}],
        "definitions": {"a": {}},
    },
    # Tools nest what other tools made: with an address, or with the draft of the part.
    {"properties": {"a": {"$id": "Person", "$schema": DRAFT_7, "properties": {"b": {"type": "string"}}}}},
    {"$id": "http://a", "properties": {"a": {"$id": "http://[", "type": "string"}, "b": {"$ref": "#/properties/a"}}},
    {"$defs": {"User": {"id": "User", "type": "object"}}, "$ref": "#/$defs/User"},
    # Names of properties, and data.
    {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}, "id": {}, "pattern": {"pattern": "a"}}},
    {"default": {"$ref": "https://example.com"}, "enum": [{"$ref": 0}, {"$id": 5}], "const": {"pattern": "("}},
    {"examples": [{"$ref": "x"}], "x-more": {"$ref": "#/nope", "pattern": "("}},
    # Recursion that ends with the value.
    {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    {"$dynamicAnchor": "node", "additionalProperties": {"$dynamicRef": "#node"}},
    {"$schema": DRAFT_2019, "additionalProperties": {"$recursiveRef": "#"}, "$recursiveAnchor": True},
    # All ways to name a place.
    {"$ref": "#/x~1y/a%25~0", "x/y": {"a%~": {"type": "object"}}},
    {"items": {"$ref": "#/prefixItems/0"}, "prefixItems": [True]},
    {"not": {"$ref": "#a"}, "$defs": {"a": {"$anchor": "a", "type": "string"}}},
    {"not": {"$ref": "#a"}, "definitions": {"a": {"$id": "#a", "type": "string"}}, "$schema": DRAFT_7},
    {"not": {"$ref": "#a"}, "definitions": {"a": {"id": "#a", "type": "string"}}, "$schema": DRAFT_4},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}, "$schema": DRAFT_7},
    {"patternProperties": {"^a": {}, "b(?=c)": {}}, "additionalProperties": False},
    *({"$schema": name, "properties": {"a": {"pattern": "a+"}}} for name in DIALECTS),
    doubling(10),
    chain(MAX_DEPTH - 2),
    *map(with_pattern, PATTERNS),
]


@pytest.mark.parametrize("schema", REFUSED, ids=itertools.count())
def test_a_schema_that_cannot_be_evaluated_is_refused_with_its_param(
    client: FlaskClient, fake: FakePipeline, listener: Listener, schema: dict[str, Any]
) -> None:
    schema = listener.at_port(schema)
    named = {"name": "f", "schema": schema}
    format = {"type": "json_schema", "json_schema": named}
    response = client.post(CHAT, json={"messages": HELLO, "response_format": format})
    refused(response, "response_format.json_schema.schema")
    response = client.post("/v1/responses", json={"input": "Hi", "text": {"format": {"type": "json_schema", **named}}})
    refused(response, "text.format.schema")
    function = {"name": "f", "parameters": schema}
    response = client.post(CHAT, json={"messages": HELLO, "tools": [{"type": "function", "function": function}]})
    refused(response, "tools.0.function.parameters")
    refused(client.post(CHAT, json={"messages": HELLO, "functions": [function]}), "functions.0.parameters")
    response = client.post("/v1/responses", json={"input": "Hi", "tools": [{"type": "function", **function}]})
    refused(response, "tools.0.parameters")
    assert fake.jobs == []
    assert not listener.heard()


@pytest.mark.parametrize("schema", WORK, ids=itertools.count())
def test_an_accepted_schema_is_enforced_or_refused_with_the_reason(
    client: FlaskClient, fake: FakePipeline, open_demo: OpenModel, schema: dict[str, Any]
) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    response = client.post(CHAT, json={"messages": HELLO, "response_format": format})
    assert response.status_code == 200, response.text
    demanded = fake.conversations[-1].structured
    assert isinstance(demanded, JsonOutput)
    is_judged(demanded, open_demo)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_schema_of_any_dialect_is_taken_and_enforced(
    client: FlaskClient, fake: FakePipeline, open_demo: OpenModel, listener: Listener, name: str
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}, "required": ["a"]}
    declared = listener.at_port({"$schema": name, **schema})
    format = {"type": "json_schema", "json_schema": {"name": "f", "schema": declared}}
    function = {"type": "function", "function": {"name": "f", "parameters": declared, "strict": True}}
    response = client.post(CHAT, json={"messages": HELLO, "response_format": format, "tools": [function]})
    assert response.status_code == 200, response.text
    conversation = fake.conversations[-1]
    assert isinstance(conversation.structured, JsonOutput)
    grammar = structured_grammar(open_demo.tokenizer, conversation.structured)
    assert open_demo.tokenizer.constraints.fits(grammar, '{"a": "aa"}')
    assert not open_demo.tokenizer.constraints.fits(grammar, '{"a": "b"}')
    # A strict tool that no grammar can hold would be refused.
    assert open_demo.format.render(conversation).output.grammar
    assert not listener.heard()


@pytest.mark.parametrize(
    ("schema", "fit", "unfit"),
    [
        ({"type": "string", "minLength": 2.0, "maxLength": 3.0}, '"ab"', '"a"'),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1.0, "maxItems": 2.0}, "[1]", "[]"),
    ],
)
def test_a_count_may_have_decimals_of_zero(open_demo: OpenModel, schema: Any, fit: str, unfit: str) -> None:
    properties = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    check_schema(properties)
    grammar = structured_grammar(open_demo.tokenizer, JsonOutput(json.dumps(properties), "p"))
    assert open_demo.tokenizer.constraints.fits(grammar, f'{{"a": {fit}}}')
    assert not open_demo.tokenizer.constraints.fits(grammar, f'{{"a": {unfit}}}')
    strict = Tool("f", parameters=json.dumps(properties), strict=True)
    assert open_demo.format.render(Conversation((Message("user", "x"),), (strict,))).output.grammar


@pytest.mark.parametrize("schema", [{"$schema": 5}, {"$schema": None}])
def test_a_dialect_must_be_a_text(client: FlaskClient, schema: dict[str, Any]) -> None:
    function = {"type": "function", "function": {"name": "f", "parameters": schema}}
    refused(client.post(CHAT, json={"messages": HELLO, "tools": [function]}), "tools.0.function.parameters")


def is_judged(demanded: JsonOutput, model: OpenModel) -> None:
    """Find that there is a grammar for a demand, or a reason why there is none; nothing else may be raised."""
    with contextlib.suppress(PromptError):
        structured_grammar(model.tokenizer, demanded)


@pytest.mark.parametrize("pattern", [r"\p{L}+", r"(?<year>\d+)", r"(?<=a*)b", r"\u{1F600}", r"\cJ"])
def test_ecma_262_patterns_that_python_does_not_know_are_accepted(pattern: str) -> None:
    check_schema(with_pattern(pattern))


def test_addresses_and_inner_drafts_are_removed() -> None:
    schema = {
        "$id": "https://example.com/a",
        "$schema": DRAFT_7,
        "properties": {"$id": {"type": "string"}, "a": {"$id": "b", "$schema": DRAFT_4, "type": "string"}},
        "default": {"$id": "c"},
    }
    assert standalone(schema) == {
        "$schema": DRAFT_7,
        "properties": {"$id": {"type": "string"}, "a": {"type": "string"}},
        "default": {"$id": "c"},
    }
    assert schema["$id"] == "https://example.com/a"


LONG: list[dict[str, Any]] = [
    with_pattern("(?i)" + "[!-\uffff]" * 3000),
    with_pattern("(?i:" + "[!-\uffff]" * 3000 + ")"),
    with_pattern("[!-\uffff]" * 3000),
    {"patternProperties": {f"[!-\uffff]{n}": {} for n in range(200)}},
    {"patternProperties": {rf"\w{{1000}}{n}": {} for n in range(2500)}},
    {"properties": {"a": {"$ref": "#/properties/a"}, **{str(n): {"$ref": "#"} for n in range(2500)}}},
    {"$ref": "#" + "/a" * 30_000},
    doubling(400),
    chain(1500),
]


# By far most of them take a thousandth of it; compiled or tried out, they would take minutes or for ever.
@pytest.mark.parametrize("schema", LONG, ids=itertools.count())
def test_no_schema_takes_the_web_process_a_second(client: FlaskClient, schema: dict[str, Any]) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "f", "schema": schema}}
    begun = time.process_time()
    response = client.post(CHAT, json={"messages": HELLO, "response_format": format})
    assert time.process_time() - begun < 1
    assert response.status_code in (200, 400)


_WORDS = ["a", "b", "$ref", "$id", "allOf"]
_TARGETS = st.one_of(
    st.sampled_from(
        ["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/allOf/0", "#/allOf", "#a", "#/a", "x", "#/a/b"]
    ),
    st.lists(st.sampled_from(["a", "b", "$defs", "properties", "allOf", "0", "items"]), max_size=4).map(
        lambda parts: "#/" + "/".join(parts)
    ),
)
_DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-3, 3), st.sampled_from([*_WORDS, "#", "("])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(_WORDS), inner, max_size=2)),
    max_leaves=5,
)


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas that look right, with a little of anything in between."""
    named = st.dictionaries(st.sampled_from(_WORDS), inner, max_size=2)
    several = st.lists(inner, min_size=1, max_size=2)
    pattern = st.sampled_from(["a", "(", "(?i)b", "a{99999999999999999999}", r"\p{L}", "(a)"])
    right: dict[str, st.SearchStrategy[Any]] = {
        **{word: inner for words, _ in KEYWORDS.values() for word in words},
        **{word: named for _, words in KEYWORDS.values() for word in words},
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
        **dict.fromkeys(("$ref", "$dynamicRef", "$recursiveRef"), _TARGETS),
        **dict.fromkeys(("$id", "id"), st.sampled_from(["x", "#a", "http://[", "http://127.0.0.1:1/", "#"])),
        **dict.fromkeys(("$anchor", "$dynamicAnchor"), st.sampled_from(["a", "b"])),
        "$recursiveAnchor": st.booleans(),
        "$schema": st.sampled_from([*KEYWORDS, DRAFT_7, "x"]),
        "pattern": pattern,
        "patternProperties": st.dictionaries(pattern, inner, max_size=2),
        "type": st.sampled_from(["object", "array", "string", "number", "nonsense"]),
        "multipleOf": st.sampled_from([1, 0.1, 0]),
        "enum": st.lists(_DATA, min_size=1, max_size=2),
        "a": inner,
    }
    # Beside `"items": true` jsonschema raises TypeError: such a schema is taken, and fails when there is an answer.
    del right["additionalItems"]
    entries = st.one_of(
        st.one_of(*(st.tuples(st.just(word), value) for word, value in right.items())),
        st.tuples(st.sampled_from([*right, "b"]), _DATA),
    )
    return st.lists(entries, max_size=4).map(dict)


SCHEMAS = st.recursive(st.sampled_from([{}, True, {"type": "string"}]), schemas, max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(schema=schemas(SCHEMAS))
@example(schema={"dependencies": {"a": {}, "b": ["a"]}, "$ref": "#a", "$schema": DRAFT_7})
def test_any_schema_is_refused_or_can_be_judged(schema: dict[str, Any], open_demo: OpenModel) -> None:
    try:
        check_schema(schema)
    except ValidationError:
        return
    is_judged(to_json_output(schema, "p"), open_demo)
    arguments = Tool("f", parameters=json.dumps(schema))
    for family in ("ChatGLM3", "ChatGLM4"):
        formats.format_for(family, open_demo.tokenizer).render(Conversation((Message("user", "hi"),), (arguments,)))
