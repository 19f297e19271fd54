"""The application over a fake pipeline, and functions that read its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openai import OpenAI
from werkzeug.test import TestResponse

from config import Settings
from glm_api import create_app
from tests.support.fake_pipeline import FakePipeline

CHAT = "/v1/chat/completions"
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]

MakeApp = Callable[..., Flask]


@pytest.fixture
def fake() -> FakePipeline:
    """The pipeline behind the application."""
    return FakePipeline()


@pytest.fixture
def make_app(fake: FakePipeline) -> MakeApp:
    """Return a function that makes an application with other settings."""
    return lambda **settings: create_app(Settings(**settings), fake)


@pytest.fixture(scope="session")
def shared_app() -> Flask:
    """One application with the default settings for all tests: its OpenAPI document takes a tenth of a second."""
    return create_app(Settings(), FakePipeline())


@pytest.fixture
def app(shared_app: Flask, fake: FakePipeline) -> Flask:
    """The application with the default settings, over this test's own pipeline."""
    shared_app.extensions["glm_backend"] = fake
    return shared_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Flask's test client of the application."""
    return app.test_client()


def openai_client(app: Flask) -> OpenAI:
    """Return OpenAI's client of ``app``. It refuses answers that do not have the documented shape."""
    return OpenAI(
        base_url="http://localhost/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.WSGITransport(app)),
        _strict_response_validation=True,
    )


@pytest.fixture
def sdk(app: Flask) -> Iterator[OpenAI]:
    """OpenAI's client of the application."""
    with openai_client(app) as client:
        yield client


def error(response: TestResponse) -> dict[str, Any]:
    """Check that the answer is OpenAI's error envelope, and return the error."""
    assert response.status_code >= 400, response.text
    assert response.mimetype == "application/json"
    body = response.get_json()
    assert list(body) == ["error"]
    found: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= set(found)
    assert isinstance(found["message"], str)
    assert found["message"]
    assert isinstance(found["type"], str)
    assert found["param"] is None or isinstance(found["param"], str)
    assert found["code"] is None or isinstance(found["code"], str)
    return found


def refused(response: TestResponse, param: str | None, code: str | None = "invalid_value") -> str:
    """Check that the answer is a 400 about ``param``, and return its message."""
    found = error(response)
    assert (response.status_code, found["param"], found["code"]) == (400, param, code), found
    return str(found["message"])


def events(response: TestResponse) -> list[str]:
    """Return the data of a stream's events, in order."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    blocks = response.get_data(as_text=True).split("\n\n")
    assert blocks.pop() == ""
    lines = [line for block in blocks for line in block.split("\n") if not line.startswith((":", "event: "))]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def chunks(response: TestResponse) -> list[dict[str, Any]]:
    """Return the chunks of a stream without errors, without the ``[DONE]`` at its end."""
    *found, last = events(response)
    assert last == "[DONE]"
    return [json.loads(chunk) for chunk in found]
