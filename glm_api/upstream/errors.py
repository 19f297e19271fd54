"""The errors that a client gets when the upstream refuses or fails; they reveal no internals of the upstream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glm_api.errors import INVALID_REQUEST, NO_RETRY, SERVER_ERROR, ApiError
from glm_api.upstream.connection import Broken

LONGEST_MESSAGE = 2000
# Faults of the client, which it can mend: passed on as they are. All others are between this server and the upstream.
CLIENTS_FAULTS = frozenset({400, 404, 409, 413, 415, 422, 429})


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
    found = _envelope(body)
    return ApiError(
        400 if status == 422 else status,
        _text(found, "message") or f"The engine behind this server refused the request (status {status}).",
        type=_text(found, "type") or ("rate_limit_error" if status == 429 else INVALID_REQUEST),
        param=_text(found, "param"),
        code=_text(found, "code"),
        headers={"Retry-After": _seconds(headers)} if status == 429 else None,
    )


def in_stream(found: Mapping[str, Any]) -> ApiError:
    """Return the error that the upstream put into a stream as ``{"error": found}``, for logs and metrics."""
    return ApiError(500, _text(found, "message") or "", type=SERVER_ERROR, code=_text(found, "code"))


def _failed(message: str) -> ApiError:
    return ApiError(502, message, type=SERVER_ERROR, code="upstream_error", headers=NO_RETRY)


def _envelope(body: bytes) -> Mapping[str, Any]:
    """Return the keys of an error: those inside OpenAI's envelope, or an older vLLM's, which are at the top level."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    inside = document.get("error", document)
    return inside if isinstance(inside, dict) else {"message": inside}


def _text(found: Mapping[str, Any], key: str) -> str | None:
    value = found.get(key)
    return value[:LONGEST_MESSAGE] if isinstance(value, str) and value else None


def _seconds(headers: Mapping[str, str]) -> str:
    given = headers.get("retry-after", "")
    return given if given.isascii() and given.isdecimal() and len(given) < 6 else "2"
