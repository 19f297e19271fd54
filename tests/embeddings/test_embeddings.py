"""Embeddings over a pipeline whose answers are scripted. `tests/server` has them with llama.cpp."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import gevent
import pytest

from glm_api.pipeline.frames import Finished
from tests.support.client import MakeApp, error
from tests.support.fake_pipeline import FakePipeline

URL = "/v1/embeddings"
LLAMA_CPP: dict[str, Any] = {"gguf": Path("model.gguf"), "model_name": "glm", "model_aliases": ("chat",)}


@pytest.mark.parametrize("format", ["float", "base64"])
def test_other_requests_are_answered_between_two_vectors(make_app: MakeApp, fake: FakePipeline, format: str) -> None:
    vector = struct.pack("<2f", 1e30, -0.1)
    fake.scripts = [[Finished("stop", 0, 1.0, 0.0, None, 0, embedding=vector)]]
    turns: list[int] = []

    def others() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    other = gevent.spawn(others)
    body = {"input": ["Hi"] * 50, "encoding_format": format}
    found = make_app(**LLAMA_CPP).test_client().post(URL, json=body).get_json()
    other.kill()
    assert len(turns) >= 50
    assert [entry["index"] for entry in found["data"]] == list(range(50))
    expected = base64.b64encode(vector).decode() if format == "base64" else pytest.approx([1e30, -0.1], rel=1e-7)
    assert all(entry["embedding"] == expected for entry in found["data"])


@pytest.mark.parametrize("strict", [False, True])
def test_an_unknown_model_is_404_only_if_the_server_is_strict(
    make_app: MakeApp, fake: FakePipeline, strict: bool
) -> None:
    vector = struct.pack("<2f", 0.5, 0.25)
    fake.scripts = [[Finished("stop", 0, 1.0, 0.0, None, 0, embedding=vector)]]
    client = make_app(strict_model=strict, **LLAMA_CPP).test_client()
    for name in ("glm", "chat"):
        found = client.post(URL, json={"input": "Hi", "model": name}).get_json()
        assert (found["model"], found["data"][0]["embedding"]) == ("glm", [0.5, 0.25])
    other = client.post(URL, json={"input": "Hi", "model": "text-embedding-3-small"})
    assert other.status_code == (404 if strict else 200)
    if strict:
        assert error(other)["code"] == "model_not_found"
