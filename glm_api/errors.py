"""Errors: every error answer has an error envelope as its body: OpenAI's, or another one for paths of another API.

OpenAI's ``{"error": {"message", "type", "param", "code"}}`` always has these four keys; a few errors have more.

To refuse a request, raise `ApiError`. The backend raises `BackendError`, and werkzeug has errors of its own (404, 405,
413 ...). The handlers here convert both, and any unforeseen exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from flask import Flask, Response, current_app, g, jsonify, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from glm_api.backend.errors import (
    BackendError,
    Busy,
    ClientGone,
    ContextLengthExceeded,
    DeadlineExceeded,
    Interrupted,
    ModelLoading,
    PromptError,
    QueueFull,
    ShuttingDown,
)

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

# Tells OpenAI's SDKs not to send the same request again by themselves.
NO_RETRY = {"x-should-retry": "false"}

# In seconds. Clients that hold connections by sending slowly lose them sooner or later; nobody knows when.
OVERLOADED_RETRY_AFTER = 5

# nginx's status for a client that left before its answer. Nobody receives it; logs and metrics show it.
CLIENT_CLOSED_REQUEST = 499

# Endpoints that OpenAI offers and this server does not, by path prefix.
ABSENT_ENDPOINTS = {
    "/v1/embeddings": "embeddings: of its engines only llama.cpp gives them (GLM_BACKEND=llama-cpp)",
    "/v1/audio": "audio",
    "/v1/images": "image generation",
    "/v1/videos": "video generation",
    "/v1/moderations": "moderation",
    "/v1/files": "file storage",
    "/v1/uploads": "file storage",
    "/v1/batches": "batches",
    "/v1/fine_tuning": "fine-tuning",
    "/v1/assistants": "assistants: send the whole conversation to /v1/chat/completions",
    "/v1/threads": "threads: send the whole conversation to /v1/chat/completions",
    "/v1/vector_stores": "vector stores",
    "/v1/realtime": "realtime sessions",
    "/v1/conversations": "stored conversations: /v1/responses continues a response with previous_response_id",
    "/v1/responses/": "that part of the Responses API; with GLM_BACKEND=openai it stores no responses",
    "/v1/chat/completions/": "stored completions: answers are given once and not kept",
    "/v1/engines": "engines: see /v1/models",
    "/v1/edits": "edits: use /v1/chat/completions",
    "/v1/messages/batches": "batches: send each message by itself to /v1/messages",
}


# The paths of requests from a client whose base URL is wrong: it has two /v1, none, or an endpoint at its end.
_WRONG_BASE = re.compile(
    r"/v1(?:/v1)+(/.+)|/.+(/chat/completions|(?<!/chat)/completions|/responses|/embeddings|/models)"
)

# Anthropic's clients put the /v1 there themselves.
_WRONG_ANTHROPIC_BASE = re.compile(r"/.+(/v1/messages(?:/count_tokens)?)")


class ApiError(Exception):
    """An error as the client sees it. ``details`` are further keys of the envelope, beside the four."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})
        self.details = dict(details or {})

    def body(self) -> dict[str, Any]:
        """Return the envelope."""
        known = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {**known, **self.details}}


Envelope = Callable[[ApiError, str], dict[str, Any]]
"""Returns the body that tells an error of a request, whose id comes second."""


def invalid(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    """Return the error for an invalid ``param``: 400."""
    return ApiError(400, message, param=param, code=code)


def from_backend(error: BackendError) -> ApiError:
    """Return the error that a client gets for an error of the backend."""
    match error:
        case ContextLengthExceeded():
            counts = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context_length}
            return ApiError(400, error.message, param=error.param, code="context_length_exceeded", details=counts)
        case PromptError():
            return invalid(error.message, error.param)
        case QueueFull():
            return _busy(429, "rate_limit_error", "queue_full", error)
        case ModelLoading():
            return _busy(503, "unavailable_error", "model_loading", error)
        case ShuttingDown():
            return _busy(503, "unavailable_error", "shutting_down", error)
        case Interrupted():
            # Not 503, after which proxies send a request elsewhere: this one may have cost minutes already.
            return ApiError(500, error.message, type=SERVER_ERROR, code="shutting_down")
        case DeadlineExceeded():
            return ApiError(504, error.message, type=SERVER_ERROR, code="timeout")
        case ClientGone():
            return ApiError(CLIENT_CLOSED_REQUEST, error.message, code="client_closed_request")
        case _:
            return ApiError(500, error.message, type=SERVER_ERROR, code="engine_error", headers=NO_RETRY)


