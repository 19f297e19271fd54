"""Anthropic's error envelope, ``{"type": "error", "error", "request_id"}``, for every error of the paths of its API."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from glm_api.errors import INVALID_REQUEST, ApiError

PATH = "/v1/messages"

# By status; the other faults of a client are invalid requests, and the other faults of a server are API errors.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
API_ERROR = "api_error"


class MessageErrorBodySchema(Schema):
    """The error in Anthropic's envelope."""

    type = fields.String(required=True, validate=validate.OneOf([INVALID_REQUEST, *TYPES.values(), API_ERROR]))
    message = fields.String(required=True)
    details = fields.Dict(metadata={"description": "With `error_code`, for a `thread`."})


class MessageErrorSchema(Schema):
    """Anthropic's error envelope; in a stream, the data of an event `error`."""

    type = fields.String(required=True, validate=validate.Equal("error"))
    error = fields.Nested(MessageErrorBodySchema, required=True)
    request_id = fields.String(required=True)


def body(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return ``error`` as Anthropic's API tells it."""
    kind = TYPES.get(error.status) or (API_ERROR if error.status >= 500 else INVALID_REQUEST)
    # Anthropic's SDK looks for this code. Then it sends the whole conversation without a thread.
    threaded = error.status == 400 and error.param == "thread"
    details = {"details": {"error_code": "thread_unsupported_request", "unsupported": []}} if threaded else {}
    return {"type": "error", "error": {"type": kind, "message": _message(error), **details}, "request_id": request_id}


def _message(error: ApiError) -> str:
    counts = error.details
    # An engine behind this server has the code without the numbers.
    if error.code == "context_length_exceeded" and counts:
        # Claude Code looks for these words and numbers, and then makes its conversation shorter.
        return f"prompt is too long: {counts['n_prompt_tokens']} tokens > {counts['n_ctx']} maximum. {error.message}"
    # The envelope has no other place for the parameter.
    if error.param is None or f"'{error.param}'" in error.message:
        return error.message
    return f"{error.param}: {error.message}"
