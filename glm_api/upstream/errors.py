"""The errors that a client gets when the upstream refuses or fails; they reveal no internals of the upstream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from glm_api.errors import INVALID_REQUEST, NO_RETRY, SERVER_ERROR, ApiError
from glm_api.upstream.connection import Broken
from glm_api.upstream.documents import as_unicode, read_object

# In characters.
LONGEST_MESSAGE = 2000
LONGEST_NAME = 200
# How many faults of a request a message tells.
MOST_FAULTS = 5
# Faults of the client, which it can mend: passed on as they are. All others are between this server and the upstream.
CLIENTS_FAULTS = frozenset({400, 404, 409, 413, 415, 422, 429})

# Xinference begins its messages with the address and the number of a process. Other engines quote network addresses,
# and Python quotes addresses in memory. The numbers of repetitions bound the time that a search takes.
_PROCESS = re.compile(r"\[address=[^\]]{1,200}\]\s*")
_ADDRESS = re.compile(
    r"(?<=://)[^\s/'\"]{1,200}:\d{1,5}\b"
    r"|\b(?:[a-z0-9_-]{1,63}\.){1,8}[a-z][a-z0-9_-]{0,62}:\d{1,5}\b"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b"
    r"|\[(?=[0-9a-f]{0,4}:[0-9a-f]{0,4}:)[0-9a-f:.]{2,45}\](?::\d{1,5}\b)?"
    r"|\blocalhost(?::\d{1,5})?\b"
    r"|\b0x[0-9a-f]{6,16}\b",
    re.ASCII | re.IGNORECASE,
)


def broken(failure: Broken) -> ApiError:
    """Return the error for an upstream that cannot be reached (503: safe to try again) or broke off (502: it may have
    worked on the request)."""
    if not failure.connected:
        return ApiError(
            503,
            "The engine behind this server cannot be reached. Try again in a few seconds.",
            type="unavailable_error",
            code="upstream_unavailable",
            headers={"Retry-After": "2"},
        )
    return cut_off()


def cut_off() -> ApiError:
    """Return the error for an answer that ended before it was complete."""
    return _failed("The engine behind this server stopped before its answer was complete.")


def unreadable() -> ApiError:
    """Return the error for an answer that does not follow OpenAI's API."""
    return _failed("The engine behind this server gave an answer that does not follow OpenAI's API.")


