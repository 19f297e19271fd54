"""Check the JSON schemas in requests, without compiling them.

The web process only walks through a schema: it follows references within the document, retrieves nothing, and counts
how often references apply instead of evaluating them. It looks for subschemas only in the keywords that hold schemas in
the document's draft. So a property may be named ``$ref``, and an ``enum`` may hold anything.
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

from glm_api.pipeline.formats.schemas import DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, LATEST, draft_of

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
# Maximum number of schemas that apply to the same value, by references and by allOf and the like.
MAX_EXPANSION = 10_000
# Maximum for all patterns of a schema together. Each pattern counts PATTERN_CHARACTERS more than its length. Some take
# time that grows with the square of it.
MAX_PATTERN_CHARACTERS = 16 * 1024
PATTERN_CHARACTERS = 64
# The same for the patterns that are not ECMA-262: they are checked in Python, which is much slower.
MAX_FOREIGN_CHARACTERS = 2 * 1024

Node: TypeAlias = dict[str, Any]

# The keywords whose value is a schema or a list of schemas, and those whose value is an object of named schemas.
_SCHEMAS = {"allOf", "anyOf", "oneOf", "not", "items", "additionalItems", "additionalProperties"}
_NAMED = {"properties", "patternProperties", "definitions"}
_SCHEMAS_6 = _SCHEMAS | {"contains", "propertyNames"}
_SCHEMAS_7 = _SCHEMAS_6 | {"if", "then", "else"}
_SCHEMAS_2019 = _SCHEMAS_7 | {"unevaluatedItems", "unevaluatedProperties", "contentSchema"}
_NAMED_2019 = _NAMED | {"$defs", "dependentSchemas"}
KEYWORDS: dict[str, tuple[set[str], set[str]]] = {
    LATEST: (_SCHEMAS_2019 - {"additionalItems"} | {"prefixItems"}, _NAMED_2019),
    DRAFT_2019: (_SCHEMAS_2019, _NAMED_2019),
    DRAFT_7: (_SCHEMAS_7, _NAMED | {"dependencies"}),
    DRAFT_6: (_SCHEMAS_6, _NAMED | {"dependencies"}),
    DRAFT_4: (_SCHEMAS, _NAMED | {"dependencies"}),
}
# The schemas in these keywords apply to the same value as the schema that has the keyword.
_IN_PLACE = {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"}
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,5})\Z")


class _Kind(Enum):
    """What the value of a keyword is."""

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
        **dict.fromkeys(("$anchor", "$dynamicAnchor") if draft in (LATEST, DRAFT_2019) else (), _Kind.ANCHOR),
        "pattern": _Kind.PATTERN,
    }
    for draft, (schemas, named) in KEYWORDS.items()
}

# Written in Rust: some agents send a hundred tools with each request, and jsonschema, which is written in Python, takes
# half a millisecond for each subschema.
_META = {
    draft: jsonschema_rs.validator_for({"$schema": draft, "$ref": draft}, validate_formats=False, offline=True)
    for draft in KEYWORDS
}
# Parses a pattern without compiling it.
_ECMA_262 = jsonschema_rs.validator_for({"format": "regex"}, validate_formats=True, offline=True)
# Python programs (those with pydantic) begin patterns with flags, which ECMA-262 does not have.
_FLAGS = re.compile(r"\A\(\?[aimsux]+\)")
_HUGE_COUNT = re.compile(r"\{[0-9]*,?[0-9]{10}")
_BEYOND_ASCII = r"(?:\\u[0-9a-fA-F]{4}|\\x[89a-fA-F][0-9a-fA-F]|\\?[^\x00-\x7f])"
_CHARACTERS = re.compile(
    rf"(?P<first>{_BEYOND_ASCII})-(?P<last>{_BEYOND_ASCII})|{_BEYOND_ASCII}|\\.|(?P<flags>\(\?[a-z-]*i)", re.DOTALL
)


def check_schema(schema: Node) -> None:
    """Raise `ValidationError` for a JSON schema that is invalid, too large, or refers to something outside of it."""
    _checked(schema)


def standalone(schema: Node) -> Node:
    """Return ``schema``, which was checked, without the keywords that give a part of it an address or another draft."""
    if not any(_identity(node, schema) for node in _Document(schema).nodes):
        return schema
    copied = copy.deepcopy(schema)
    for node in _Document(copied).nodes:
        for key in _identity(node, copied):
            del node[key]
    return copied


def check_parameters(schema: Node) -> None:
    """Raise `ValidationError` if ``schema`` cannot be the parameters of a tool: a valid JSON schema of an object."""
    if schema.get("type", "object") != "object":
        raise ValidationError('must be a JSON schema of type "object".')
    check_schema(schema)


def check_size(value: Node, what: str) -> None:
    """Raise `ValidationError` if ``value``, which messages call ``what``, has too many bytes or levels."""
    if len(json.dumps(value, ensure_ascii=False).encode()) > MAX_BYTES:
        raise ValidationError(f"must be {what} of at most {MAX_BYTES // 1024} KiB.")
    _check_depth(value, what)


def _checked(schema: Node) -> _Document:
    check_size(schema, "a JSON schema")
    _check_meta(schema, schema)
    document = _Document(schema)
    for target in document.targets:
        _check_meta(target, schema)
    document.check_expansion()
    _check_patterns(document.patterns)
    return document


def _check_depth(value: Node, what: str) -> None:
    level: list[Any] = [value]
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
    raise ValidationError(f"must be {what} of at most {MAX_DEPTH} levels.")


def _draft(schema: Node) -> str:
    """Return the draft as which ``schema`` is read: the one that it declares, the latest for any other dialect."""
    return draft_of(schema) or LATEST


def _check_meta(node: Node, schema: Node) -> None:
    fault = next(_META[_draft(schema)].iter_errors(node), None)
    if fault is not None:
        where = f" at {'.'.join(map(str, fault.instance_path))}" if fault.instance_path else ""
        raise ValidationError(f"must be a valid JSON schema{where}: {_shortened(fault.message)}.")


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


def _identity(node: Node, root: Node) -> list[str]:
    """Return the keywords that give ``node`` an address or, below the root, a draft. An anchor is not an address."""
    name = _id_keyword(root)
    found = [name] if isinstance(node.get(name), str) and not _is_anchor(node[name], root) else []
    return [*found, "$schema"] if "$schema" in node and node is not root else found


def _id_keyword(root: Node) -> str:
    return "id" if _draft(root) == DRAFT_4 else "$id"


def _is_anchor(id: str, root: Node) -> bool:
    return id.startswith("#") and _draft(root) in (DRAFT_4, DRAFT_6, DRAFT_7)


class _Document:
    """All subschemas of a schema: those in its keywords, and those to which a reference points.

    Raises `ValidationError` for a reference that points to nothing in the document.
    """

    def __init__(self, root: Node) -> None:
        self._root = root
        self._kinds = _KINDS[_draft(root)]
        self._id = _id_keyword(root)
        # By the id() of a schema: the schemas in it, or referred to, that apply to the same value.
        self._below: dict[int, list[Node]] = {}
        self._references: list[tuple[Node, str, str]] = []
        self._anchors: dict[str, Node] = {}
        self.nodes: list[Node] = []
        self.targets: list[Node] = []
        self.patterns: set[str] = set()
        self._visit(root)
        # The list grows during the loop: the target of a reference may have references itself.
        for node, keyword, target in self._references:
            self._follow(node, keyword, target)

    def _visit(self, start: Node) -> None:
        """Note ``start`` and all schemas in it, without recursion: a client chooses the depth."""
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
                else:
                    self._note(node, keyword, value, moved)
                    continue
                schemas = [schema for schema in inner if isinstance(schema, dict)]
                pending.extend((schema, moved) for schema in schemas)
                if keyword in _IN_PLACE:
                    self._below[id(node)] += schemas

    def _note_id(self, node: Node, value: object) -> bool:
        """Note ``value`` if it is an anchor. Return whether it is an address, where references in ``node`` start."""
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
        """Return the value to which ``reference`` points; None if there is none, or if it is null."""
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
        """Raise `ValidationError` for references whose evaluation would not end, or would take practically for ever."""
        if not self._references:
            return
        # By the id() of a finished schema: how many schemas apply where it applies, and the longest chain of them.
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
    """Return whether Python's re accepts ``pattern``, in a time that depends on its length alone.

    Python expands the ranges of a set character by character (the largest range takes milliseconds), and is slow if
    case is ignored. So characters beyond ASCII are replaced first, by the last character of ASCII, and the flag i by s.
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
        # A character by its name or by eight digits: no other language has these, so they are refused.
        return r"\Q"
    return "\x7f" if re.fullmatch(_BEYOND_ASCII, text) else text


def _code(character: str) -> int:
    return int(character[2:], 16) if character.startswith((r"\u", r"\x")) else ord(character[-1])
