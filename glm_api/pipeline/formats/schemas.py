"""Bring a JSON schema into the form of which a grammar is made.

What the schema admits stays or becomes less, never more, except in `relaxed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Schema = dict[str, Any]

LATEST = "https://json-schema.org/draft/2020-12/schema"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema"
DRAFT_6 = "http://json-schema.org/draft-06/schema"
DRAFT_4 = "http://json-schema.org/draft-04/schema"
_DRAFTS = {name.partition("://")[2]: name for name in (LATEST, DRAFT_2019, DRAFT_7, DRAFT_6, DRAFT_4)}
_DRAFT_NAME = re.compile(r"https?://(.*?)#?\Z", re.DOTALL)

# Keywords that say nothing of the value.
ANNOTATIONS = {"title", "description", "default", "examples", "example", "deprecated", "$comment", "$schema", "$defs"}
ANNOTATIONS |= {"definitions", "readOnly", "writeOnly"}
# The keywords whose value is a schema or a list of schemas, and those whose value is an object of named schemas.
_SCHEMAS = {"items", "prefixItems", "additionalItems", "additionalProperties", "allOf", "anyOf", "oneOf", "not", "if"}
_SCHEMAS |= {"then", "else", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
# The keywords that `relaxed` keeps: those of which nearly every grammar can be made.
_PLAIN = {"type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "enum", "const"}
_PLAIN |= {"anyOf", "oneOf", "$ref", "$defs", "definitions", "minimum", "maximum", "minLength", "maxLength"}
# All keywords of the drafts beside these; any other one says nothing either.
_KEYWORDS = ANNOTATIONS | _SCHEMAS | _NAMED | _PLAIN
_KEYWORDS |= {"$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "pattern", "format"}
_KEYWORDS |= {"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems", "minContains", "maxContains"}
_KEYWORDS |= {"minProperties", "maxProperties", "dependencies", "dependentRequired"}
# To JSON Schema 24.0 is an integer too.
_COUNTS = {f"{bound}{what}" for bound in ("min", "max") for what in ("Length", "Items", "Properties", "Contains")}
# The drafts say that an unknown format is to be ignored. llguidance refuses one.
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
# No answer reaches a bound beyond this.
_FAR = 2**31
# llguidance computes ten times the digits of a multipleOf with 32 bits.
_LARGEST_MULTIPLE = (2**32 - 1) // 10
# They may stand in brackets too: a class may be a part of another.
_ASCII_CLASSES = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
# With these a schema may depend on how another one treats additional properties.
_ENTANGLING = {"allOf", "not", "if", "unevaluatedProperties", "dependentSchemas", "$dynamicRef", "$recursiveRef"}
_APPLICATORS = {"$ref", "anyOf", "oneOf"}
_OF_OBJECTS = {"properties", "required", "additionalProperties", "patternProperties"}


def draft_of(schema: Schema) -> str | None:
    """Return the draft that ``schema`` declares, by its name without the final #; None for any other dialect, or none.

    Programs spell the names with https for http and without the #. Nothing is ever retrieved.
    """
    name = schema.get("$schema")
    found = _DRAFT_NAME.match(name) if isinstance(name, str) else None
    return _DRAFTS.get(found[1]) if found else None


class Unenforceable(Exception):
    """No grammar can enforce the schema; the message tells why."""


def prepared(schema: Schema) -> Schema:
    """Return ``schema`` without what says nothing and would only be refused, its objects closed where that is safe.

    An object without ``additionalProperties`` gets none: a model would go on inventing them. Raises `Unenforceable`.
    """
    entangled = False
    if "$schema" in schema:
        # llguidance refuses a name that it does not know.
        draft = draft_of(schema)
        schema = {key: value for key, value in schema.items() if key != "$schema"}
        if draft is not None:
            schema["$schema"] = draft

    def look(node: Schema) -> Schema:
        nonlocal entangled
        applied = _APPLICATORS & node.keys()
        entangled |= bool(_ENTANGLING & node.keys() or (applied and _OF_OBJECTS & node.keys()) or len(applied) > 1)
        return _simplified(node)

    simplified: Schema = _rewritten(schema, look)
    closed: Schema = _rewritten(simplified, _closed)
    return simplified if entangled else closed


def arguments(parameters: Schema) -> Schema:
    """Return the schema of a call's arguments, which are an object, from the parameters that a function declares."""
    said = parameters.keys() - ANNOTATIONS - {"type"}
    return {**parameters, "type": "object"} if said else {"type": "object", "properties": {}}


