"""Check the JSON schemas in requests, without compiling them.

The web process only walks over a schema: references are followed within the document, nothing is ever retrieved, and
what depends on the whole (a circle of references) is counted, not tried. Only what the drafts call a schema is looked
at as one: a property may be named ``$ref``, and an ``enum`` may hold anything.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from enum import Enum, auto
from typing import Any, TypeAlias
from urllib.parse import unquote

import jsonschema_rs
from marshmallow import ValidationError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
# How many schemas may apply to one and the same value, by references and by allOf and the like.
MAX_EXPANSION = 10_000
# In all patterns of a schema, each of which counts for PATTERN_CHARACTERS more: some take time by the square of it.
MAX_PATTERN_CHARACTERS = 16 * 1024
PATTERN_CHARACTERS = 64
# In those of them that are not of ECMA-262's language: they are checked in Python, which is much slower.
MAX_FOREIGN_CHARACTERS = 2 * 1024

LATEST = "https://json-schema.org/draft/2020-12/schema"
DRAFT_4 = "http://json-schema.org/draft-04/schema"
_DRAFT_6 = "http://json-schema.org/draft-06/schema"
_DRAFT_7 = "http://json-schema.org/draft-07/schema"
_DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"

Node: TypeAlias = dict[str, Any]

# The keywords that hold a schema or a list of schemas, and those that hold schemas by name.
_SCHEMAS = {"allOf", "anyOf", "oneOf", "not", "items", "additionalItems", "additionalProperties"}
_NAMED = {"properties", "patternProperties", "definitions"}
_SCHEMAS_6 = _SCHEMAS | {"contains", "propertyNames"}
_SCHEMAS_7 = _SCHEMAS_6 | {"if", "then", "else"}
_SCHEMAS_2019 = _SCHEMAS_7 | {"unevaluatedItems", "unevaluatedProperties", "contentSchema"}
_NAMED_2019 = _NAMED | {"$defs", "dependentSchemas"}
KEYWORDS: dict[str, tuple[set[str], set[str]]] = {
    LATEST: (_SCHEMAS_2019 - {"additionalItems"} | {"prefixItems"}, _NAMED_2019),
    _DRAFT_2019: (_SCHEMAS_2019, _NAMED_2019),
    _DRAFT_7: (_SCHEMAS_7, _NAMED | {"dependencies"}),
    _DRAFT_6: (_SCHEMAS_6, _NAMED | {"dependencies"}),
    DRAFT_4: (_SCHEMAS, _NAMED | {"dependencies"}),
}
# What these hold applies to the same value as the schema that they stand in.
_IN_PLACE = {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"}
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,5})\Z")


class _Kind(Enum):
    """What stands at a keyword."""

    SCHEMAS = auto()
    NAMED = auto()
    REFERENCE = auto()
    ANCHOR = auto()
    PATTERN = auto()


_KINDS = {
    draft: {
        **dict.fromkeys(schemas, _Kind.SCHEMAS),
        **dict.fromkeys(named, _Kind.NAMED),
        **dict.fromkeys(("$ref", "$dynamicRef", "$recursiveRef"), _Kind.REFERENCE),
        **dict.fromkeys(("$anchor", "$dynamicAnchor") if draft in (LATEST, _DRAFT_2019) else (), _Kind.ANCHOR),
        "pattern": _Kind.PATTERN,
    }
    for draft, (schemas, named) in KEYWORDS.items()
}

# In Rust: some agents send a hundred tools with every request, and Python takes half a millisecond for each subschema.
_META = {
    draft: jsonschema_rs.validator_for({"$schema": draft, "$ref": draft}, validate_formats=False, offline=True)
    for draft in KEYWORDS
}
# Reads the pattern and compiles nothing.
_ECMA_262 = jsonschema_rs.validator_for({"format": "regex"}, validate_formats=True, offline=True)
# Python programs (pydantic's) begin patterns with flags, which ECMA-262 has not.
_FLAGS = re.compile(r"\A\(\?[aimsux]+\)")
_HUGE_COUNT = re.compile(r"\{[0-9]*,?[0-9]{10}")
_BEYOND_ASCII = r"(?:\\u[0-9a-fA-F]{4}|\\x[89a-fA-F][0-9a-fA-F]|\\?[^\x00-\x7f])"
_CHARACTERS = re.compile(
    rf"(?P<first>{_BEYOND_ASCII})-(?P<last>{_BEYOND_ASCII})|{_BEYOND_ASCII}|\\.|(?P<flags>\(\?[a-z-]*i)", re.DOTALL
)


def check_schema(schema: Node) -> None:
    """Refuse a JSON schema that is none, is too large, or refers to what is not in it. Raises `ValidationError`."""
    _checked(schema)


def check_answer_schema(schema: Node) -> None:
    """The same for a schema that answers are going to be checked against, in Python. Raises `ValidationError`."""
    document = _checked(schema)
    # jsonschema looks for the names that no pattern fits with all of them at once.
    together = {"|".join(names) for names in document.names_by_pattern}
    patterns = document.patterns | together
    _check_size(patterns)
    for pattern in patterns:
        if not _compiles(pattern):
            raise ValidationError(f"must have patterns in the syntax of Python's re, but has {_shortened(pattern)!r}.")


def standalone(schema: Node) -> Node:
    """``schema``, checked before, without what tools would take for the address or the draft of a part of it."""
    if not any(_identity(node, schema) for node in _Document(schema).nodes):
        return schema
    copied = copy.deepcopy(schema)
    for node in _Document(copied).nodes:
        for key in _identity(node, copied):
            del node[key]
    return copied


def check_parameters(schema: Node) -> None:
    """A tool's parameters: a JSON schema of an object. Raises `ValidationError`."""
    if schema.get("type", "object") != "object":
        raise ValidationError('must be a JSON schema of type "object".')
    check_schema(schema)


