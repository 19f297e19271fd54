"""Images in a conversation, through the whole server to a model that sees."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .conftest import Serve, Server

COMPLETIONS = "/v1/chat/completions"


def data_uri(kind: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def shows(url: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}], "max_tokens": 4, "temperature": 0}


def test_a_model_that_sees_is_shown_png_and_jpeg_and_nothing_else(
    serve: Serve, model_file: Callable[[str], Path]
) -> None:
    server = serve(model=str(model_file("glm4v")))
    for kind in ("PNG", "JPEG"):
        for stream in (False, True):
            assert server.http.post(COMPLETIONS, json={**shows(data_uri(kind)), "stream": stream}).status_code == 200
    for url in (
        "https://example.org/cat.png",
        "file:///etc/passwd",
        data_uri("GIF"),
        "data:image/png;base64,aGVsbG8=",
        data_uri("PNG")[:80],
    ):
        refused = server.http.post(COMPLETIONS, json=shows(url))
        assert refused.status_code == 400, url
        assert refused.json()["error"]["type"] == "invalid_request_error"
    assert server.health() == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_does_not_see_says_so(demo: Server, stream: bool) -> None:
    refused = demo.http.post(COMPLETIONS, json={**shows(data_uri("PNG")), "stream": stream})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages.0.content"
