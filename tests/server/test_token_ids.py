"""Token ids: those that a client sends, those of its text, and those of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from tests.support.model_files import tiktoken_reference, tokenizers
from tests.support.model_files.fixtures import OpenModel
from tests.support.server import Serve, Server

# Behind the demo model's vocabulary: just so, in the range of other models, and far off.
UNKNOWN = [3072, 64790, 2**31 - 1]


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("several", [False, True])
def test_a_prompt_with_unknown_ids_is_refused(demo: Server, unknown: int, several: bool) -> None:
    known = demo.http.post("/tokenize", json={"content": "hello"}).json()["tokens"]
    before = demo.children()
    with demo.sdk() as client, pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="demo", prompt=[known, [*known, unknown]] if several else [*known, unknown])
    assert refused.value.param == "prompt"
    assert str(unknown) in refused.value.message
    assert demo.children() == before, "a process died of it"


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_unknown_ids_have_no_text(demo: Server, unknown: int) -> None:
    response = demo.http.post("/detokenize", json={"tokens": [unknown]})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tokens"


@pytest.mark.parametrize("text", ["hello  world", " hello", "你好，世界", "a 😀 b 龘", "\n\n x\ty", ""])
def test_the_pieces_of_a_text_join_to_it(demo: Server, text: str) -> None:
    response = demo.http.post("/tokenize", json={"content": text, "with_pieces": True})
    pieces = [token["piece"] for token in response.json()["tokens"]]
    joined = b"".join(piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces)
    assert joined.decode() == text
    if "龘" in text:
        assert any(isinstance(piece, list) for piece in pieces)


def test_a_prompt_of_ids_is_answered_like_its_text(demo: Server) -> None:
    ids = demo.http.post("/tokenize", json={"content": "hello", "add_special": True}).json()["tokens"]
    with demo.sdk() as client:
        texts = [
            client.completions.create(model="demo", prompt=prompt, temperature=0).choices[0].text
            for prompt in ("hello", ids)
        ]
    assert texts[0] == texts[1]


def test_glm4_gets_the_ids_that_it_was_trained_on(serve: Serve, model_file: Callable[..., Path]) -> None:
    server = serve(model=str(model_file("glm4")))
    ranks = {token: rank for rank, token in enumerate(tokenizers.tiktoken_tokens())}
    for text in ("　　你好\n　　今天", "你好　　北京", "a\xa0\xa0b", "def f(x):\n    ", "a  "):
        tokens = server.http.post("/tokenize", json={"content": text}).json()["tokens"]
        assert tokens == tiktoken_reference.encode(text, ranks), text
    user = {"role": "user", "content": "hello"}
    counts = [
        server.http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).json()["usage"]
        for messages in ([user], [{"role": "system", "content": ""}, user])
    ]
    assert counts[0]["prompt_tokens"] == counts[1]["prompt_tokens"], "an empty system message is left out"


def test_an_answer_truncated_inside_a_character_ends_before_it(
    serve: Serve, model_file: Callable[..., Path], open_model: Callable[..., OpenModel]
) -> None:
    tokenizer = open_model("chatglm3").tokenizer
    said = tokenizer.encode("\n你好😀")  # the last four are the bytes of one character
    chain = (tokenizer.role("assistant"), *said, tokenizer.role("user"))
    server = serve(model=str(model_file("chatglm3", script=(chain,))))
    for most in range(len(said) - 4, len(said) + 1):
        body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": most}
        expected = "你好😀" if most == len(said) else "你好"
        answer = server.http.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["message"]["content"] == expected
        assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", most)
        stream = server.http.post("/v1/chat/completions", json={**body, "stream": True}).text
        chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == expected