def _checked(schema: Node) -> _Document:
    if len(json.dumps(schema, ensure_ascii=False).encode()) > MAX_BYTES:
        raise ValidationError(f"must be a JSON schema of at most {MAX_BYTES // 1024} KiB.")
    _check_depth(schema)
    if _draft(schema) not in KEYWORDS:
        raise ValidationError(f"must be a JSON schema of a published draft ($schema), such as {LATEST}.")
    _check_meta(schema, schema)
    document = _Document(schema)
    for target in document.targets:
        _check_meta(target, schema)
    document.check_expansion()
    _check_patterns(document.patterns)
    return document


def _check_depth(schema: Node) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        if not below:
            return
        level = below
    raise ValidationError(f"must be a JSON schema of at most {MAX_DEPTH} levels.")


def _draft(schema: Node) -> str:
    """The draft that ``schema`` says it is of; empty for none."""
    name = schema.get("$schema", LATEST)
    return name.removesuffix("#") if isinstance(name, str) else ""


def _check_meta(node: Node, schema: Node) -> None:
    fault = next(_META[_draft(schema)].iter_errors(node), None)
    if fault is not None:
        where = f" at {'.'.join(map(str, fault.instance_path))}" if fault.instance_path else ""
        raise ValidationError(f"must be a valid JSON schema{where}: {_shortened(fault.message)}.")


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


def _identity(node: Node, root: Node) -> list[str]:
    """The keywords of ``node`` that give it an address or, below the root, a draft. A mere anchor is none."""
    name = _id_keyword(root)
    found = [name] if isinstance(node.get(name), str) and not _is_anchor(node[name], root) else []
    return [*found, "$schema"] if "$schema" in node and node is not root else found


def _id_keyword(root: Node) -> str:
    return "id" if _draft(root) == DRAFT_4 else "$id"


def _is_anchor(id: str, root: Node) -> bool:
    return id.startswith("#") and _draft(root) in (DRAFT_4, _DRAFT_6, _DRAFT_7)


