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
    kinds += ["exclusive", "multiple"]
    if depth:
        kinds += ["array", "tuple", "object", "object", "anyOf", "$ref", "dictionary"]
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
        case "exclusive":
            least = chance.randrange(-50, 50)
            bounds = {"exclusiveMinimum": least, "exclusiveMaximum": least + chance.randrange(2, 100)}
            return {"type": chance.choice(["integer", "number"]), **bounds}
        case "multiple":
            return {"type": "integer", "multipleOf": chance.randrange(2, 10), "minimum": 0, "maximum": 1000}
        case "boolean" | "null" as kind:
            return {"type": kind}
        case "enum":
            values: list[Any] = chance.sample(WORDS, 3)
            return {"enum": values + chance.choice([[], [1, None, True]])}
        case "const":
            word: Any = chance.choice(WORDS)
            return {"const": chance.choice([word, word, [word, 1.5], {word: {"a": None}}])}
        case "types":
            return {"type": chance.sample(["string", "integer", "boolean", "null"], 2)}
        case "array":
            least = chance.randrange(3)
            bounds = chance.choice([{}, {"minItems": least, "maxItems": least + chance.randrange(1, 4)}])
            return {"type": "array", "items": random_schema(chance, depth - 1)} | bounds
        case "tuple":
            items = [random_schema(chance, depth - 1) for _ in range(chance.randrange(1, 3))]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": chance.randrange(len(items) + 1)}
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


def bounded(schema: Any) -> Any:
    """Return ``schema`` with a bound for each string, array, number and dictionary that has none.

    A small model that repeats itself comes to an end then.
    """
    if isinstance(schema, list):
        return [bounded(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _bounded_under(key, value) for key, value in schema.items()}
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "string" in kinds and "pattern" not in schema and schema.get("format", "email") in ("email", "uri"):
        schema.setdefault("maxLength", schema.get("minLength", 0) + 12)
    if "array" in kinds and "prefixItems" not in schema:
        schema.setdefault("maxItems", schema.get("minItems", 0) + 2)
    if {"integer", "number"} & set(kinds) and not {"minimum", "exclusiveMinimum"} & schema.keys():
        schema |= {"minimum": -1000, "maximum": 1000}
    if "number" in kinds:
        schema.setdefault("multipleOf", 0.25)
    if isinstance(schema.get("additionalProperties"), dict):
        schema.setdefault("maxProperties", 2)
    return schema


def _bounded_under(key: str, value: Any) -> Any:
    if key in ("properties", "$defs"):
        return {name: bounded(inner) for name, inner in value.items()}
    return bounded(value) if key in ("items", "prefixItems", "anyOf", "additionalProperties") else value


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
    "bounds in a reference": {
        "type": "array",
        "items": {"$ref": "#/definitions/percent"},
        "minItems": 2,
        "maxItems": 3,
        "definitions": {"percent": {"type": "integer", "minimum": 0, "maximum": 100}},
    },
    "references in references": {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}, "required": ["b"]},
            "b": {"type": "array", "items": {"$ref": "#/$defs/c"}, "maxItems": 2},
            "c": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
        },
    },
    "an optional value that may be null": {
        "type": "object",
        "properties": {"a": {"type": ["integer", "null"], "minimum": 1, "maximum": 9}, "b": {"type": ["null"]}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "many optional properties": {
        "type": "object",
        "properties": {f"p{number}": {"type": "boolean"} for number in range(12)},
        "additionalProperties": False,
    },
    "anyOf in anyOf": {
        "anyOf": [
            {"anyOf": [{"const": "a"}, {"type": "integer", "minimum": 10, "maximum": 20}]},
            {"type": "array", "items": {"anyOf": [{"type": "null"}, {"const": "b"}]}, "maxItems": 2},
        ]
    },
    "enum of numbers": {"type": "number", "enum": [0, 1, 1.5, -2e3]},
    "enum with a type that narrows it": {"type": "string", "enum": ["a", 1, None, "é"]},
    "an exact length": {"type": "string", "minLength": 5, "maxLength": 5},
    "a time": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]},
    "identifiers": {
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "host": {"type": "string", "format": "ipv4"},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["id", "host", "day"],
        "additionalProperties": False,
    },
    "a package": {
        "$schema": DRAFT_7,
        "title": "A package",
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,15}$"},
            "version": {"type": "string", "pattern": "^\\d{1,2}\\.\\d{1,2}\\.\\d{1,2}$", "default": "1.0.0"},
            "private": {"type": "boolean", "default": False},
            "scripts": {
                "type": "object",
                "properties": {name: {"$ref": "#/definitions/script"} for name in ("build", "test")},
                "additionalProperties": False,
            },
            "license": {"anyOf": [{"enum": ["MIT", "Apache-2.0"]}, {"type": "null"}]},
        },
        "required": ["name", "version"],
        "additionalProperties": False,
        "definitions": {"script": {"type": "string", "minLength": 1, "maxLength": 20}},
    },
    "a deployment": {
        "type": "object",
        "properties": {
            "apiVersion": {"const": "apps/v1"},
            "kind": {"const": "Deployment"},
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer", "minimum": 0, "maximum": 20},
                    "containers": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 2,
                        "items": {
                            "type": "object",
                            "properties": {
                                "image": {"type": "string", "pattern": "^[a-z]{1,8}:[0-9]{1,3}$"},
                                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                                "pull": {"enum": ["Always", "Never"]},
                            },
                            "required": ["image"],
                            "additionalProperties": False,
                        },
                    },
                },
                "required": ["replicas", "containers"],
                "additionalProperties": False,
            },
        },
        "required": ["apiVersion", "kind", "spec"],
        "additionalProperties": False,
    },
    "an event": {
        "description": "A click",
        "type": "object",
        "properties": {
            "event": {"enum": ["click", "scroll"]},
            "x": {"type": "integer", "minimum": 0, "maximum": 4096},
            "y": {"type": "integer", "minimum": 0, "maximum": 4096},
            "target": {"type": ["string", "null"], "maxLength": 10},
        },
        "required": ["event", "x", "y"],
        "additionalProperties": False,
    },
    "a place on a map": {
        "type": "object",
        "properties": {
            "type": {"const": "Point"},
            "coordinates": {
                "type": "array",
                "prefixItems": [
                    {"type": "integer", "minimum": -180, "maximum": 180},
                    {"type": "integer", "minimum": -90, "maximum": 90},
                ],
                "items": False,
                "minItems": 2,
            },
        },
        "required": ["type", "coordinates"],
        "additionalProperties": False,
    },
    "an order": {
        "type": "object",
        "properties": {
            "订单号": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{6}$"},
            "状态": {"enum": ["待付款", "已发货", "已完成"]},
            "商品": {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {
                        "名": {"type": "string", "pattern": "^[\u4e00-\u9fff]{2,4}$"},
                        "数量": {"type": "integer", "minimum": 1, "maximum": 99},
                    },
                    "required": ["名", "数量"],
                    "additionalProperties": False,
                },
            },
            "备注": {"type": ["string", "null"], "maxLength": 8},
        },
        "required": ["订单号", "状态", "商品"],
        "additionalProperties": False,
    },
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
