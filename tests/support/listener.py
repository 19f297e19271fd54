"""A listening socket to which nobody should connect, for tests that the server opens no connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest


class Listener:
    """Listens on a port of 127.0.0.1."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.port: int = server.getsockname()[1]

    def heard(self) -> bool:
        """Return whether anybody has connected. The kernel accepts connections before this asks for them."""
        try:
            self._server.accept()
        except BlockingIOError:
            return False
        return True

    def at_port(self, value: Any) -> Any:
        """Return ``value`` with the port in place of each ``{port}`` in its strings, at any depth."""
        if isinstance(value, dict):
            return {key: self.at_port(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.at_port(inner) for inner in value]
        return value.replace("{port}", str(self.port)) if isinstance(value, str) else value


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A `Listener` that listens as long as the test runs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Listener(server)
