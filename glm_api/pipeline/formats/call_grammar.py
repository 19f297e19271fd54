"""Grammars of tool calls and of JSON, in the Lark syntax of llguidance: what a model may write, token by token.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. A JSON schema stands in it as it is
(``%json {...}``); only the Python calls of ChatGLM3 need rules of their own.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterable
from typing import Any

from glm_api.pipeline.formats.python_call import FUNCTION, is_keyword_argument
from glm_api.pipeline.formats.schemas import ANNOTATIONS, Schema

# One space between the parts, as the models were trained. Without a fixed layout a small model writes spaces for ever.
# No escapes that Python would read otherwise: these texts also stand in Python calls.
LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": '"\\\\bfnrt',
}
_MAX_RULES = 2000
# Items of an array that says no maximum. Each takes a state, not a rule.
_NO_MAXIMUM = ""
# Without a bound a model may go on with digits; an exponent may leave the range of a float.
_PLAIN_NUMBERS = {"integer": "/-?(0|[1-9][0-9]{0,15})/", "number": r"/-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,15})?/"}


class Unsupported(Exception):
    """The schema has no Python rules; it is written as JSON instead."""


class Rules:
    """Collects rules of one grammar. Each method returns what stands for its text in another rule."""

    def __init__(self) -> None:
        self._rules: list[str] = []

    def text(self, start: str) -> str:
        """Return the whole grammar, whose start rule is ``start``."""
        return "\n".join([f"start: {start}", *self._rules, ""])

    def rule(self, body: str, until: str | None = None) -> str:
        """Add a rule; return its name. The text of a regular expression ends with the first ``until`` in it."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}: {body}" if until is None else f"{name}[suffix={literal(until)}]: {body}")
        return name

    def terminal(self, body: str) -> str:
        """Add a terminal: a regular expression, in which the operators & and ~ may stand; return its name."""
        name = f"T{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def choice(self, bodies: Iterable[str]) -> str:
        """Add a rule for any one of ``bodies``."""
        return self.rule(" | ".join(bodies))

    def reserve(self) -> tuple[str, int]:
        """Take a name before its body is known, for rules that refer to themselves; `define` gives the body."""
        self._rules.append("")
        place = len(self._rules) - 1
        return f"r{place}", place

    def define(self, place: int, body: str) -> None:
        """Give a reserved rule its body."""
        self._rules[place] = f"r{place}: {body}"

    def forget(self, length: int) -> None:
        """Take back the rules beyond the first ``length``."""
        del self._rules[length:]

    def __len__(self) -> int:
        return len(self._rules)


def literal(text: str) -> str:
    """Return ``text`` as a Lark string."""
    return json.dumps(text, ensure_ascii=False)


def regex(pattern: str) -> str:
    """Return ``pattern``, a regular expression in the syntax of Rust's regex crate, as one of Lark.

    No pattern ends before its end: what would end one in Lark is escaped.
    """
    escaped = re.sub(r"\\(.)|[/\n]", _escaped, pattern, flags=re.DOTALL)
    return f"/(?:{escaped})/"


def _escaped(found: re.Match[str]) -> str:
    character = found[1] or found[0]
    if character == "\n":
        return r"\n"
    return r"\/" if character == "/" else found[0]


def json_value(schema: Schema) -> str:
    """Return JSON that ``schema`` admits, as the body of a rule."""
    return "%json " + json.dumps({**schema, "x-guidance": LAYOUT}, ensure_ascii=False)


def python_arguments(rules: Rules, parameters: Schema) -> str | None:
    """Return the arguments of a Python call, from behind its opening parenthesis to the closing one.

    None if Python cannot spell them.
    """
    before = len(rules)
    try:
        return _PythonValues(rules, parameters).arguments()
    except Unsupported:
        rules.forget(before)
        return None


def python_call(rules: Rules, parameters: Schema) -> str:
    """Return a whole call; one whose arguments Python cannot spell is a JSON object, which ChatGLM3's reader takes."""
    arguments = python_arguments(rules, parameters)
    if arguments is None:
        return rules.rule(json_value(parameters))
    return rules.rule(f"{literal(FUNCTION + '(')} {arguments} {literal(')')}")


