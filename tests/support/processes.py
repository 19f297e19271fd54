"""Servers in processes of their own, and functions that wait for them."""

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
    """Wait until ``condition`` holds in another process, which sends no event. Fails after `PATIENCE` seconds."""
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
    """A running server. ``log`` is the file with its output; ``http`` is a client of it."""

    process: subprocess.Popen[bytes]
    log: Path
    http: httpx.Client

    def health(self) -> int:
        """Return the status of /health; 0 when nobody answers."""
        try:
            return self.http.get("/health").status_code
        except httpx.TransportError:
            return 0

    def await_ready(self) -> None:
        """Wait until its model is loaded. Fails if the server ends meanwhile."""
        until(lambda: self.process.poll() is not None or self.health() == 200)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self, number: int) -> int:
        """Send the signal, if it still runs, and wait; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def end(self, number: int) -> None:
        """Stop the server with the signal, and close the client."""
        self.http.close()
        self.stop(number)
