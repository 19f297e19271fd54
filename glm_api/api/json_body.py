"""Read the JSON body of a request and load it with a schema; each fault is an `ApiError`, mostly with status 400.

Checked in this order: media type (415), size (413, by werkzeug while it reads), number of values, UTF-8, JSON, an
object, depth and characters, then the schema. Of the faults that a schema finds the first is reported, with the dotted
path of the value.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias

from flask import Request
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import LimitedStream

from glm_api.api.fields import CodedMessage, json_type
from glm_api.errors import ApiError, broken_body, invalid

MAX_DEPTH = 64
# Reading many tiny values delays all other requests. A text with so many commas and brackets fits no model's context.
MAX_VALUES = 2**18
# A schema takes a hundred times longer to load an object than a number in an array.
MAX_CONTAINERS = 2**14
# The keys and indices that lead to a value, innermost first; `dotted` formats it, for errors only.
Path: TypeAlias = "tuple[Path, str | int] | None"
Container: TypeAlias = "tuple[Path, dict[str, Any] | list[Any]]"
JSON_TYPE = re.compile(r"application/(?:[^;\s]+\+)?json", re.IGNORECASE)
_UNPRINTABLE = re.compile("[\x00\ud800-\udfff]")


class _NoJsonError(ValueError):
    """The body has NaN or Infinity."""


def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of ``request``. Raises `ApiError` (400, 415) and werkzeug's 413."""
    if not JSON_TYPE.fullmatch(request.mimetype):
        got = request.mimetype or "no Content-Type"
        raise ApiError(
            415,
            f"The request body must be JSON, but this request has {got}. Add the header Content-Type: application/json "
            "(curl: -H 'Content-Type: application/json').",
        )
    raw = request.get_data(cache=False)
    if request.content_length is not None and len(raw) < request.content_length:
        # The client has stopped sending, but may still read the response.
        raise broken_body()
    # werkzeug silently truncates a chunked body at the limit.
    if (
        request.content_length is None
        and len(raw) == request.max_content_length
        and LimitedStream(request.environ["wsgi.input"], 1, is_max=True).read(1)
    ):
        raise RequestEntityTooLarge
    if not raw.strip():
        raise invalid("The request body is empty: send a JSON object.", code=None)
    document = _parse(raw)
    if not isinstance(document, dict):
        raise invalid(f"The request body must be a JSON object, but is {json_type(document)}.", code=None)
    check_values(document)
    return document


def _parse(raw: bytes) -> object:
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise invalid(f"The request body holds too many values: at most {MAX_VALUES} are accepted.", code=None)
    try:
        # Some Windows tools send a byte order mark first; RFC 8259 allows a parser to ignore it.
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"The request body is not UTF-8 (byte {error.start}).", code=None) from None
    try:
        return parse(text)
    except json.JSONDecodeError as error:
        raise invalid(
            f"The request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}).", code=None
        ) from None
    except _NoJsonError as error:
        raise invalid(f"The request body is not valid JSON: {error}.", code=None) from None
    except ValueError:
        # Python converts no more digits.
        most = sys.get_int_max_str_digits()
        raise invalid(f"The request body has an integer of more than {most} digits.", code=None) from None
    except RecursionError:
        raise _too_deep() from None


def parse(text: str) -> object:
    """Return the JSON value in ``text``. Raises ValueError, also for NaN and the like, and RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise _NoJsonError(f"{name} is not a JSON value")


def _too_deep() -> ApiError:
    return invalid(f"The request body is nested too deeply: at most {MAX_DEPTH} levels are accepted.", code=None)


def check_values(document: dict[str, Any]) -> None:
    """Refuse values that are valid JSON but unusable, at any depth. Raises `ApiError` with the path of the value.

    These are: more than `MAX_DEPTH` levels, more than `MAX_CONTAINERS` objects and arrays, lone surrogates (which are
    not Unicode text), NUL characters, and numbers too large for a double.
    """
    containers: list[Container] = [(None, document)]
    found = 1
    for _ in range(MAX_DEPTH):
        containers = [inner for path, container in containers for inner in _checked(path, container)]
        if not containers:
            return
        found += len(containers)
        if found > MAX_CONTAINERS:
            raise invalid(
                f"The request body holds too many objects and arrays: at most {MAX_CONTAINERS} are accepted.", code=None
            )
    raise _too_deep()


def _checked(path: Path, container: dict[str, Any] | list[Any]) -> Iterator[Container]:
    """Yield the objects and arrays directly inside ``container``; check its keys and its other values."""
    if isinstance(container, dict):
        for key in container:
            _check_text(key, path)
    entries: Iterable[tuple[str | int, Any]] = (
        container.items() if isinstance(container, dict) else enumerate(container)
    )
    for name, value in entries:
        if isinstance(value, (dict, list)):
            yield (path, name), value
        elif isinstance(value, str):
            _check_text(value, (path, name))
        elif isinstance(value, float) and not math.isfinite(value):
            param = dotted((path, name))
            raise invalid(f"Invalid '{param}': the number is too large.", param)


def _check_text(text: str, path: Path) -> None:
    if text.isascii() and "\x00" not in text:
        return
    found = _UNPRINTABLE.search(text)
    if found:
        what = "a NUL character" if found.group() == "\x00" else "half of a surrogate pair, which is no character"
        param = dotted(path)
        where = f"Invalid '{param}': it" if param else "A key of the request body"
        raise invalid(f"{where} contains {what}.", param)


def dotted(path: Path) -> str | None:
    """Return ``path`` in the form for errors, such as ``messages.0.content``; None for the body itself."""
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(str(name))
    return ".".join(reversed(names)) or None


class BodyParser(FlaskParser):
    """webargs' parser, with `read_json` in place of its own JSON reader and `ApiError` for its own errors."""

    DEFAULT_VALIDATION_STATUS = 400

    def load_json(self, req: Request, schema: Schema) -> dict[str, Any]:
        return read_json(req)

    def handle_error(
        self,
        error: ValidationError,
        req: Request,
        schema: Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        # webargs puts the messages under the name of the location.
        assert isinstance(error.messages, dict)
        raise from_validation(error.messages["json"])


def from_validation(messages: object) -> ApiError:
    """Return the error for the first fault in marshmallow's nested ``messages``."""
    path, message = _first_fault(messages)
    code = message.code if isinstance(message, CodedMessage) else "invalid_value"
    param = ".".join(path) or None
    if code == "missing_required_parameter":
        return invalid(f"Missing required parameter: '{param}'.", param, code)
    return invalid(f"Invalid '{param}': {message}" if param else str(message), param, code)


def _first_fault(messages: object) -> tuple[list[str], str]:
    path: list[str] = []
    while not isinstance(messages, str):
        if isinstance(messages, Mapping):
            key, messages = next(iter(messages.items()))
            if key != "_schema":
                path.append(str(key))
        else:
            assert isinstance(messages, list)
            messages = messages[0]
    return path, messages
