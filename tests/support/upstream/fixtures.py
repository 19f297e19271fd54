"""A real upstream: llama.cpp's server with a tiny model, whose answers go on for as long as they are wanted."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import PATIENCE, Running, ending, free_port, launch
from tests.support.upstream.gguf_model import NAME, write_model

API_KEY = "upstream-key"


@dataclass
class LlamaServer(Running):
    """A llama.cpp server that runs. ``url`` ends in /v1.

    While its model is being loaded /health is 503. At SIGTERM a stream under way keeps it for half a minute.
    """

    END = signal.SIGKILL
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    api_key: str | None
    model: str = NAME
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        self.http = httpx.Client(base_url=self.url.removesuffix("/v1"), headers=headers, timeout=PATIENCE)

    def slots(self) -> list[dict[str, Any]]:
        """What llama.cpp tells of each slot: ``is_processing``, the request's ``params``, and more."""
        slots: list[dict[str, Any]] = self.http.get("/slots").raise_for_status().json()
        return slots

    def busy(self) -> int:
        """The number of slots that work on a request; back to 0 once it is answered or its client has gone.

        Each question, this one, ``waiting`` and ``generated``, puts off llama.cpp's look, after a second without any
        result, whether the client of a request that is not streamed is still there: wait for ``cancelled`` first.
        """
        return sum(slot["is_processing"] for slot in self.slots())

    def waiting(self) -> int:
        """The number of requests that no slot is free for."""
        return self.metric("requests_deferred")

    def generated(self) -> int:
        """The number of tokens of all requests that were answered to their end or cancelled."""
        return self.metric("tokens_predicted_total")

    def cancelled(self) -> int:
        """The number of requests whose client left before the answer's end, by the log; asks the server nothing."""
        return self.log.read_bytes().count(b"cancel task")

    def metric(self, name: str) -> int:
        """A whole number from /metrics, named without its ``llamacpp:``."""
        text = self.http.get("/metrics").raise_for_status().text
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"llamacpp:{name} "))


StartLlamaServer = Callable[..., LlamaServer]


def start(
    folder: Path,
    *,
    model: Path | None = None,
    projector: Path | None = None,
    port: int | None = None,
    api_key: str | None = API_KEY,
    context: int = 4096,
    endless: bool = True,
    ready: bool = True,
) -> LlamaServer:
    """Start a server with two slots on ``port``, or on a free one, with ``model``, or with one of random weights.

    ``context``: in tokens, half of it for each slot. ``endless``: an answer without ``max_tokens`` never ends, so that
    only cancelling it frees its slot; otherwise it ends when the slot's context is full. ``ready``: wait for its model.
    """
    port = port or free_port()
    log = folder / f"llama-server-{port}.log"
    if model is None:
        model = folder / f"{NAME}.gguf"
        if not model.exists():
            write_model(model)
    options = ["--context", str(context)]
    options += ["--projector", str(projector)] if projector else []
    options += ["--api-key", api_key] if api_key else []
    options += ["--endless"] if endless else []
    process = launch("tests.support.upstream.llama_server", str(model), str(port), *options, log=log)
    server = LlamaServer(process, f"http://127.0.0.1:{port}/v1", log, api_key, model.stem)
    if ready:
        server.await_ready()
    return server


@pytest.fixture
def start_llama_server(tmp_path: Path) -> Iterator[StartLlamaServer]:
    """``start_llama_server(**options of start)``: a server of this test's own, for it to kill or to start again."""
    with ending(partial(start, tmp_path)) as start_and_note:
        yield start_and_note


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """One server for a module's tests, which leave it idle."""
    with ending(start) as start_and_note:
        yield start_and_note(tmp_path_factory.mktemp("llama_server"))
