"""A server with the real pages and a scripted model, whose answers come when the test wants them."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from glm_api.pages import blueprint

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MODEL = "chatglm3-6b"

PING = ": ping\n"
DONE = "data: [DONE]\n\n"

USAGE = {
    "prompt_tokens": 1234,
    "completion_tokens": 29,
    "total_tokens": 1263,
    "prompt_tokens_details": {"cached_tokens": 1200},
}
TIMINGS = {"queue_ms": 0, "prompt_ms": 40, "predicted_ms": 2000, "predicted_per_second": 14.52}


class Gate(threading.Event):
    """A place in a stream where the model stops until the test opens the gate."""


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **fields: Any) -> str:
    """One event of a chat completion's stream; without a delta, one that carries no choice."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": MODEL,
        "choices": choices,
    }
    return f"data: {json.dumps(body | {'usage': None} | fields, ensure_ascii=False)}\n\n"


def text(content: str) -> str:
    return chunk({"content": content})


def thought(content: str) -> str:
    return chunk({"reasoning_content": content})


def ending(finish: str = "stop") -> list[str]:
    return [chunk({}, finish=finish), chunk(usage=USAGE, timings=TIMINGS), DONE]


def answer(*parts: str | Gate, finish: str = "stop") -> list[str | Gate]:
    """A whole stream: the role, the parts with gates between them, the end with usage and timings."""
    pieces = [part if isinstance(part, Gate) else text(part) for part in parts]
    return [chunk({"role": "assistant", "content": ""}), *pieces, *ending(finish)]


def tool_call(name: str, *arguments: str, id: str = "call_1") -> list[str | Gate]:
    """A stream that calls a function, with the arguments in pieces."""
    call = {"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in arguments]
    head = chunk({"role": "assistant", "content": ""})
    return [head, chunk({"tool_calls": [call]}), *pieces, *ending("tool_calls")]


@dataclass
class Failure:
    """An answer with an error's status and envelope."""

    status: int
    message: str
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        error = {"message": self.message, "type": "invalid_request_error", "param": None, "code": self.code}
        return Response(json.dumps({"error": error}), self.status, self.headers, mimetype="application/json")


LOADING = Failure(503, "The model is loading.", "model_loading", {"Retry-After": "1"})


class Stub:
    """The server, what it will say next and what it was asked."""

    def __init__(self, prefix: str = "") -> None:
        self.replies: deque[list[str | Gate] | Failure] = deque()
        self.requests: list[dict[str, Any]] = []
        self.key: str | None = None
        self.health: Failure | None = None
        self.models = [MODEL]
        # What the list of models answers first.
        self.models_fail: list[Failure] = []
        self.client_left = threading.Event()
        self._server = make_server("127.0.0.1", 0, self._under(prefix), threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}{prefix}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _under(self, prefix: str) -> WSGIApplication:
        app = self._app()
        return DispatcherMiddleware(NotFound(), {prefix: app}) if prefix else app

    def _app(self) -> Flask:
        app = Flask("stub")
        app.register_blueprint(blueprint)

        @app.before_request
        def check_key() -> Response | None:
            if (
                self.key
                and request.path.startswith("/v1/")
                and request.headers.get("Authorization") != f"Bearer {self.key}"
            ):
                return Failure(401, "Incorrect API key provided.", "invalid_api_key").response()
            return None

        @app.after_request
        def read_file(response: Response) -> Response:
            """Send a file from memory: werkzeug's server does not close it when the browser resets the connection."""
            if response.direct_passthrough:
                response.direct_passthrough = False
                response.get_data()
                response.close()
            return response

        @app.get("/health")
        def health() -> Response:
            return self.health.response() if self.health else jsonify(status="ok")

        @app.get("/v1/models")
        def models() -> Response:
            if self.models_fail:
                return self.models_fail.pop(0).response()
            return jsonify(object="list", data=[{"id": id, "object": "model"} for id in self.models])

        @app.post("/v1/chat/completions")
        def complete() -> Response:
            self.requests.append(request.get_json())
            reply = self.replies.popleft()
            if isinstance(reply, Failure):
                return reply.response()
            headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
            return Response(self._stream(reply), headers=headers)

        @app.get("/openapi.json")
        def openapi() -> Response:
            operation = {"summary": "Answer a conversation", "responses": {"200": {"description": "The answer"}}}
            return jsonify(
                openapi="3.1.0",
                info={"title": "GLM API", "version": "1"},
                servers=[{"url": "./"}],
                paths={"/v1/chat/completions": {"post": operation}, "/v1/models": {"get": operation}},
            )

        return app

    def _stream(self, pieces: list[str | Gate]) -> Iterator[str]:
        try:
            for piece in pieces:
                if isinstance(piece, Gate):
                    # Writing is how a server notices that the client has left.
                    while not piece.wait(0.05):
                        yield PING
                else:
                    yield piece
        except GeneratorExit:
            self.client_left.set()
            raise