def relaxed(schema: Schema) -> Schema:
    """Return ``schema`` with only those keywords of which nearly every grammar can be made; ``oneOf`` as ``anyOf``."""

    def relax(node: Schema) -> Schema:
        kept = {key: value for key, value in node.items() if key in _PLAIN}
        if "oneOf" in kept:
            kept.setdefault("anyOf", kept.pop("oneOf"))
            kept.pop("oneOf", None)
        return kept

    return prepared(_rewritten(schema, relax))


def _simplified(node: Schema) -> Schema:
    node = {key: int(value) if key in _COUNTS and _is_whole(value) else value for key, value in node.items()}
    least = node.get("minProperties")
    if isinstance(least, int) and least > max(1, len(node.get("required", []))):
        # A grammar cannot tell whether the keys of an object differ.
        raise Unenforceable('Unimplemented keys: ["minProperties"] beyond the required ones')
    multiple = node.get("multipleOf")
    if isinstance(multiple, (int, float)) and _digits(multiple) > _LARGEST_MULTIPLE:
        raise Unenforceable(f'Unimplemented keys: ["multipleOf"] with digits of more than {_LARGEST_MULTIPLE}')
    kept = {key: value for key, value in node.items() if not _is_void(key, value)}
    if isinstance(pattern := kept.get("pattern"), str):
        kept["pattern"] = with_ascii_classes(pattern)
    if isinstance(named := kept.get("patternProperties"), dict):
        kept["patternProperties"] = {with_ascii_classes(pattern): value for pattern, value in named.items()}
    return kept


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _digits(number: float) -> int:
    """Return the digits of ``number`` as an integer: without its point, and without zeros behind that."""
    _, digits, exponent = Decimal(str(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    return int("".join(map(str, digits)) + "0" * exponent)


def with_ascii_classes(pattern: str) -> str:
    r"""Return ``pattern`` with ``\d`` and ``\w`` as ECMA-262 means them. To llguidance they are any language's."""
    return _ESCAPE.sub(lambda found: _ASCII_CLASSES.get(found[1], found[0]), pattern)


def _is_void(key: str, value: Any) -> bool:
    if key in ("$id", "id"):
        # An address. One that begins with # is the anchor of an older draft.
        return isinstance(value, str) and not value.startswith("#")
    if key == "format":
        return value not in _FORMATS
    if key.startswith("max"):
        return isinstance(value, (int, float)) and value > _FAR
    if key.startswith("min") and value == 0 and key != "minimum":
        return True
    return key not in _KEYWORDS and not isinstance(value, (dict, list))


def _closed(node: Schema) -> Schema:
    properties = node.get("properties")
    if properties is None or {"enum", "const"} & node.keys():
        return node
    # Who declares properties means an object, though without a type anything else fits too.
    node = {"type": "object", **node}
    said = {"additionalProperties", "patternProperties"} & node.keys()
    if said or not set(node.get("required", [])) <= set(properties):
        return node
    return {**node, "additionalProperties": False}


def _rewritten(schema: Any, rewrite: Callable[[Schema], Schema]) -> Any:
    """Return ``schema`` with each schema in it replaced by what ``rewrite`` makes of it, the inner ones first."""
    if isinstance(schema, list):
        return [_rewritten(inner, rewrite) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inner: Schema = {}
    for key, value in schema.items():
        if key in _SCHEMAS:
            value = _rewritten(value, rewrite)
        elif key in _NAMED and isinstance(value, dict):
            value = {name: _rewritten(named, rewrite) for name, named in value.items()}
        inner[key] = value
    return rewrite(inner)
