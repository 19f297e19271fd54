"""Convert the arguments of a ChatGLM3 tool call between Python source and JSON.

The model writes ``tool_call(city='北京', days=3)``, and the API has a JSON object. The source is read with `ast`,
literal by literal, and never evaluated.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import re
import sys
import tokenize
import unicodedata
import warnings
from collections import deque
from typing import Any

FUNCTION = "tool_call"

# Longer or deeper source is no real call, and Python's parser would use up its memory or its stack.
MAX_SOURCE_CHARACTERS = 64 * 1024
MAX_DEPTH = 150

_JSON_NAMES = {"true": True, "false": False, "null": None}
# A whole string with whatever is in it, the quote of one that does not end, a bracket, or a comma.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|['"()\[\]{},]""", re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
# A cut call is read up to one of so many places, counted from its end.
_PLACES = 8


def write_call(arguments: str) -> str:
    """Return the source of a call with these arguments (the text of a JSON object).

    If they are no JSON object, or their names cannot be those of keyword arguments, they are returned as they are:
    `read_call` takes JSON too.
    """
    try:
        values = json.loads(arguments)
        if not isinstance(values, dict) or not all(map(is_keyword_argument, values)):
            return arguments
        json.dumps(values, allow_nan=False)
        return f"{FUNCTION}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
    except (ValueError, RecursionError):
        return arguments


def read_call(source: str, name: str) -> str | None:
    """Return the arguments in ``source`` as the text of a JSON object, or None if it is no call.

    A call is one of `FUNCTION` or ``name`` with keyword arguments only, or a JSON object. ``source`` may be any text.
    """
    if len(source) > MAX_SOURCE_CHARACTERS or _Brackets(source).depth > MAX_DEPTH:
        return None
    try:
        json_object = source.lstrip().startswith("{")
        values = json.loads(source, parse_float=_read_float) if json_object else _read_keywords(source, name)
        return _dump(values) if isinstance(values, dict) else None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def read_cut_call(source: str, name: str) -> str:
    """Return the arguments of a call without its end, as the text of a JSON object without its end.

    A value that is cut is left out, unless it is a string, a list or an object.
    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        return ""
    brackets = _Brackets(source)
    if brackets.in_string and (len(source) - len(source.rstrip("\\"))) % 2:
        source = source[:-1]
    for end, closing in [(len(source), brackets.closing), *reversed(brackets.places)]:
        arguments = read_call(source[:end] + closing, name)
        if arguments is not None:
            return arguments[: len(arguments) - len(closing)]
    return ""


def is_keyword_argument(name: str) -> bool:
    # Python converts identifiers to their NFKC form, so any other spelling would come back changed.
    return name.isidentifier() and unicodedata.normalize("NFKC", name) == name


class _Brackets:
    """What is open at the end of ``source``.

    ``closing`` would close the string and the brackets. ``places`` are the last places where a value may begin, with
    what would close the brackets there. ``depth`` is the most brackets that are open anywhere.
    """

    def __init__(self, source: str) -> None:
        self.depth = 0
        self.in_string = False
        self.places: deque[tuple[int, str]] = deque(maxlen=_PLACES)
        self.closing = ""
        for found in _TOKEN.finditer(source):
            token = found.group()
            if token in _CLOSING:
                self.closing = _CLOSING[token] + self.closing
                self.depth = max(self.depth, len(self.closing))
                self.places.append((found.end(), self.closing))
            elif token in (")", "]", "}"):
                self.closing = self.closing[1:]
            elif token == ",":
                self.places.append((found.start(), self.closing))
            elif len(token) == 1:
                self.in_string, self.closing = True, token + self.closing
                return


def _read_keywords(source: str, name: str) -> dict[str, Any]:
    source = source.strip()
    reserved: dict[str, str] = {}
    try:
        call = _parse(source)
    except SyntaxError:
        # Parameters may be named like Python's reserved words: `tool_call(from='USD')`.
        source, reserved = _rename_reserved_words(source)
        if not reserved:
            raise
        call = _parse(source)
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in (FUNCTION, name)):
        raise ValueError("not a call of the tool")
    if call.args:
        raise ValueError("positional arguments")
    values: dict[str, Any] = {}
    for argument in call.keywords:
        if argument.arg is None:
            raise ValueError("unpacked arguments")
        key = reserved.get(argument.arg, argument.arg)
        if key in values:
            raise ValueError("an argument given twice")
        values[key] = _read_literal(argument.value)
    return values


def _parse(source: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's source may have invalid escapes such as '\d'
        return ast.parse(source, mode="eval").body


def _rename_reserved_words(source: str) -> tuple[str, dict[str, str]]:
    """Rename keyword arguments that are Python's reserved words. Return the source, and the old names by the new."""
    lines = source.splitlines(keepends=True)
    spots: list[tuple[int, int, str]] = []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except tokenize.TokenError as error:
        raise SyntaxError(str(error)) from error
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if keyword.iskeyword(token.string) and before.string in ("(", ",") and after.string == "=":
            spots.append((token.start[0] - 1, token.start[1], token.string))
    renamed: dict[str, str] = {}
    for row, column, word in reversed(spots):
        alias = f"_{word}_"
        if alias in source:
            raise ValueError(f"both {word} and {alias} are used")
        renamed[alias] = word
        lines[row] = lines[row][:column] + alias + lines[row][column + len(word) :]
    return "".join(lines), renamed


def _read_literal(node: ast.expr) -> Any:
    """Return the JSON value of a literal, tuples as lists. Raises ValueError for any other expression."""
    match node:
        case ast.Constant(value=float() as value):
            return _finite(value)
        case ast.Constant(value=str() | int() | bool() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -_finite(value)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_read_literal(item) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_read_literal(key): _read_literal(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
    raise ValueError("not a literal")


def _read_float(text: str) -> float:
    return _finite(float(text))


def _finite(value: float) -> float:
    """Return the nearest number that JSON can say: a model may write more digits than a float has room for."""
    return max(-sys.float_info.max, min(value, sys.float_info.max))


def _dump(values: dict[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # there is half a surrogate pair, which only an escape can spell
        return json.dumps(values, allow_nan=False)
    return text
