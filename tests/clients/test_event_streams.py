"""Clients' readers of server-sent events read a stream with silences, in which the server sends pings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.test_sse import REQUESTS, SILENCES
from tests.support.fake_pipeline import FakePipeline

# Each reads a stream from its standard input, and writes the name and the data of each event.
EVENTSOURCE_PARSER = """
import { createParser } from "eventsource-parser";
import { EventSourceParserStream } from "eventsource-parser/stream";
const found = { fed: [], piped: [], errors: [] };
const parser = createParser({
  onEvent: (event) => found.fed.push([event.event ?? "message", event.data]),
  onError: (error) => found.errors.push(String(error)),
});
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const bytes = Buffer.concat(chunks);
const decoder = new TextDecoder();
// A byte at a time, and as the Vercel AI SDK does.
for (const byte of bytes) parser.feed(decoder.decode(new Uint8Array([byte]), { stream: true }));
const events = new Blob([bytes]).stream().pipeThrough(new TextDecoderStream())
  .pipeThrough(new EventSourceParserStream());
for await (const event of events) found.piped.push([event.event ?? "message", event.data]);
console.log(JSON.stringify(found));
"""
HTTPX_SSE = """
import json, sys
import httpx, httpx_sse
answer = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=sys.stdin.buffer.read())
print(json.dumps([[event.event, event.data] for event in httpx_sse.EventSource(answer).iter_sse()]))
"""


@pytest.fixture(params=REQUESTS, ids=lambda request: request[0])
def stream(request: pytest.FixtureRequest, client: FlaskClient, fake: FakePipeline) -> bytes:
    path, body = request.param
    fake.scripts = [SILENCES]
    got = client.post(path, json={**body, "stream": True}, buffered=True).data
    assert got.count(b": ping\n") == 5
    return bytes(got)


def sent(stream: bytes) -> list[list[str]]:
    """The name and the data of each event."""
    events = []
    for block in stream.decode().replace(": ping\n", "").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append([fields.get("event", "message"), fields["data"]])
    return events


def run(stream: bytes, *command: str, cwd: Path) -> Any:
    done = subprocess.run(command, cwd=cwd, input=stream, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_eventsource_parser(stream: bytes, node: str, node_clients: Path) -> None:
    found = run(stream, node, "--input-type=module", "--eval", EVENTSOURCE_PARSER, cwd=node_clients)
    assert found["errors"] == []
    assert found["fed"] == found["piped"] == sent(stream)


def test_httpx_sse(stream: bytes, python_clients: Path, tmp_path: Path) -> None:
    assert run(stream, str(python_clients / "python"), "-c", HTTPX_SSE, cwd=tmp_path) == sent(stream)
