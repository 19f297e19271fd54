"""Many clients at once: those that leave together, and those that send slowly or not at all."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.running import PATIENCE, until

from .conftest import Serve, Server, chat

COMPLETIONS = "/v1/chat/completions"
BODY = b'{"messages": [{"role": "user", "content": "hello"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def crowd(server: Server, size: int, data: bytes) -> Iterator[list[socket.socket]]:
    """That many connections, each of which has sent ``data``; they leave together."""
    address = server.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        members = []
        for _ in range(size):
            member = stack.enter_context(socket.create_connection((address[0], int(address[1])), PATIENCE))
            member.sendall(data)
            members.append(member)
        yield members


def test_hundreds_of_clients_that_leave_together_are_all_noticed(serve: Serve) -> None:
    server = serve(queue_size="1000")
    pipeline = server.children()["pipeline"]
    os.kill(pipeline, signal.SIGSTOP)
    try:
        with crowd(server, 600, HEAD % len(BODY) + BODY):
            until(lambda: len(server.http.get("/slots").json()["waiting"]) == 599)
        until(lambda: server.http.get("/slots").json()["waiting"] == [])
    finally:
        os.kill(pipeline, signal.SIGCONT)
    assert server.http.post(COMPLETIONS, json=chat("hello")).status_code == 200
