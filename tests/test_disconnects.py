"""A client that leaves is noticed without anything being written to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from glm_api import disconnects

PATIENCE = 30.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


def test_a_client_that_closes_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    gone = threading.Event()
    stop = disconnects.watch({"gunicorn.socket": server}, gone.set)
    client.close()
    assert gone.wait(PATIENCE)
    stop()


def test_a_client_that_sends_its_next_request_is_still_there(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    gone = threading.Event()
    stop = disconnects.watch({"gunicorn.socket": server}, gone.set)
    client.send(b"GET / HTTP/1.1\r\n")
    stop()
    assert not gone.is_set()
    assert server.recv(3) == b"GET"


def test_after_the_end_of_the_watch_the_socket_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    gone, other_gone = threading.Event(), threading.Event()
    disconnects.watch({"gunicorn.socket": server}, gone.set)()
    other_server, other_client = socket.socketpair()
    with other_server, other_client:
        stop = disconnects.watch({"gunicorn.socket": other_server}, other_gone.set)
        client.close()
        other_client.close()
        # The watcher looks at all that is readable in one round, so by now it has seen the first client's end too.
        assert other_gone.wait(PATIENCE)
        stop()
    assert not gone.is_set()


def test_without_a_server_socket_nothing_is_watched() -> None:
    disconnects.watch({}, pytest.fail)()