def of_status(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return the error for an answer of the upstream whose ``status`` is not 200."""
    if status in (401, 403):
        return _failed("The engine behind this server refuses this server's key (GLM_UPSTREAM_KEY).")
    if status == 503:
        return ApiError(
            503,
            "The engine behind this server is not ready. Try again in a few seconds.",
            type="unavailable_error",
            code="upstream_unavailable",
            headers={"Retry-After": _seconds(headers)},
        )
    if status not in CLIENTS_FAULTS:
        return _failed(f"The engine behind this server failed on this request (status {status}).")
    found = _refusal(headers, body)
    told = f"The engine behind this server refused the request (status {status})"
    reason = _text(found, "reason")
    return ApiError(
        400 if status == 422 else status,
        _text(found, "message") or (f"{told}: {reason}" if reason else f"{told}."),
        type=_name(found, "type") or ("rate_limit_error" if status == 429 else INVALID_REQUEST),
        param=_name(found, "param"),
        code=_name(found, "code"),
        headers={"Retry-After": _seconds(headers)} if status == 429 else None,
    )


def names_stream_options(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether the upstream has refused a request for its ``stream_options``.

    An engine that hands all parameters to a function fails with 500 for one that it does not know.
    """
    if status not in (400, 422, 500):
        return False
    found = _refusal(headers, body)
    named = f"{found.get('param')} {found.get('message')} {found.get('reason')}"
    return "stream_options" in named or "include_usage" in named


def told(payload: Mapping[str, Any]) -> ApiError | None:
    """Return the error that an answer with status 200 tells in ``payload``, a body or the data of an event."""
    kind, found = payload.get("type"), payload.get("error")
    if not found and kind == "error":
        # An event of the Responses API: its type is no type of an error.
        found = {**payload, "type": None}
    if not found and payload.get("object") == "error":
        # An older vLLM.
        found = payload
    if not found and kind is None and not {"choices", "object"} & payload.keys():
        # FastAPI's.
        found = payload.get("detail")
    if not found and kind == "response.failed" and isinstance(response := payload.get("response"), dict):
        found = response.get("error")
    if not found:
        return None
    keys = found if isinstance(found, dict) else {"message": found}
    return ApiError(
        500,
        _text(keys, "message") or "The engine behind this server failed on this request.",
        type=_name(keys, "type") or SERVER_ERROR,
        param=_name(keys, "param"),
        code=_name(keys, "code"),
    )


def conceal(payload: dict[str, Any]) -> None:
    """Remove the upstream's internals from the messages of errors in ``payload``, as `told` reads it."""
    response = payload.get("response")
    holders = [payload.get("error"), response.get("error") if isinstance(response, dict) else None]
    for holder in [*holders, payload if payload.get("type") == "error" else None]:
        if isinstance(holder, dict) and isinstance(holder.get("message"), str):
            holder["message"] = _public(holder["message"])
    if isinstance(payload.get("error"), str):
        payload["error"] = _public(payload["error"])


def _failed(message: str) -> ApiError:
    return ApiError(502, message, type=SERVER_ERROR, code="upstream_error", headers=NO_RETRY)


def _refusal(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    """Return the keys of an error, or under ``reason`` what an engine without OpenAI's envelope tells.

    The keys are inside the envelope, or at the top level as with an older vLLM. A ``reason`` is an ``error`` that is a
    text, FastAPI's ``detail`` or others' ``errors`` (a text or a list of faults), or the whole of a plain text.
    """
    try:
        document = read_object(body)
    except ValueError:
        is_text = headers.get("content-type", "").lower().startswith("text/plain")
        return {"reason": body[: 4 * LONGEST_MESSAGE].decode(errors="replace").strip()} if is_text else {}
    inside: dict[str, Any] = document["error"] if isinstance(document.get("error"), dict) else document
    while not isinstance(inside.get("message"), str):
        match inside.get("error") or inside.get("detail") or inside.get("errors"):
            case dict() as inner:
                inside = inner
            case str() as reason:
                return {"reason": reason}
            case list() as faults:
                return _faults(faults)
            case _:
                break
    return inside


def _faults(entries: list[Any]) -> Mapping[str, Any]:
    """Return the ``reason`` and the ``param`` in a list of faults. FastAPI's have ``loc`` and ``msg``, others a text.

    Their ``input`` and ``ctx`` are left out: they may repeat the whole request.
    """
    reasons: list[str] = []
    params: list[str] = []
    for entry in entries[:MOST_FAULTS]:
        if isinstance(entry, str):
            reasons.append(entry)
        reason = (entry.get("msg") or entry.get("message")) if isinstance(entry, dict) else None
        if not isinstance(reason, str):
            continue
        loc = entry.get("loc")
        names = [str(name) for name in loc[:16] if isinstance(name, (str, int))] if isinstance(loc, list) else []
        param = ".".join(names[1:] if names[:1] == ["body"] else names)
        params.append(param)
        reasons.append(f"{param[:LONGEST_NAME]}: {reason}" if param else reason)
    return {"reason": "; ".join(reasons), "param": next(iter(params), None)}


def _text(found: Mapping[str, Any], key: str) -> str | None:
    value = found.get(key)
    return _public(value) if isinstance(value, str) and value else None


def _name(found: Mapping[str, Any], key: str) -> str | None:
    value = found.get(key)
    return as_unicode(value[:LONGEST_NAME]) if isinstance(value, str) and value else None


def _public(text: str) -> str:
    """Return ``text`` without addresses, cut to `LONGEST_MESSAGE` characters."""
    begin = as_unicode(text[: 2 * LONGEST_MESSAGE])
    return _ADDRESS.sub("(address)", _PROCESS.sub("", begin))[:LONGEST_MESSAGE]


def _seconds(headers: Mapping[str, str]) -> str:
    given = headers.get("retry-after", "")
    return given if given.isascii() and given.isdecimal() and len(given) < 6 else "2"
