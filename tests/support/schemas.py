"""JSON schemas of the kinds that users send, made at random, and answers that a grammar admits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from glm_api.pipeline.worker.constraints import Constraint

NAMES = ("city", "days", "unit", "max-count", "Notion-Version", "温度", "is_ok", "from", "x", "$filter", "tags", "note")
WORDS = ("celsius", "fahrenheit", "北京", "a b", "it's", 'say "hi"', "1", "ünï", "😀")
PATTERNS = ("^[a-z]{2,5}$", "^[0-9]{3}-[0-9]{4}$", "^(red|green|blue)$", "^#[0-9a-f]{6}$", "^[\\u4e00-\\u9fff]{1,4}$")
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4", "uri")


def random_schema(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """A schema of any value."""
    kinds = ["string", "pattern", "format", "integer", "number", "range", "boolean", "null", "enum", "const", "types"]
    if depth:
        kinds += ["array", "object", "object", "anyOf", "$ref", "dictionary"]
    match chance.choice(kinds):
        case "string":
            least = chance.randrange(4)
            return chance.choice([{}, {"minLength": least, "maxLength": least + chance.randrange(20)}]) | {
                "type": "string"
            }
        case "pattern":
            return {"type": "string", "pattern": chance.choice(PATTERNS)}
        case "format":
            return {"type": "string", "format": chance.choice(FORMATS)}
        case "integer" | "number" as kind:
            return {"type": kind, "description": "How many"}
        case "range":
            least = chance.randrange(-50, 50)
            kind = chance.choice(["integer", "number"])
            return {"type": kind, "minimum": least, "maximum": least + chance.randrange(1, 100)}
        case "boolean" | "null" as kind:
            return {"type": kind}
        case "enum":
            values: list[Any] = chance.sample(WORDS, 3)
            return {"enum": values + chance.choice([[], [1, None, True]])}
        case "const":
            return {"const": chance.choice(WORDS)}
        case "types":
            return {"type": chance.sample(["string", "integer", "boolean", "null"], 2)}
        case "array":
            least = chance.randrange(3)
            bounds = chance.choice([{}, {"minItems": least, "maxItems": least + chance.randrange(1, 4)}])
            return {"type": "array", "items": random_schema(chance, depth - 1)} | bounds
        case "anyOf":
            return {"anyOf": [random_schema(chance, depth - 1) for _ in range(chance.randrange(1, 4))]}
        case "dictionary":
            return {"type": "object", "additionalProperties": random_schema(chance, 0)}
        case "$ref":
            return {"$ref": "#/$defs/shared"}
        case _:
            return random_object(chance, depth - 1)


def random_object(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """A schema of an object."""
    names = chance.sample(NAMES, chance.randrange(1, 5))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: random_schema(chance, depth) for name in names},
        "required": [name for name in names if chance.random() < 0.6],
    }
    if chance.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def random_parameters(seed: int) -> dict[str, Any]:
    """A whole schema of an object, as the parameters of a function are."""
    chance = random.Random(seed)
    shared = chance.choice(
        [
            {"type": "string", "maxLength": 8},
            {"type": "object", "properties": {"left": {"$ref": "#/$defs/shared"}, "value": {"type": "integer"}}},
        ]
    )
    return {**random_object(chance), "$defs": {"shared": shared}}


# Schemas of the kinds that the JSON Schema Test Suite and JSONSchemaBench have, each with what it is about.
KINDS: dict[str, Any] = {
    "nested objects": {
        "type": "object",
        "properties": {
            "person": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
                "required": ["name", "age"],
                "additionalProperties": False,
            }
        },
        "required": ["person"],
    },
    "references": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
            }
        },
    },
    "a reference to the root": {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}, "n": {"type": "number"}},
    },
    "a reference to an anchor": {"$ref": "#name", "$defs": {"a": {"$anchor": "name", "type": "boolean"}}},
    "a pointer with escapes": {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"enum": [1, "one"]}}},
    "a reference with neighbours": {
        "$ref": "#/$defs/a",
        "required": ["b"],
        "$defs": {"a": {"type": "object", "properties": {"b": {"type": "integer"}, "c": {"type": "null"}}}},
    },
    "anyOf of objects": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
                "required": ["kind"],
            },
            {"type": "object", "properties": {"kind": {"const": "dog"}, "good": {"const": True}}, "required": ["kind"]},
        ]
    },
    "anyOf of types": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}, {"type": "null"}]},
    "oneOf that excludes itself": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    "oneOf by a constant": {
        "oneOf": [
            {"type": "object", "properties": {"t": {"const": name}, "v": {"type": kind}}, "required": ["t", "v"]}
            for name, kind in (("s", "string"), ("b", "boolean"))
        ]
    },
    "allOf of objects": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string", "maxLength": 4}}, "required": ["b"]},
        ],
        "maxProperties": 3,
    },
    "allOf of bounds": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 30}]},
    "neighbours of anyOf": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "anyOf": [{"properties": {"b": {"type": "null"}}, "required": ["b"]}, {"properties": {"c": {"const": 1}}}],
    },
    "enum of everything": {"enum": [None, True, 0, -1.5, "", 'a"b\\c', "北京", [1, [2]], {"a": {"b": None}}]},
    "const of an object": {"const": {"z": 1, "a": ["x", {"y": "é😀"}]}},
    "no type": {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "types": {"type": ["array", "null"], "items": {"type": "boolean"}, "maxItems": 2},
    "anything": {"properties": {"a": True}, "type": "object", "required": ["a"]},
    "an empty object": {"type": "object", "additionalProperties": False},
    "a forbidden property": {"type": "object", "properties": {"a": {"const": 1}, "b": False}, "required": ["a"]},
    "a required property that is not declared": {
        "type": "object",
        "required": ["a", "b"],
        "properties": {"b": {"type": "null"}},
    },
    "dictionary": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    "dictionary with one key at least": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "boolean"},
    },
    "dictionary with names by pattern": {
        "type": "object",
        "patternProperties": {"^x-": {"type": "integer"}, "^y\\d$": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "names of all kinds": {
        "type": "object",
        "properties": {
            name: {"type": "null"}
            for name in ("", " ", "a b", "$ref", "温度", "it's", '"', "\\", "\n", "😀", "x-guidance")
        },
        "required": ["", "温度", '"', "\\", "\n", "x-guidance"],
    },
    "array of unique kinds": {"type": "array", "prefixItems": [{"const": "a"}, {"type": "integer"}], "items": False},
    "array with a rest": {
        "type": "array",
        "prefixItems": [{"type": "null"}],
        "items": {"type": "boolean"},
        "minItems": 2,
        "maxItems": 4,
    },
    "array of arrays": {
        "type": "array",
        "items": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2},
        "maxItems": 3,
    },
    "array of an older draft": {
        "$schema": DRAFT_7,
        "type": "array",
        "items": [{"type": "integer"}],
        "additionalItems": False,
    },
    "exclusive bounds": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 6},
    "exclusive bounds of an older draft": {
        "$schema": DRAFT_4,
        "type": "integer",
        "minimum": 3,
        "exclusiveMinimum": True,
        "maximum": 5,
    },
    "a number between numbers": {"type": "number", "minimum": -0.5, "maximum": 0.25},
    "a negative range": {"type": "integer", "minimum": -120, "maximum": -7},
    "huge bounds": {"type": "integer", "minimum": -(10**15), "maximum": 10**15},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
    "multiples of a fraction": {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 100},
    "length in characters": {"type": "string", "minLength": 2, "maxLength": 2},
    "pattern without anchors": {"type": "string", "pattern": "[0-9]{2}", "maxLength": 12},
    "pattern with alternatives": {"type": "string", "pattern": "^(a|b+)c?$"},
    "pattern of digits": {"type": "string", "pattern": "^\\d{3}-\\w{2}$"},
    "pattern of Chinese": {"type": "string", "pattern": "^[\u4e00-\u9fff]{2,4}$"},
    "pattern of quotes": {"type": "string", "pattern": "^[\"'\\\\]{1,3}$"},
    "pattern with a slash": {"type": "string", "pattern": "^/[a-z]+/$"},
    "unknown format": {"type": "string", "format": "phone", "maxLength": 5},
    "unknown keywords": {"type": "integer", "nullable": True, "x-order": 1, "example": 5, "propertyOrdering": "a"},
    "address": {
        "$id": "https://example.com/s",
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"type": "null"}},
    },
    "definitions": {"$schema": DRAFT_7, "$ref": "#/definitions/a", "definitions": {"a": {"type": "boolean"}}},
    "a tree of menus": {
        "type": "object",
        "properties": {
            "菜单": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": {
                    "type": "object",
                    "properties": {
                        "名称": {"type": "string", "minLength": 1, "maxLength": 6},
                        "价格": {"type": "number", "minimum": 0, "maximum": 999},
                        "辣": {"enum": ["不辣", "微辣", "特辣"]},
                    },
                    "required": ["名称", "价格", "辣"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["菜单"],
        "additionalProperties": False,
    },
}


def random_ids(
    constraint: Constraint, pieces: list[bytes], end_ids: frozenset[int], seed: int, begin: bytes = b""
) -> list[int] | None:
    """Ids that ``constraint`` admits, chosen one by one at random; None if they did not come to an end.

    Their text begins with ``begin``. An id without a text is a special token.
    """
    chance = np.random.default_rng(seed)
    closing = {b"'", b'"', b")", b"]", b"}"}
    ids: list[int] = []
    for _ in range(600):
        allowed = np.flatnonzero(~constraint.forbidden())
        assert len(allowed), "nothing may follow"
        if not begin and ((constraint.complete and chance.random() < 0.5) or end_ids.issuperset(allowed)):
            return ids
        allowed = allowed[~np.isin(allowed, list(end_ids))]
        if begin:
            choices = [token for token in allowed if pieces[token] and begin.startswith(pieces[token])]
        elif chance.random() < 0.3:
            choices = [token for token in allowed if not pieces[token]]
        else:
            choices = [token for token in allowed if pieces[token] in closing] if chance.random() < 0.5 else []
        token = int(chance.choice(choices or allowed))
        assert not begin or choices, f"{begin!r} is not admitted"
        begin = begin[len(pieces[token]) :]
        constraint.consume(token)
        ids.append(token)
    return None


def random_answer(constraint: Constraint, pieces: list[bytes], end_ids: frozenset[int], seed: int) -> bytes | None:
    """A text that ``constraint`` admits, chosen id by id at random; None if it did not come to an end."""
    ids = random_ids(constraint, pieces, end_ids, seed)
    return None if ids is None else b"".join(pieces[token] for token in ids)