class _Document:
    """A schema's parts that are schemas themselves, by their keyword or because a reference leads there.

    Raises `ValidationError` for a reference that does not lead to a place in the document.
    """

    def __init__(self, root: Node) -> None:
        self._root = root
        self._kinds = _KINDS[_draft(root)]
        self._id = _id_keyword(root)
        # Of each schema, by its id(): those in it, or referred to, that apply to the same value.
        self._below: dict[int, list[Node]] = {}
        self._references: list[tuple[Node, str, str]] = []
        self._anchors: dict[str, Node] = {}
        self.nodes: list[Node] = []
        self.targets: list[Node] = []
        self.patterns: set[str] = set()
        self.names_by_pattern: list[list[str]] = []
        self._visit(root)
        # Grows while it is gone through: what a reference leads to may hold references.
        for node, keyword, target in self._references:
            self._follow(node, keyword, target)

    def _visit(self, start: Node) -> None:
        """Note ``start`` and all schemas in it. Without recursion: this runs for a stranger, at any depth."""
        pending = [(start, False)]
        while pending:
            node, moved = pending.pop()
            if id(node) in self._below:
                continue
            self.nodes.append(node)
            self._below[id(node)] = []
            if self._id in node:
                moved = self._note_id(node, node[self._id]) or moved
            for keyword, value in node.items():
                kind = self._kinds.get(keyword)
                if kind is None:
                    continue
                if kind is _Kind.SCHEMAS:
                    inner = value if isinstance(value, list) else [value]
                elif kind is _Kind.NAMED and isinstance(value, dict):
                    inner = list(value.values())
                    if keyword == "patternProperties":
                        self.patterns.update(value)
                        self.names_by_pattern.append(list(value))
                else:
                    self._note(node, keyword, value, moved)
                    continue
                schemas = [schema for schema in inner if isinstance(schema, dict)]
                pending.extend((schema, moved) for schema in schemas)
                if keyword in _IN_PLACE:
                    self._below[id(node)] += schemas

    def _note_id(self, node: Node, value: object) -> bool:
        """Note an anchor; whether references in ``node`` would begin at an address of its own."""
        if not isinstance(value, str):
            return False
        if _is_anchor(value, self._root):
            self._anchors[value[1:]] = node
            return False
        return node is not self._root

    def _note(self, node: Node, keyword: str, value: object, moved: bool) -> None:
        kind = self._kinds[keyword]
        if kind is _Kind.REFERENCE:
            self._references.append((node, keyword, self._checked_reference(keyword, value, moved)))
        elif kind is _Kind.ANCHOR and isinstance(value, str):
            self._anchors[value] = node
        elif kind is _Kind.PATTERN and isinstance(value, str):
            self.patterns.add(value)

    def _checked_reference(self, keyword: str, target: object, moved: bool) -> str:
        if not isinstance(target, str):
            raise ValidationError(f"must have strings as {keyword}.")
        if not target.startswith("#"):
            raise ValidationError(f"must not refer to other documents, but has {keyword} {_shortened(target)!r}.")
        if moved:
            raise ValidationError(
                f"must not have {keyword} {_shortened(target)!r} below a part with {self._id}: remove that {self._id}."
            )
        return target

    def _follow(self, node: Node, keyword: str, reference: str) -> None:
        target = self._at(reference)
        if not isinstance(target, (dict, bool)) or (keyword == "$recursiveRef" and reference != "#"):
            raise ValidationError(f"must not have references that lead nowhere: {keyword} {_shortened(reference)!r}.")
        if isinstance(target, dict):
            self._below[id(node)].append(target)
            if id(target) not in self._below:
                self.targets.append(target)
                self._visit(target)

    def _at(self, reference: str) -> Any:
        """What ``reference`` leads to; None: nothing, or null."""
        if reference == "#":
            return self._root
        if not reference.startswith("#/"):
            return self._anchors.get(reference[1:])
        place: Any = self._root
        for part in unquote(reference[2:]).split("/"):
            if isinstance(place, dict):
                place = place.get(part.replace("~1", "/").replace("~0", "~"))
            elif isinstance(place, list) and _INDEX.match(part) and int(part) < len(place):
                place = place[int(part)]
            else:
                return None
        return place

    def check_expansion(self) -> None:
        """Refuse what would be evaluated without an end, or so often that it comes to the same."""
        if not self._references:
            return
        # Of each schema that is done: how many schemas apply where it applies, and by how many steps.
        done: dict[int, tuple[int, int]] = {}
        begun: set[int] = set()
        pending = [node for node in self.nodes if self._below[id(node)]]
        while pending:
            node = pending[-1]
            below = self._below[id(node)]
            if id(node) in done:
                pending.pop()
            elif id(node) in begun:
                counts = [done[id(inner)] for inner in below]
                total = 1 + sum(count for count, _ in counts)
                steps = 1 + max((steps for _, steps in counts), default=0)
                if total > MAX_EXPANSION or steps > MAX_DEPTH:
                    raise ValidationError(
                        f"must not apply more than {MAX_EXPANSION} schemas to one value, nor by references of more "
                        f"than {MAX_DEPTH} steps."
                    )
                done[id(node)] = total, steps
            else:
                begun.add(id(node))
                for inner in below:
                    if id(inner) in begun and id(inner) not in done:
                        raise ValidationError("must not have references that lead in a circle without an end.")
                pending.extend(below)


def _check_patterns(patterns: set[str]) -> None:
    _check_size(patterns)
    foreign = {pattern for pattern in patterns if not _is_ecma(pattern)}
    too_many = _size(foreign) > MAX_FOREIGN_CHARACTERS
    for pattern in foreign:
        if too_many or not _compiles(pattern):
            raise ValidationError(f"must have regular expressions as patterns, but has {_shortened(pattern)!r}.")


def _check_size(patterns: set[str]) -> None:
    if _size(patterns) > MAX_PATTERN_CHARACTERS:
        raise ValidationError(
            f"must have fewer or shorter patterns: at most {MAX_PATTERN_CHARACTERS} characters together, where each "
            f"pattern counts for {PATTERN_CHARACTERS} more than it has."
        )


def _size(patterns: set[str]) -> int:
    return sum(len(pattern) + PATTERN_CHARACTERS for pattern in patterns)


def _is_ecma(pattern: str) -> bool:
    return _ECMA_262.is_valid(_FLAGS.sub("", pattern)) and not _HUGE_COUNT.search(pattern)


def _compiles(pattern: str) -> bool:
    """Whether Python's re takes ``pattern``, in a time that grows with its length only.

    Python goes through a set's ranges character by character (the largest one takes milliseconds), and slowly where
    case does not count. So characters beyond ASCII are replaced first, by the last one of ASCII, and the flag i by s.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(_CHARACTERS.sub(_simplified, pattern))
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _simplified(found: re.Match[str]) -> str:
    text = found.group()
    if found["first"]:
        return "\x7f-\x7f" if _code(found["first"]) <= _code(found["last"]) else "\x7f-!"
    if found["flags"]:
        return text.replace("i", "s")
    if text in (r"\N", r"\U"):
        # A character by its name or by eight digits, which no other language has: not taken.
        return r"\Q"
    return "\x7f" if re.fullmatch(_BEYOND_ASCII, text) else text


def _code(character: str) -> int:
    return int(character[2:], 16) if character.startswith((r"\u", r"\x")) else ord(character[-1])
