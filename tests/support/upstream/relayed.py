"""What tests of the relay send, and what a scripted upstream answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.client import CHAT, HELLO

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "model": "big-glm",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "你好"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
}
COUNTS = {"object": "chat.completion.chunk", "model": "big-glm", "choices": [], "usage": ANSWER["usage"]}

MakeClient: TypeAlias = Callable[..., FlaskClient]


def chunk(text: str, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return {"object": "chat.completion.chunk", "model": "big-glm", "choices": [choice]}


def ask(client: FlaskClient, **more: Any) -> TestResponse:
    return client.post(CHAT, json={"messages": HELLO, **more})


def ask_to_the_end(client: FlaskClient, **more: Any) -> TestResponse:
    """`ask`, and read the stream, so that logs and metrics know of it."""
    return client.post(CHAT, json={"messages": HELLO, "stream": True, **more}, buffered=True)


def metric(client: FlaskClient, line: str) -> float:
    text = client.get("/metrics").get_data(as_text=True)
    return next((float(found.split()[-1]) for found in text.splitlines() if found.startswith(line)), 0.0)
