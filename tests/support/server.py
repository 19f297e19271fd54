"""The real server: gunicorn with its gevent worker, the real children, a real model."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from config import DEMO_MODEL
from tests.support.processes import PATIENCE, Running, ending, free_port, launch, until


@dataclass
class Server(Running):
    """Our server."""

    END = signal.SIGQUIT
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    api_key: str = "none"
    engine: str = "chatglm-cpp"
    socket: str | None = None
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(
            base_url=self.url, timeout=PATIENCE, transport=httpx.HTTPTransport(uds=self.socket) if self.socket else None
        )

    def sdk(self) -> OpenAI:
        """OpenAI's client, which refuses answers that do not have the documented shape."""
        return OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.api_key,
            max_retries=0,
            timeout=PATIENCE,
            _strict_response_validation=True,
        )

    def children(self) -> dict[str, int]:
        """The process ids of the model's processes, by role."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = stat.read_bytes().decode().split("\0")
            except OSError:
                continue
            if "glm_api.pipeline.worker" in words:
                role, _, parent = words[words.index("glm_api.pipeline.worker") + 1 :][:3]
                if int(parent) in self.workers():
                    found[role] = int(stat.parent.name)
        return found

    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


Serve = Callable[..., Server]


def start(
    folder: Path, *, ready: bool = True, stderr: int | None = None, engine: str = "chatglm-cpp", **settings: str
) -> Server:
    """Start the server with these GLM_ settings (``cache_slots="1"``); ``ready``: wait until it has its model.

    Its log goes to a file, or to ``stderr``. ``engine`` is that which the settings choose.
    """
    port = free_port()
    log = folder / f"server-{port}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLM_")}
    environment |= {"GLM_BIND": f"127.0.0.1:{port}", "GLM_NUM_THREADS": "1"}
    environment |= {f"GLM_{name.upper()}": value for name, value in settings.items()}
    process = launch("gunicorn", "-c", "gunicorn.conf.py", "wsgi:app", log=log, env=environment, stderr=stderr)
    bind = environment["GLM_BIND"]
    socket = bind.removeprefix("unix:") if bind.startswith("unix:") else None
    server = Server(process, f"http://127.0.0.1:{port}", log, engine=engine, socket=socket)
    if socket:
        # httpx forgets to close what it could not connect.
        until(lambda: process.poll() is not None or "Listening at" in log.read_text())
    if ready:
        server.await_ready()
    return server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(**settings)``: a server of this test's own."""
    with ending(partial(start, tmp_path)) as serve:
        yield serve


ENGINES = ("chatglm-cpp", "llama-cpp")


def demo_on(engine: str, folder: Path) -> dict[str, str]:
    """The settings for the demo model on this engine; ``folder`` takes what it is repacked to."""
    if engine == "chatglm-cpp":
        return {}
    model = folder / DEMO_MODEL.name
    if not model.exists():
        model.symlink_to(DEMO_MODEL)
    return {"model": str(model), "backend": engine}


@pytest.fixture(scope="session", params=ENGINES)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for each engine with the demo model, for tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("demo")
    with ending(start) as start_and_note:
        settings: dict[str, Any] = demo_on(request.param, folder)
        yield start_and_note(folder, engine=request.param, **settings)


def chat(text: str, **more: object) -> dict[str, Any]:
    """The body of a greedy chat completion."""
    return {"model": "chatglm3-demo", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}


# Takes a tiny model some twenty seconds to read token by token; at most a token a character.
LONG_PROMPT = "word " * 3000

SlowModel = dict[str, str]


@pytest.fixture
def slow_model(model_file: Callable[..., Path]) -> SlowModel:
    """The settings for a model that reads `LONG_PROMPT` for a while and can be interrupted meanwhile."""
    return {
        "model": str(model_file("chatglm3", max_length=16384)),
        "max_length": "16384",
        "prefill": "step",
    }


@pytest.fixture
def slow_reader(slow_model: SlowModel, serve: Serve) -> Server:
    """A server with such a model."""
    return serve(**slow_model)


@contextmanager
def hold(server: Server) -> Iterator[None]:
    """Keep the model of a `slow_reader` busy with `LONG_PROMPT`, until the block ends or the prompt does."""
    with server.http.stream("POST", "/v1/chat/completions", json=chat(LONG_PROMPT, stream=True)) as stream:
        lines = stream.iter_lines()  # its end would end the request
        next(lines)
        yield
