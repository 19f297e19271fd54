"""The real server: gunicorn with its gevent worker, the real children, a real model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


@dataclass
class Server:
    """A server that runs. ``log`` is the file that its output goes to."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    api_key: str = "none"
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)

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

    def health(self) -> int:
        """The status of /health; 0 when nobody answers."""
        try:
            return self.http.get("/health").status_code
        except httpx.TransportError:
            return 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Serve = Callable[..., Server]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in another process, of which no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(folder: Path, *, ready: bool = True, **settings: str) -> Server:
    """Start the server with these GLM_ settings (``cache_slots="1"``); ``ready``: wait until it has its model."""
    port = free_port()
    log = folder / f"server-{port}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLM_")}
    environment |= {"GLM_BIND": f"127.0.0.1:{port}", "GLM_NUM_THREADS": "1"}
    environment |= {f"GLM_{name.upper()}": value for name, value in settings.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    if ready:
        until(lambda: process.poll() is not None or server.health() == 200)
        assert process.poll() is None, log.read_text()
    return server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(**settings)``: a server of this test's own."""
    started: list[Server] = []

    def make(*, ready: bool = True, **settings: str) -> Server:
        started.append(start(tmp_path, ready=ready, **settings))
        return started[-1]

    yield make
    for server in started:
        server.http.close()
        server.stop(signal.SIGQUIT)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the demo model, for tests that leave it as they found it."""
    server = start(tmp_path_factory.mktemp("demo"))
    yield server
    server.http.close()
    server.stop(signal.SIGQUIT)


def chat(text: str, **more: object) -> dict[str, object]:
    """The body of a greedy chat completion."""
    return {"model": "chatglm3-demo", "messages": [{"role": "user", "content": text}], "temperature": 0, **more}
