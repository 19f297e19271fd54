"""Sampling parameters through the real server: seeds, log-probabilities, biases."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.support.processes import until
from tests.support.server import Serve, Server

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def ask(server: Server, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    body = {"max_tokens": 12, "temperature": 1.5, "top_p": 1.0, **fields}
    if path == CHAT:
        body = {"messages": [{"role": "user", "content": "Tell me a story about a robot."}], **body}
    response = server.http.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def texts(server: Server, seed: int | None = None) -> list[str]:
    """Three answers to ids that the model was not trained on, so that many ids are likely."""
    answer = ask(server, TEXT, prompt=list(range(400, 420)), n=3, **({} if seed is None else {"seed": seed}))
    return [choice["text"] for choice in answer["choices"]]


def test_a_seed_makes_answers_repeatable(demo: Server) -> None:
    # llama.cpp repeats an answer as long as the same is cached.
    texts(demo)
    first = texts(demo, 42)
    assert len(set(first)) > 1
    assert texts(demo, 42) == first
    assert texts(demo, 43) != first
    assert texts(demo) != first


QUESTIONS = (
    "Tell me a story about a robot.",
    "What is the capital of France?",
    "讲个笑话",
    "How do I bake bread?",
    "Count from 1 to 10.",
)


def seeded(number: int) -> tuple[str, dict[str, Any]]:
    """One of fifty sampled requests: its path and its body. Ten are completions, twenty go on with a chat."""
    question = QUESTIONS[number % 5]
    sampling = {"seed": number, "temperature": (1, 1.25, 1.5, 1.75, 2)[number // 10], "top_p": (1, 0.95)[number % 2]}
    if number % 5 == 4:
        # Ids in no order, and many of them: there a small difference changes the answer most often.
        prompt = [300 + (place * place + 17 * number) % 2700 for place in range(200 + number)]
        return TEXT, {"prompt": prompt, "max_tokens": 20, **sampling}
    messages = [{"role": "user", "content": question}]
    if number // 5 % 2:
        messages += [{"role": "assistant", "content": "我不知道。"}, {"role": "user", "content": "Say more."}]
    return CHAT, {"messages": messages, "max_tokens": 20, **sampling}


def answer(server: Server, number: int) -> tuple[str, int]:
    """The answer to this request, and how many tokens of the prompt the cache did not have."""
    path, body = seeded(number)
    given = ask(server, path, **body)
    [choice], usage = given["choices"], given["usage"]
    text = choice["text"] if path == TEXT else choice["message"]["content"]
    return text, usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]


def test_a_seed_holds_with_and_without_the_cache_and_over_a_restart(serve: Serve) -> None:
    server = serve(cache_slots="1")
    texts = []
    for number in range(50):
        fresh, evaluated = answer(server, number)
        assert evaluated > 1
        assert answer(server, number) == (fresh, 1)
        texts.append(fresh)
    assert len(set(texts)) >= 25
    os.kill(server.children()["pipeline"], signal.SIGKILL)
    until(lambda: server.health() == 503)
    until(lambda: server.health() == 200)
    for number, text in enumerate(texts):
        path, body = seeded(number)
        if path == TEXT:
            # A cache that was made in two parts.
            ask(server, path, prompt=body["prompt"][:100], max_tokens=1)
        assert answer(server, number)[0] == text


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_name_the_text_that_is_sent(demo: Server, stream: bool) -> None:
    fields: dict[str, Any] = {"seed": 1, "logprobs": True, "top_logprobs": 2, "stop": ["robot"]}
    if not stream:
        choice = ask(demo, **fields)["choices"][0]
        text, entries = choice["message"]["content"], choice["logprobs"]["content"]
    else:
        body = {"messages": [{"role": "user", "content": "Tell me a story about a robot."}], "stream": True}
        text, entries = "", []
        sampling = {"max_tokens": 12, "temperature": 1.5, "top_p": 1.0}
        with demo.http.stream("POST", CHAT, json={**body, **sampling, **fields}) as response:
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    text += choice["delta"].get("content") or ""
                    entries += (choice["logprobs"] or {}).get("content") or []
    assert text
    # An answer at random may have bytes that are no character.
    sent = b"".join(bytes(entry["bytes"]) for entry in entries).decode(errors="replace")
    assert sent.strip().startswith(text.strip()) or text.strip().startswith(sent.strip())
    for entry in entries:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"]


def test_a_prompt_of_ids_is_scored_as_evaluation_harnesses_ask_for_it(demo: Server) -> None:
    ids = demo.http.post("/tokenize", json={"content": "The capital of France is Paris."}).json()["tokens"]
    fields = {"prompt": ids, "echo": True, "logprobs": 1, "temperature": 0, "seed": 1234}
    if demo.engine == "llama-cpp":
        # It tells nothing of the tokens of a prompt.
        refused = demo.http.post(TEXT, json={**fields, "max_tokens": 1})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "logprobs"
        return
    for most in (0, 1):
        [choice] = ask(demo, TEXT, **fields, max_tokens=most)["choices"]
        scores = choice["logprobs"]["token_logprobs"]
        assert len(scores) == len(ids) + most
        assert scores[0] is None
        assert all(score <= 0 for score in scores[1:])


def test_a_bias_forbids_and_forces(demo: Server) -> None:
    [token] = demo.http.post("/tokenize", json={"content": "Paris"}).json()["tokens"][-1:]
    [choice] = ask(demo, logit_bias={str(token): 100}, logprobs=True)["choices"]
    assert {entry["token"] for entry in choice["logprobs"]["content"]} == {"Paris"}
    [choice] = ask(demo, logit_bias={str(token): -100}, logprobs=True, max_tokens=50)["choices"]
    assert "Paris" not in {entry["token"] for entry in choice["logprobs"]["content"]}
