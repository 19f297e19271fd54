"""The real server before a real llama-server: OpenAI's client, clients that leave, and an upstream that dies."""

from __future__ import annotations

import json
import signal
import socket
import threading
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.processes import until
from tests.support.server import Serve, Server
from tests.support.upstream.fixtures import LlamaServer, StartLlamaServer
from tests.support.upstream.scripted import Script, body, scripted_upstream

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def front(serve: Serve, llama_server: LlamaServer) -> Server:
    """The server, with room for two requests at the upstream."""
    return before(serve, llama_server, upstream_concurrency="2")


def before(serve: Serve, llama_server: LlamaServer, **settings: str) -> Server:
    return serve(
        backend="openai",
        upstream_url=llama_server.url,
        upstream_key=llama_server.api_key or "",
        upstream_models=f"glm={llama_server.model}",
        **settings,
    )


def address(front: Server) -> tuple[str, int]:
    url = httpx.URL(front.url)
    assert url.port is not None
    return url.host, url.port


def running(front: Server) -> int:
    lines = front.http.get("/metrics").text.splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("glm_num_requests_running "))


def test_openai_s_client(front: Server, llama_server: LlamaServer) -> None:
    sdk = front.sdk()
    assert [model.id for model in sdk.models.list()] == ["glm"]
    asked = {"model": "glm", "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
    whole = sdk.chat.completions.create(**asked)  # type: ignore[call-overload]
    stream = sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    chunks = list(stream)
    assert whole.model == chunks[0].model == "glm"
    assert whole.choices[0].finish_reason == "length"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12
    direct = llama_server.http.post("/v1/chat/completions", json=asked).json()
    assert direct["choices"][0]["message"]["content"] == text


def test_the_upstream_s_refusals_are_openai_s(front: Server) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        front.sdk().chat.completions.create(model="glm", messages=[{"role": "user", "content": "x" * 9000}])
    assert caught.value.type == "exceed_context_size_error"


def test_a_client_that_leaves_a_stream_frees_the_upstream(front: Server, llama_server: LlamaServer) -> None:
    stream = front.sdk().chat.completions.create(model="glm", messages=MESSAGES, stream=True)
    for _, chunk in zip(range(5), stream, strict=False):
        assert chunk.choices
    assert llama_server.busy() == 1
    stream.close()
    until(lambda: llama_server.busy() == 0 and running(front) == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_begins_is_told_to_the_upstream(serve: Serve, stream: bool) -> None:
    with scripted_upstream() as upstream:
        front = serve(backend="openai", upstream_url=upstream.url)
        upstream.script = Script([threading.Event()])
        with socket.create_connection(address(front)) as client:
            body = json.dumps({"messages": MESSAGES, "stream": stream}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            until(lambda: running(front) == 1 and bool(upstream.asked))
        until(lambda: upstream.left.is_set() and running(front) == 0)
        assert 'glm_client_disconnects_total{phase="prefill"} 1.0' in front.http.get("/metrics").text


def test_an_engine_that_is_not_like_openai_s_in_everything_serves_openai_s_client(serve: Serve) -> None:
    def answer(asked: dict[str, Any]) -> Script:
        if "stream_options" in asked:
            return body({"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}, 422)
        if "top_p" in asked:
            return body({"detail": "top_p is not known here"}, 400)
        start = {"id": "x", "created": 1, "model": "m"}
        if asked.get("stream"):
            parts = [
                {"index": 0, "delta": {"content": "half \ud83d"}, "finish_reason": reason} for reason in (None, "stop")
            ]
            chunks = [{**start, "object": "chat.completion.chunk", "choices": [part]} for part in parts]
            return Script([f"id: 1\ndata: {json.dumps(chunk)}\n\n".encode() for chunk in chunks])
        message = {"role": "assistant", "content": "half \ud83d"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return body({**start, "object": "chat.completion", "choices": [choice]})

    with scripted_upstream() as upstream:
        upstream.script = answer
        sdk = serve(backend="openai", upstream_url=upstream.url).sdk()
        whole = sdk.chat.completions.create(model="m", messages=MESSAGES)
        assert whole.choices[0].message.content == "half \ud83d"
        for _ in range(2):
            stream = list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))
            assert [chunk.choices[0].delta.content for chunk in stream] == ["half \ud83d"] * 2
        assert len(upstream.asked) == 4
        with pytest.raises(openai.BadRequestError, match="top_p is not known here"):
            sdk.chat.completions.create(model="m", messages=MESSAGES, top_p=0.5)


def test_an_upstream_that_dies_ends_its_streams_and_the_next_one_serves(
    serve: Serve, start_llama_server: StartLlamaServer
) -> None:
    llama_server = start_llama_server()
    front = before(serve, llama_server)
    with front.http.stream("POST", "/v1/chat/completions", json={"messages": MESSAGES, "stream": True}) as response:
        lines = (line for line in response.iter_lines() if line)
        assert json.loads(next(lines).removeprefix("data: "))["model"] == "glm"
        llama_server.stop(signal.SIGKILL)
        *_, failure, done = lines
    assert json.loads(failure.removeprefix("data: "))["error"]["code"] == "upstream_error"
    assert done == "data: [DONE]"
    until(lambda: front.health() == 503)
    assert front.http.post("/v1/chat/completions", json={"messages": MESSAGES}).status_code == 503
    start_llama_server(port=int(llama_server.url.split(":")[2].removesuffix("/v1")))
    until(lambda: front.health() == 200)
    again = front.http.post("/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 2})
    assert again.status_code == 200


def test_a_key_that_the_upstream_refuses(serve: Serve, llama_server: LlamaServer) -> None:
    front = serve(ready=False, backend="openai", upstream_url=llama_server.url, upstream_key="wrong")
    until(lambda: front.health() == 503 and "GLM_UPSTREAM_KEY" in front.http.get("/health").text)
    assert "wrong" not in front.log.read_text()


def test_more_clients_than_places_are_served_in_turn(serve: Serve, llama_server: LlamaServer) -> None:
    front = before(serve, llama_server, upstream_concurrency="1")
    body = {"messages": MESSAGES, "max_tokens": 20}
    statuses: list[int] = []
    clients = [
        threading.Thread(
            target=lambda: statuses.append(
                httpx.post(f"{front.url}/v1/chat/completions", json=body, timeout=60).status_code
            )
        )
        for _ in range(6)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert statuses == [200] * 6


def test_sigterm_lets_a_stream_finish(serve: Serve, llama_server: LlamaServer) -> None:
    front = before(serve, llama_server)
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 300}
    with front.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = (line for line in response.iter_lines() if line)
        next(lines)
        front.process.send_signal(signal.SIGTERM)
        *_, done = lines
    assert done == "data: [DONE]"
    assert front.stop() == 0
