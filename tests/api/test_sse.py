"""A silence in a stream harms no client: pings are comments that end no event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from flask.testing import FlaskClient
from openai._streaming import SSEDecoder

from glm_api.api.sse import PING
from glm_api.pipeline.frames import Started, Text
from tests.support.client import CHAT, HELLO
from tests.support.event_readers import ReadingFailed, line_by_line, openai_go
from tests.support.fake_pipeline import FakePipeline, Script

SILENCES: Script = [None, None, Started(5, 0), None, Text("Hi", [1]), None, Text("!", [2]), None]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HELLO}),
    ("/v1/completions", {"prompt": "Hi"}),
    ("/v1/responses", {"input": "Hi"}),
]


@pytest.fixture(params=REQUESTS, ids=lambda request: request[0])
def stream(request: pytest.FixtureRequest, client: FlaskClient, fake: FakePipeline) -> bytes:
    """A stream with silences at its beginning, in its middle and at its end."""
    path, body = request.param
    fake.scripts = [SILENCES]
    got = client.post(path, json={**body, "stream": True}, buffered=True).data
    assert got.startswith(PING * 2)
    assert got.count(PING) == 5
    return bytes(got)


def without_pings(stream: bytes) -> list[Any]:
    events = [event.partition(b"data: ")[2] for event in stream.replace(PING, b"").split(b"\n\n")]
    return [json.loads(event) for event in events if event not in (b"", b"[DONE]")]


@pytest.mark.parametrize("passes_empty_events", [True, False])
def test_openai_go_reads_it(stream: bytes, passes_empty_events: bool) -> None:
    assert openai_go(stream, passes_empty_events=passes_empty_events) == without_pings(stream)


def test_older_versions_of_openai_go_fail_at_a_comment_with_an_empty_line_behind_it(stream: bytes) -> None:
    with pytest.raises(ReadingFailed):
        openai_go(stream.replace(PING, PING + b"\n"), passes_empty_events=True)


def test_readers_of_lines_read_it(stream: bytes) -> None:
    assert line_by_line(stream) == without_pings(stream)


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_openais_python_client_reads_it(stream: bytes, size: int) -> None:
    def pieces() -> Iterator[bytes]:
        return (stream[at : at + size] for at in range(0, len(stream), size))

    events = [event.data for event in SSEDecoder().iter_bytes(pieces())]
    assert [json.loads(data) for data in events if data != "[DONE]"] == without_pings(stream)


def test_httpx_reads_its_lines(stream: bytes) -> None:
    lines = list(httpx2.Response(200, content=stream).iter_lines())
    assert [line for line in lines if line.startswith(":")] == [": ping"] * 5
