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
from typing import Any

FUNCTION = "tool_call"

# Longer or deeper source is no real call, and Python's parser would use up its memory or its stack.
MAX_SOURCE_CHARACTERS = 64 * 1024
MAX_DEPTH = 50

_JSON_NAMES = {"true": True, "false": False, "null": None}
_BRACKET = re.compile(r"[()\[\]{}]")


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
    if len(source) > MAX_SOURCE_CHARACTERS or _depth(source) > MAX_DEPTH:
        return None
    try:
        json_object = source.lstrip().startswith("{")
        values = json.loads(source, parse_float=_read_float) if json_object else _read_keywords(source, name)
        return _dump(values) if isinstance(values, dict) else None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def is_keyword_argument(name: str) -> bool:
    # Python converts identifiers to their NFKC form, so any other spelling would come back changed.
    return name.isidentifier() and unicodedata.normalize("NFKC", name) == name


def _depth(source: str) -> int:
    deepest = depth = 0
    for bracket in _BRACKET.findall(source):
        if bracket in "([{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


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