class _PythonValues:
    """Values of a schema as Python literals."""

    def __init__(self, rules: Rules, root: Schema) -> None:
        self._rules = rules
        self._root = root
        self._references: dict[str, str] = {}

    def arguments(self) -> str:
        schema = self._followed(self._root)
        properties = schema.get("properties", {})
        if not properties and schema.get("additionalProperties", True) is not False:
            raise Unsupported
        if not all(is_keyword_argument(name) and not keyword.iskeyword(name) for name in properties):
            raise Unsupported
        return self._members(schema, lambda name: f"{name}=")

    def value(self, schema: Any) -> str:
        """Return a rule for any value of ``schema``."""
        if len(self._rules) > _MAX_RULES or not isinstance(schema, dict):
            raise Unsupported
        said = {key for key in schema if key not in ANNOTATIONS and not key.startswith("x-")}
        if "$ref" in said:
            if said != {"$ref"}:
                raise Unsupported
            return self._reference(schema["$ref"])
        if "enum" in said or "const" in said:
            if said - {"enum", "const", "type"} or said >= {"enum", "const"}:
                raise Unsupported
            values = schema["enum"] if "enum" in said else [schema["const"]]
            if not values or not all(_is_type(value, schema.get("type")) for value in values):
                raise Unsupported
            return self._rules.choice(literal(repr(value)) for value in values)
        if "anyOf" in said:
            if said != {"anyOf"} or not schema["anyOf"]:
                raise Unsupported
            return self._rules.choice([self.value(option) for option in schema["anyOf"]])
        kinds = schema.get("type")
        if isinstance(kinds, list) and kinds:
            return self._rules.choice([self.value({**schema, "type": kind}) for kind in kinds])
        return self._typed(schema, kinds, said - {"type"})

    def _typed(self, schema: Schema, kind: Any, said: set[str]) -> str:
        rules = self._rules
        if kind == "boolean":
            return rules.rule('"True" | "False"')
        if kind == "null":
            return rules.rule('"None"')
        if kind in _PLAIN_NUMBERS and not said:
            return rules.rule(_PLAIN_NUMBERS[kind])
        if kind == "string" and said <= {"minLength", "maxLength"}:
            least, most = schema.get("minLength", 0), schema.get("maxLength", _NO_MAXIMUM)
            # What needs no escape, and escapes that Python reads as JSON does. Each is one character.
            return rules.rule(rf"/'([^'\\\x00-\x1f\x7f]|\\['\\nrt]){{{least},{most}}}'/")
        if kind in ("integer", "number", "string"):
            return self._json(schema)
        if kind == "array":
            return self._array(schema, said)
        if kind == "object":
            return self._object(schema)
        raise Unsupported

    def _array(self, schema: Schema, said: set[str]) -> str:
        if said - {"items", "minItems", "maxItems"}:
            raise Unsupported
        least, most = schema.get("minItems", 0), schema.get("maxItems", _NO_MAXIMUM)
        if most == 0 or "items" not in schema:
            raise Unsupported
        item = self.value(schema["items"])
        # llguidance takes no repetition of at most 0.
        most = most if most == _NO_MAXIMUM else most - 1
        further = "" if most == 0 else f'(", " {item}){{{max(least - 1, 0)},{most}}}'
        some = f'"[" {item} {further} "]"'
        return self._rules.rule(some if least else f'"[]" | {some}')

    def _json(self, schema: Schema) -> str:
        """Return a value as JSON, whose spelling `python_call.read_call` reads too."""
        if '"$ref"' in json.dumps(schema):
            raise Unsupported
        return self._rules.rule(json_value(schema))

    def _object(self, schema: Schema) -> str:
        if not schema.get("properties") and schema.get("additionalProperties", True) is not False:
            return self._json(schema)
        return self._rules.rule(f'"{{" {self._members(schema, lambda name: f"{name!r}: ")} "}}"')

    def _members(self, schema: Schema, spelled: Any) -> str:
        """Return the members in the declared order: the required ones, and any of the others."""
        said = {key for key in schema if key not in ANNOTATIONS and not key.startswith("x-")}
        if (
            said - {"type", "properties", "required", "additionalProperties"}
            or schema.get("type", "object") != "object"
        ):
            raise Unsupported
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not set(required) <= set(properties):
            raise Unsupported
        rules = self._rules
        # What may follow while no member stands yet, and after one.
        first = rest = rules.rule('""')
        for name, value in reversed(properties.items()):
            member = f"{literal(spelled(name))} {self.value(value)}"
            skip_first, skip_rest = ("", "") if name in required else (f" | {first}", f" | {rest}")
            first, rest = rules.rule(f"{member} {rest}{skip_first}"), rules.rule(f'", " {member} {rest}{skip_rest}')
        return first

    def _reference(self, reference: Any) -> str:
        if reference not in self._references:
            name, place = self._rules.reserve()
            self._references[reference] = name
            self._rules.define(place, self.value(self._target(reference)))
        return self._references[reference]

    def _followed(self, schema: Schema) -> Schema:
        """Return what ``schema`` stands for, if it is but a reference."""
        for _ in range(32):
            if "$ref" not in schema:
                return schema
            schema = self._target(schema["$ref"])
        raise Unsupported

    def _target(self, reference: Any) -> Schema:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Unsupported
        node: Any = self._root
        for part in reference[2:].split("/"):
            node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise Unsupported
        return node


def _is_type(value: Any, kinds: Any) -> bool:
    """Whether ``value`` is of the JSON type or of one of the types ``kinds``; None: any."""
    if kinds is None:
        return True
    names = {str: "string", bool: "boolean", type(None): "null", list: "array", dict: "object"}
    own = {"integer", "number"} if type(value) is int else {names.get(type(value), "number")}
    return not own.isdisjoint([kinds] if isinstance(kinds, str) else kinds)


def free_text(names: Iterable[str]) -> str:
    """Return the body of a terminal: text that is not empty and whose first line heads no call of one of ``names``."""
    heads = f" *(?:{'|'.join(map(re.escape, names))})[ \\t\\r]*\\n"
    # Without the first of the two, bytes that are no text would be admitted.
    return f"/(?s:.)+/ & ~{regex(f'{heads}(?s:.)*')}"
