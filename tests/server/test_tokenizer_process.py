"""The tokenizer process of a real server: its death and its stop cost no request, and no request delays it for long."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.model_files import tokenizers
from tests.support.processes import until
from tests.support.server import Serve, Server, chat

COMPLETIONS = "/v1/chat/completions"
WAITING = 6


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(WAITING) as pool:
        yield pool


def tokenize(server: Server) -> httpx.Response:
    return server.http.post("/tokenize", json={"content": "hello"})


def memory(pid: int, field: str) -> int:
    """What the process has (``VmRSS``) or had at most (``VmHWM``), in bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_all_requests_that_wait_for_a_tokenizer_that_dies_are_answered(
    number: signal.Signals, serve: Serve, pool: ThreadPoolExecutor
) -> None:
    server = serve()
    old = server.children()["tokenizer"]
    os.kill(old, signal.SIGSTOP)
    questions = [pool.submit(tokenize, server) for _ in range(WAITING // 2)]
    chats = [pool.submit(server.http.post, COMPLETIONS, json=chat("hello")) for _ in range(WAITING // 2)]
    until(lambda: server.health() == 503)
    if number == signal.SIGKILL:
        os.kill(old, signal.SIGKILL)
    assert {future.result().status_code for future in (*questions, *chats)} == {200}
    until(lambda: server.health() == 200)
    assert server.children()["tokenizer"] != old


def test_a_stopped_tokenizer_is_replaced_while_many_requests_come(serve: Serve, pool: ThreadPoolExecutor) -> None:
    server = serve()
    old = server.children()["tokenizer"]
    os.kill(old, signal.SIGSTOP)
    statuses: set[int] = set()
    asked = []

    def replaced() -> bool:
        # Another question comes every few milliseconds, until the last moment.
        asked.append(pool.submit(tokenize, server))
        statuses.add(server.health())
        return server.children().get("tokenizer", old) != old

    until(replaced)
    assert {future.result().status_code for future in asked} == {200}
    assert 503 in statuses
    until(lambda: server.health() == 200)


def test_requests_that_come_while_the_tokenizer_restarts_wait_for_it(serve: Serve) -> None:
    server = serve()
    os.kill(server.children()["tokenizer"], signal.SIGKILL)
    until(lambda: server.health() == 503)
    assert tokenize(server).status_code == 200
    assert server.http.post(COMPLETIONS, json=chat("hello")).status_code == 200


@pytest.mark.parametrize("family", ["chatglm", "chatglm3", "glm4"])
def test_prompts_far_beyond_the_context_cost_neither_time_nor_memory(
    family: str, serve: Serve, model_file: Callable[[str], Path], pool: ThreadPoolExecutor
) -> None:
    server = serve(model=str(model_file(family)))
    tokenizer = server.children()["tokenizer"]
    before = memory(tokenizer, "VmHWM")
    huge = ("The quick brown fox. " * 400_000)[:7_500_000]
    refused = [pool.submit(server.http.post, COMPLETIONS, json=chat(huge)) for _ in range(WAITING - 1)]
    assert server.http.post(COMPLETIONS, json=chat("hello", max_tokens=2)).status_code == 200
    for future in refused:
        error = future.result().json()["error"]
        assert (future.result().status_code, error["code"]) == (400, "context_length_exceeded")
        assert f"at least {error['n_prompt_tokens']} tokens" in error["message"]
        assert error["n_ctx"] < error["n_prompt_tokens"] <= len(huge)
    # Encoding such a text would take hundreds of megabytes.
    assert memory(tokenizer, "VmHWM") - before < 100 * 2**20
    assert server.children()["tokenizer"] == tokenizer


def test_memory_for_a_long_text_is_freed(serve: Serve, model_file: Callable[..., Path]) -> None:
    # With so long a piece, a text may be few tokens that is four for each character.
    pieces = [*tokenizers.sentencepiece_pieces()[:-1], ("的" * 100, tokenizers.NORMAL)]
    server = serve(model=str(model_file("chatglm3", tokenizer=tokenizers.sentencepiece_model(pieces))))
    tokenizer = server.children()["tokenizer"]
    before = memory(tokenizer, "VmRSS")
    server.http.post("/tokenize", json={"content": "😀" * 300_000})
    assert memory(tokenizer, "VmHWM") > before + 100 * 2**20
    until(lambda: memory(tokenizer, "VmRSS") < before + 30 * 2**20)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, {"messages": [{"role": "user", "content": "hello " * 500_000}]}),
        ("/v1/completions", {"prompt": "hello " * 500_000}),
        ("/v1/completions", {"prompt": [5] * 100_000}),
        ("/v1/responses", {"input": "hello " * 500_000}),
        ("/apply-template", {"messages": [{"role": "user", "content": "hello " * 500_000}]}),
        # One that is counted.
        ("/apply-template", {"messages": [{"role": "user", "content": "hello " * 10_000}]}),
    ],
)
def test_a_prompt_that_fits_no_context_is_refused_with_its_length(
    demo: Server, path: str, body: dict[str, object]
) -> None:
    response = demo.http.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["n_prompt_tokens"] >= error["n_ctx"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"content": "hello " * 500_000}, "content"),
        ("/tokenize", {"content": "hello " * 500_000, "with_pieces": True}, "content"),
        ("/tokenize", {"content": "1" * 40_000, "with_pieces": True}, "content"),
        ("/detokenize", {"tokens": [100] * 32_769}, "tokens"),
    ],
)
def test_what_is_tokenized_at_a_time_is_bounded(demo: Server, path: str, body: dict[str, object], param: str) -> None:
    response = demo.http.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert "at most 32768 at a time" in error["message"]


def test_the_largest_accepted_texts_survive_a_round_trip(demo: Server) -> None:
    # The digits are a token each, and one more stands in front of the text.
    text = "1" * 32_767
    pieces = demo.http.post("/tokenize", json={"content": text, "with_pieces": True}).json()["tokens"]
    assert len(pieces) == 32_768
    assert "".join(piece["piece"] for piece in pieces) == text
    ids = [piece["id"] for piece in pieces]
    assert demo.http.post("/detokenize", json={"tokens": ids}).json()["content"] == text
