"""Grammars of tool calls and of JSON, in the Lark syntax of llguidance: what a model may write, token by token.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. A JSON schema may stand in it as it is
(``%json {...}``). The Python calls of ChatGLM3 need rules of their own, and so do numbers, which are endless there.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
# A model may go on with digits for ever. An integer of 64 bits has 19, a float has 17 that count, and an exponent of
# two digits stays within the range of a float.
_INTEGER = "(0|[1-9][0-9]{0,18})"
_NUMBERS = {"integer": _INTEGER, "number": rf"{_INTEGER}(\.[0-9]{{1,17}})?([eE][+-]?[0-9]{{1,2}})?"}
# The same for numbers with bounds, which llguidance reads as floats: the largest float within 64 bits, and the finest
# step that it takes.
_LARGEST = 2**63 - 1024
_FINEST = 1e-10
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
# Numbers up to this have larger ones within 64 bits, and numbers of so few decimals have others between them.
_FAR = 9 * 10**18
_FEW_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class _Language:
    """How a language spells values.

    ``character`` matches one character of a string in apostrophes; None: strings are JSON. ``open``: an object that may
    have more properties than the declared ones is written without those.
    """

    spell: Callable[[Any], str]
    character: str | None
    open: bool


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# What needs no escape, and escapes that Python reads as JSON does. Each is one character.
_PYTHON = _Language(repr, r"([^'\\\x00-\x1f\x7f]|\\['\\nrt])", open=True)
_JSON = _Language(_json, None, open=False)


class Unsupported(Exception):
    """The schema has no rules of its own; it is written as JSON instead."""


class Rules:
    """Collects rules of one grammar. Each method returns what stands for its text in another rule."""

    def __init__(self) -> None:
        self._rules: list[str] = []
        self._names: dict[str, str] = {}

    def text(self, start: str) -> str:
        """Return the whole grammar, whose start rule is ``start``."""
        return "\n".join([f"start: {start}", *self._rules, ""])

    def rule(self, body: str, until: str | None = None) -> str:
        """Return the name of a rule with this body, which is added unless there is one.

        The text of a regular expression ends with the first ``until`` in it.
        """
        head = "" if until is None else f"[suffix={literal(until)}]"
        rule = f"{head}: {body}"
        if rule not in self._names:
            self._names[rule] = f"r{len(self._rules)}"
            self._rules.append(f"{self._names[rule]}{rule}")
        return self._names[rule]

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
        self._names = {rule: name for rule, name in self._names.items() if int(name[1:]) < length}

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


def json_value(rules: Rules, schema: Schema) -> str:
    """Return a rule for JSON that ``schema`` admits. Its numbers are bounded unless it is of an unusual kind."""
    before = len(rules)
    try:
        return _Values(rules, schema, _JSON).value(schema)
    except Unsupported:
        rules.forget(before)
        return rules.rule(_whole_json(schema))


def _whole_json(schema: Schema) -> str:
    return f"%json {_json({**schema, 'x-guidance': LAYOUT})}"


def python_arguments(rules: Rules, parameters: Schema) -> str | None:
    """Return the arguments of a Python call, from behind its opening parenthesis to the closing one.

    None if Python cannot spell them.
    """
    before = len(rules)
    try:
        return _Values(rules, parameters, _PYTHON).arguments()
    except Unsupported:
        rules.forget(before)
        return None


def python_call(rules: Rules, parameters: Schema) -> str:
    """Return a whole call; one whose arguments Python cannot spell is a JSON object, which ChatGLM3's reader takes."""
    arguments = python_arguments(rules, parameters)
    if arguments is None:
        return json_value(rules, parameters)
    return rules.rule(f"{literal(FUNCTION + '(')} {arguments} {literal(')')}")


class _Values:
    """Values of a schema as literals of a language."""

    def __init__(self, rules: Rules, root: Schema, language: _Language) -> None:
        self._rules = rules
        self._root = root
        self._language = language
        self._references: dict[str, str] = {}

    def arguments(self) -> str:
        """Return a rule for the members of an object as keyword arguments of a Python call."""
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
        said = _said(schema)
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
            return self._one_of(values)
        if "anyOf" in said:
            if said != {"anyOf"} or not schema["anyOf"]:
                raise Unsupported
            return self._rules.choice([self.value(option) for option in schema["anyOf"]])
        kinds = schema.get("type")
        if isinstance(kinds, list) and kinds:
            return self._rules.choice([self.value({**schema, "type": kind}) for kind in kinds])
        return self._typed(schema, kinds, said - {"type"})

    def _one_of(self, values: Iterable[Any]) -> str:
        return self._rules.choice(literal(self._language.spell(value)) for value in values)

    def _typed(self, schema: Schema, kind: Any, said: set[str]) -> str:
        match kind:
            case "boolean":
                return self._one_of([True, False])
            case "null":
                return self._one_of([None])
            case "integer" | "number":
                return self._number(schema, kind, said)
            case "string" if self._language.character is not None and said <= {"minLength", "maxLength"}:
                least, most = schema.get("minLength", 0), schema.get("maxLength", _NO_MAXIMUM)
                return self._rules.rule(f"/'{self._language.character}{{{least},{most}}}'/")
            case "string":
                return self._leaf(schema)
            case "array":
                return self._array(schema, said)
            case "object":
                return self._object(schema)
            case _:
                raise Unsupported

    def _number(self, schema: Schema, kind: str, said: set[str]) -> str:
        if not said:
            return self._rules.rule(f"/-?{_NUMBERS[kind]}/")
        if said == {"minimum"} and schema["minimum"] == 0:
            return self._rules.rule(f"/{_NUMBERS[kind]}/")
        return self._leaf(_with_all_bounds(schema))

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

    def _leaf(self, schema: Schema) -> str:
        """Return a value as JSON, whose spelling `python_call.read_call` reads too."""
        if '"$ref"' in json.dumps(schema):
            raise Unsupported
        # Without annotations, so that leaves of one kind share a rule.
        return self._rules.rule(_whole_json({key: schema[key] for key in sorted(_said(schema))}))

    def _object(self, schema: Schema) -> str:
        if not schema.get("properties") and schema.get("additionalProperties", True) is not False:
            return self._leaf(schema)
        if not self._language.open and schema.get("additionalProperties") is not False:
            raise Unsupported
        return self._rules.rule(f'"{{" {self._members(schema, lambda name: f"{self._language.spell(name)}: ")} "}}"')

    def _members(self, schema: Schema, spelled: Callable[[str], str]) -> str:
        """Return the members in the declared order: the required ones, and any of the others."""
        if (
            _said(schema) - {"type", "properties", "required", "additionalProperties"}
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


def _said(schema: Schema) -> set[str]:
    """Return the keywords of ``schema`` that say something of the value."""
    return {key for key in schema if key not in ANNOTATIONS and not key.startswith("x-")}


def _with_all_bounds(schema: Schema) -> Schema:
    """Return the schema of a number with a bound at either side, and one for its decimals, if they leave it room."""
    given = [value for key, value in schema.items() if key in _BOUNDS and not isinstance(value, bool)]
    # llguidance would take too long for multiples within bounds.
    if "multipleOf" in schema or any(abs(value) > _FAR for value in given):
        return schema
    bounded = {**schema}
    if not {"minimum", "exclusiveMinimum"} & schema.keys():
        bounded["minimum"] = -_LARGEST
    if not {"maximum", "exclusiveMaximum"} & schema.keys():
        bounded["maximum"] = _LARGEST
    if schema["type"] == "number" and all(round(value, _FEW_DECIMALS) == value for value in given):
        bounded["multipleOf"] = _FINEST
    return bounded


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
