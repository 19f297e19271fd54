"""Servers that run in processes of their own, and waiting for what happens there."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, ParamSpec, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


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


def launch(
    *arguments: str, log: Path, env: Mapping[str, str] | None = None, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    """Start ``python -m`` with these arguments in the checkout. Its output is appended to ``log``, or to ``stderr``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if stderr is None else stderr,
        )


class Running:
    """A server that runs. ``log`` is the file that its output goes to; ``http`` talks to it."""

    # The signal that ends it at once.
    END: ClassVar[int]
    process: subprocess.Popen[bytes]
    log: Path
    http: httpx.Client

    def health(self) -> int:
        """The status of /health; 0 when nobody answers."""
        try:
            return self.http.get("/health").status_code
        except httpx.TransportError:
            return 0

    def await_ready(self) -> None:
        """Wait until its model is loaded. It must not end meanwhile."""
        until(lambda: self.process.poll() is not None or self.health() == 200)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, if it still runs, and wait; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Stop it at once, and talk to it no more."""
        self.http.close()
        self.stop(self.END)


Options = ParamSpec("Options")
Started = TypeVar("Started", bound=Running)


@contextmanager
def ending(start: Callable[Options, Started]) -> Iterator[Callable[Options, Started]]:
    """Give ``start``, and end all servers that were started with it when the block ends."""
    with ExitStack() as stack:

        def start_and_note(*args: Options.args, **kwargs: Options.kwargs) -> Started:
            server = start(*args, **kwargs)
            stack.callback(server.end)
            return server

        yield start_and_note
