"""Servers that run in processes of their own, and waiting for what happens there."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

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


class Running:
    """A server that runs. ``log`` is the file that its output goes to; ``http`` talks to it."""

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

    def stop(self, number: int) -> int:
        """Send the signal, if it still runs, and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def end(self, number: int) -> None:
        """The end of a test: `stop`, and forget it."""
        self.http.close()
        self.stop(number)