def _busy(status: int, type: str, code: str, error: Busy) -> ApiError:
    return ApiError(status, error.message, type=type, code=code, headers={"Retry-After": str(error.retry_after)})


def late_body(seconds: float) -> ApiError:
    """Return the error for a body that did not arrive in time."""
    message = f"The request body did not arrive within {seconds:g} seconds. Send it again."
    return ApiError(408, message, code="request_timeout")


def broken_body() -> ApiError:
    """Return the error for a body whose end cannot be determined or did not arrive."""
    return invalid(
        "The request body is broken: it ends before its Content-Length, or its chunks are not valid HTTP/1.1.",
        code=None,
    )


def overloaded(message: str) -> ApiError:
    """Return the error for a request for which the server has no room now, but may have soon: 503."""
    headers = {"Retry-After": str(OVERLOADED_RETRY_AFTER)}
    return ApiError(503, message, type="unavailable_error", code="overloaded", headers=headers)


def from_http(error: HTTPException) -> ApiError:
    """Return the error that a client gets for an error of werkzeug."""
    status = error.code or 500
    if status >= 500:
        return unforeseen(status)
    headers: dict[str, str] = {}
    match error:
        case NotFound():
            message = _absence()
        case MethodNotAllowed() if (hint := _right_base()) is not None:
            status, message = 404, hint
        case MethodNotAllowed():
            allowed = ", ".join(sorted(error.valid_methods or ()))
            headers["Allow"] = allowed
            message = f"{request.path} does not take {request.method}. It takes: {allowed}."
        case RequestEntityTooLarge():
            limit = current_app.config["MAX_CONTENT_LENGTH"]
            message = f"The request body is too large: at most {limit} bytes are accepted."
        case ClientDisconnected():
            return broken_body()
        case _:
            message = error.description or error.name
    return ApiError(status, message, headers=headers)


def unforeseen(status: int = 500) -> ApiError:
    """Return the error for a fault of this server; it reveals no internals."""
    return ApiError(
        status, "The server failed on this request. See the server's log.", type=SERVER_ERROR, headers=NO_RETRY
    )


def _right_base() -> str | None:
    """Return what a client is told whose base URL is wrong; None if that is not to be seen from the path."""
    if (messages := _WRONG_ANTHROPIC_BASE.fullmatch(request.path)) is not None:
        return (
            f"There is no {request.method} {request.path} here. The base URL of a client of Anthropic's API has no "
            f"/v1, such as http://127.0.0.1:8000; then the path is {messages[1]}."
        )
    found = _WRONG_BASE.fullmatch(request.path)
    path = request.path if found is None else f"/v1{found[1] or found[2]}"
    if path == request.path:
        return None
    return (
        f"There is no {request.method} {request.path} here. The base URL of a client must end in one /v1, such "
        f"as http://127.0.0.1:8000/v1; then the path is {path}."
    )


def _absence() -> str:
    if (hint := _right_base()) is not None:
        return hint
    for beginning, what in ABSENT_ENDPOINTS.items():
        if request.path.startswith(beginning):
            return f"This server does not offer {what}."
    listed = "GET /docs lists the endpoints, and GET /openapi.json lists them for programs."
    return f"There is no {request.method} {request.path} here. {listed}"


def envelope() -> Callable[[ApiError], dict[str, Any]]:
    """Return what makes the body of an error of this request; it may be called when the request is over."""
    envelopes: Mapping[str, Envelope] = current_app.extensions["glm_envelopes"]
    for path, of_path in envelopes.items():
        if request.path == path or request.path.startswith(f"{path}/"):
            id: str = g.record.id
            return lambda error: of_path(error, id)
    return ApiError.body


def respond(error: ApiError) -> Response:
    """Return the response for ``error``, and keep the error in ``g.error`` for logs and metrics."""
    g.error = error
    response = jsonify(envelope()(error))
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def register(app: Flask, envelopes: Mapping[str, Envelope] = MappingProxyType({})) -> None:
    """Make every error of ``app`` end in an envelope: that of ``envelopes`` for its path or one above, or OpenAI's."""
    app.extensions["glm_envelopes"] = envelopes

    @app.errorhandler(ApiError)
    def api_error(error: ApiError) -> Response:
        return respond(error)

    @app.errorhandler(BackendError)
    def backend_error(error: BackendError) -> Response:
        return respond(from_backend(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return respond(from_http(error))

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        app.logger.exception("%s %s failed", request.method, request.path, exc_info=error)
        return respond(unforeseen())
