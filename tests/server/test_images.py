"""Images in a conversation, with the whole server and a model with vision."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.server import Serve, Server

COMPLETIONS = "/v1/chat/completions"


def data_uri(kind: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def shows(url: str, text: str = "What is this?") -> dict[str, Any]:
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}], "max_tokens": 4, "temperature": 0}


def test_a_model_with_vision_gets_png_and_jpeg_and_nothing_else(
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
def test_a_model_without_vision_refuses_images(demo: Server, stream: bool) -> None:
    refused = demo.http.post(COMPLETIONS, json={**shows(data_uri("PNG")), "stream": stream})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages.0.content"


def test_an_image_that_does_not_fit_the_context_is_refused_and_ends_no_process(
    serve: Serve, model_file: Callable[[str], Path]
) -> None:
    server = serve(model=str(model_file("glm4v")), max_length="64")
    children = server.children()
    sizes = []
    for length in range(44, 58):
        body = shows(data_uri("PNG"), "a" * length)
        # The model's images are 4 patches in place of one id.
        template = server.http.post("/apply-template", json={"messages": body["messages"]}).json()
        size = template["error"]["n_prompt_tokens"] if "error" in template else len(template["tokens"]) + 3
        sizes.append(size)
        for limit, stream in itertools.product((1, 2, None), (False, True)):
            answer = server.http.post(COMPLETIONS, json={**body, "max_tokens": limit, "stream": stream})
            if size < 64:
                assert answer.status_code == 200
                if not stream:
                    assert answer.json()["usage"]["prompt_tokens"] == size
                    assert answer.json()["usage"]["total_tokens"] <= 64
            else:
                assert answer.status_code == 400
                error = answer.json()["error"]
                assert (error["code"], error["n_prompt_tokens"]) == ("context_length_exceeded", size)
    assert sizes == list(range(sizes[0], sizes[0] + 14))
    assert sizes[0] < 63 < 64 < sizes[-1]
    assert server.children() == children


def test_a_context_too_small_for_an_image_is_logged_once_and_each_image_is_refused(
    serve: Serve, model_file: Callable[..., Path]
) -> None:
    server = serve(model=str(model_file("glm4v", image_size=128)), max_length="64")
    for _ in range(2):
        refused = server.http.post(COMPLETIONS, json=shows(data_uri("PNG")))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    spoken = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    assert server.http.post(COMPLETIONS, json=spoken).status_code == 200
    assert server.log.read_text().count("every request with an image is refused") == 1


def test_ids_that_open_an_image_without_one_are_refused_and_end_no_process(
    serve: Serve, model_file: Callable[..., Path]
) -> None:
    server = serve(model=str(model_file("glm4v", image_size=128)), prefill="batch")
    children = server.children()
    body = shows(data_uri("PNG"))
    ids = server.http.post("/apply-template", json={"messages": body["messages"]}).json()["tokens"]
    for stream in (False, True):
        for _ in range(4):
            refused = server.http.post("/v1/completions", json={"prompt": ids, "max_tokens": 3, "stream": stream})
            assert refused.status_code == 400
            assert "opens an image" in refused.json()["error"]["message"]
    assert server.children() == children
