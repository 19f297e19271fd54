"""The sides that are measured: the bare loop, the original server, this server, and llama.cpp's server alone.

The original server is `chatglm_cpp.openai_api`.

All compute with the same number of threads: the preloaded library tells chatglm_cpp the number in `GLM_NPROCS`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import Client, NoAnswer, get, post
from benchmarks.nprocs import original_environment

CHECKOUT = Path(__file__).resolve().parents[1]
START_TIMEOUT = 120.0
STOP_TIMEOUT = 20.0
POLL_SECONDS = 0.02
# chatglm_cpp.openai_api cuts every prompt to its last tokens, this many, and does not say so.
ORIGINAL_CUT = 512
# The default of this server.
SLOTS = 4

Messages = list[dict[str, str]]


class NotStarted(Exception):
    """A side did not start; the message is the end of its log."""


class BareLoop:
    """`benchmarks.bare_loop` in a process of its own."""

    name = "bare loop"

    def __init__(self, model: Path, max_length: int, threads: int) -> None:
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_loop", str(model), str(max_length)],
            env=original_environment(threads),
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()
        self.start_seconds = time.perf_counter() - self.started

    def answer(self, messages: Messages, max_tokens: int) -> dict[str, Any]:
        """Return the result of `benchmarks.bare_loop.answer`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"messages": messages, "max_tokens": max_tokens}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def count(self, messages: Messages) -> int:
        """Return the number of prompt tokens of ``messages``."""
        return len(self.ids(messages))

    def ids(self, messages: Messages) -> list[int]:
        """Return the ids of the prompt of ``messages``."""
        return list(map(int, self.answer(messages, 0)["ids"]))

    def stop(self) -> None:
        _stop(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise NotStarted("The bare loop has ended.")
        found: dict[str, Any] = json.loads(line)
        return found


class HttpServer:
    """A server under measurement. ``start_seconds``: from its start to the first 200 for ``probe``."""

    name: str
    port: int

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path, probe_path: str) -> None:
        self.probe = get(probe_path)
        self._log = log
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=environment, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.start_seconds = self._wait_until_ready()

    def chat(self, messages: Messages, prompt_tokens: int, max_tokens: int, *, stream: bool = True) -> bytes:
        """Return a greedy chat request for ``max_tokens`` new tokens after the ``prompt_tokens`` of ``messages``."""
        raise NotImplementedError

    def _wait_until_ready(self) -> float:
        client = Client()
        while time.perf_counter() - self.started < START_TIMEOUT:
            if self._process.poll() is not None:
                break
            if client.ask(self.port, self.probe).status == 200:
                return time.perf_counter() - self.started
            time.sleep(POLL_SECONDS)
        self.stop()
        raise NotStarted(self._log.read_text(errors="replace")[-2000:])

    def web_pid(self) -> int:
        """Return the id of the process that speaks HTTP."""
        return self._process.pid

    def model_pid(self) -> int:
        """Return the id of the process that computes."""
        return self._process.pid

    def stop(self) -> None:
        """Stop the server and all of its children."""
        _stop(self._process)


class OriginalServer(HttpServer):
    """``chatglm_cpp.openai_api`` under uvicorn, because as a module it has a fixed address."""

    name = "original server"

    def __init__(self, model: Path, max_length: int, threads: int, log: Path) -> None:
        self.port = free_port()
        environment = original_environment(threads) | {"MODEL": str(model), "MAX_LENGTH": str(max_length)}
        command = [sys.executable, "-m", "uvicorn", "chatglm_cpp.openai_api:app", "--host", "127.0.0.1"]
        super().__init__([*command, "--port", str(self.port)], environment, log, "/v1/models")

    def chat(self, messages: Messages, prompt_tokens: int, max_tokens: int, *, stream: bool = True) -> bytes:
        # Its max_tokens includes the prompt, and it reads only the last ORIGINAL_CUT tokens of that.
        most = min(prompt_tokens, ORIGINAL_CUT) + max_tokens
        body = {"messages": messages, "temperature": 0, "max_tokens": most, "stream": stream}
        return post("/v1/chat/completions", body)


class ThisServer(HttpServer):
    """This server, started as by ``make serve``. ``settings`` are further ``GLM_`` variables.

    Without ``threads`` it chooses their number by itself, as without any settings.
    """

    name = "this server"

    def __init__(
        self, model: Path, max_length: int, threads: int | None, log: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GLM_")}
        environment |= {
            **({} if threads is None else {"GLM_NUM_THREADS": str(threads)}),
            "GLM_MODEL": str(model),
            "GLM_MAX_LENGTH": str(max_length),
            "GLM_BIND": f"127.0.0.1:{self.port}",
            "GLM_REQUEST_TIMEOUT": "3600",
            "GLM_QUEUE_TIMEOUT": "3600",
            "GLM_QUEUE_SIZE": "300",
            **(settings or {}),
        }
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        super().__init__(command, environment, log, "/health")

    def chat(
        self, messages: Messages, prompt_tokens: int, max_tokens: int, *, stream: bool = True, **parameters: object
    ) -> bytes:
        """The same, with further ``parameters``. The number of ``prompt_tokens`` does not matter to this server."""
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        body = {"messages": messages, "temperature": 0, "max_tokens": max_tokens, **options, **parameters}
        return post("/v1/chat/completions", body)

    def web_pid(self) -> int:
        (worker,) = psutil.Process(self._process.pid).children()
        return int(worker.pid)

    def model_pid(self) -> int:
        for child in psutil.Process(self.web_pid()).children():
            if "pipeline" in child.cmdline():
                return int(child.pid)
        raise NoAnswer("the pipeline process is not there")


class LlamaServer(HttpServer):
    """`benchmarks.llama_server`, with contexts of ``max_length`` tokens."""

    name = "llama-server"

    def __init__(self, gguf: Path, max_length: int, threads: int, log: Path) -> None:
        self.port = free_port()
        numbers = map(str, (self.port, max_length, SLOTS, threads))
        command = [sys.executable, "-m", "benchmarks.llama_server", str(gguf), *numbers]
        super().__init__(command, os.environ, log, "/health")

    def complete(self, ids: list[int], max_tokens: int) -> bytes:
        """Return a greedy, streamed request for ``max_tokens`` new tokens after ``ids``."""
        body = {"prompt": ids, "n_predict": max_tokens, "temperature": 0, "stream": True, "return_tokens": True}
        return post("/completion", body)


def repacked(model: Path) -> Path:
    """Return ``model`` as the GGUF file that this server makes of it for llama.cpp. Raises `NotStarted`."""
    command = [sys.executable, "-m", "glm_api.pipeline.worker.llama_cpp.repack", str(model)]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise NotStarted(run.stderr[-2000:])
    found = json.loads(run.stdout)
    if "error" in found:
        raise NotStarted(f"{model.name} cannot be repacked: {found['error']}")
    return Path(found["path"])


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _stop(process: subprocess.Popen[Any]) -> None:
    """Stop ``process`` and all of its descendants."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT)
    for member in alive:
        member.kill()
    process.wait()
