"""Embeddings: with llama.cpp, of every kind of model; not with chatglm-cpp."""

from __future__ import annotations

import base64
import os
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from openai import OpenAI

from tests.support.gguf import models
from tests.support.gguf.models import Kind
from tests.support.processes import PATIENCE, ending, until
from tests.support.server import Serve, Server, demo_on, start

URL = "/v1/embeddings"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo model on llama.cpp."""
    folder = tmp_path_factory.mktemp("embeddings")
    with ending(start) as begin:
        settings: dict[str, Any] = demo_on("llama-cpp", folder)
        yield begin(folder, engine="llama-cpp", **settings)


def embed(server: Server, input: object, **more: object) -> NDArray[np.float64]:
    response = server.http.post(URL, json={"model": "default", "input": input, **more}, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return np.array([entry["embedding"] for entry in data])


def test_each_text_has_a_vector_of_its_own(llama: Server) -> None:
    texts = ["Hello! What is your name?", "你好，你叫什么名字？", "What is 7 plus 5?"]
    vectors = embed(llama, texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    # One by one they are the same, whatever was embedded before.
    for text, vector in reversed(list(zip(texts, vectors, strict=True))):
        assert float(embed(llama, text)[0] @ vector) > 0.999
    assert max(vectors[0] @ vectors[1], vectors[0] @ vectors[2], vectors[1] @ vectors[2]) < 0.999


def test_ids_are_embedded_as_they_are(llama: Server) -> None:
    ids = llama.http.post("/tokenize", json={"content": "Hello", "add_special": True}).json()["tokens"]
    by_ids, by_text = embed(llama, [ids])[0], embed(llama, "Hello")[0]
    assert float(by_ids @ by_text) > 0.999
    assert float(embed(llama, ids)[0] @ by_text) > 0.999


def test_openai_s_sdk(llama: Server) -> None:
    client = OpenAI(base_url=f"{llama.url}/v1", api_key="none", max_retries=0)
    # It asks for base64 by itself.
    found = client.embeddings.create(model="default", input=["Hello", "World"])
    floats = client.embeddings.create(model="default", input=["Hello", "World"], encoding_format="float")
    for entry, other in zip(found.data, floats.data, strict=True):
        assert entry.embedding == pytest.approx(other.embedding, abs=1e-3)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 0
    assert found.object == "list"


def test_base64_holds_little_endian_floats(llama: Server) -> None:
    numbers = embed(llama, "Hello")[0]
    response = llama.http.post(URL, json={"input": "Hello", "encoding_format": "base64"})
    raw = base64.b64decode(response.json()["data"][0]["embedding"])
    assert struct.unpack(f"<{len(numbers)}f", raw) == pytest.approx(tuple(numbers), abs=1e-3)


def test_answers_are_the_same_beside_embeddings(llama: Server) -> None:
    body = {"messages": [{"role": "user", "content": "Hello! What is your name?"}], "temperature": 0}

    def answer() -> str:
        return str(llama.http.post(CHAT, json=body, timeout=PATIENCE).json()["choices"][0]["message"]["content"])

    before = answer()
    embedding = threading.Thread(target=embed, args=(llama, ["Hello"] * 200))
    embedding.start()
    beside = [answer() for _ in range(5)]
    embedding.join(PATIENCE)
    assert {before, *beside, answer()} == {before}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input.0"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": 5}, "input"),
        ({"input": ["a", 5]}, "input.1"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": ["a", "word " * 5000]}, "input.1"),
        ({"input": [[1], [10**6]]}, "input.1"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 64}, "dimensions"),
    ],
    ids=str,
)
def test_bad_requests(llama: Server, body: dict[str, Any], param: str) -> None:
    response = llama.http.post(URL, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.slow
@pytest.mark.parametrize("kind", models.KINDS, ids=lambda kind: kind.name)
def test_each_kind_of_model_has_them(serve: Serve, tmp_path: Path, kind: Kind) -> None:
    server = serve(model=str(models.write_model(tmp_path / "model.gguf", kind)), engine="llama-cpp")
    assert np.linalg.norm(embed(server, ["Hello", "你好"]), axis=1) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.slow
def test_no_embedding_is_lost_when_the_model_process_dies(serve: Serve, tmp_path: Path) -> None:
    server = serve(engine="llama-cpp", **demo_on("llama-cpp", tmp_path))
    texts = [f"Text number {number}." for number in range(1000)]
    before = embed(server, texts)
    found: list[NDArray[np.float64]] = []
    asking = threading.Thread(target=lambda: found.append(embed(server, texts)))
    asking.start()
    until(lambda: bool(server.http.get("/queue").json()["running"]))
    os.kill(server.children()["pipeline"], signal.SIGKILL)
    asking.join(PATIENCE)
    assert np.sum(found[0] * before, axis=1).min() > 0.999


def test_chatglm_cpp_has_none(serve: Serve) -> None:
    response = serve().http.post(URL, json={"input": "a"})
    assert response.status_code == 404
    assert "GLM_BACKEND=llama-cpp" in response.json()["error"]["message"]
