"""JSON schemas of the kinds that users send, made at random, and answers that a grammar admits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from glm_api.pipeline.worker.constraints import Constraint

NAMES = ("city", "days", "unit", "max-count", "Notion-Version", "温度", "is_ok", "from", "x", "$filter", "tags", "note")
WORDS = ("celsius", "fahrenheit", "北京", "a b", "it's", 'say "hi"', "1", "ünï", "😀")
PATTERNS = ("^[a-z]{2,5}$", "^[0-9]{3}-[0-9]{4}$", "^(red|green|blue)$", "^#[0-9a-f]{6}$", "^[\\u4e00-\\u9fff]{1,4}$")
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
