"""A client that leaves is noticed without anything being written to it, and its request is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from flask import Flask
from flask.ctx import RequestContext
from gevent import socket
from gevent.event import Event

from glm_api.backend.admission import Admission, QueuedRequest, RequestStatus
from glm_api.backend.errors import ClientGone
from glm_api.backend.semaphore import FairSemaphore
from glm_api.middleware import disconnects
from glm_api.middleware.disconnects import closed_with_client

PATIENCE = 30.0


class Queued(QueuedRequest[str]):
    """A request that runs from the beginning; ``cancelled`` is set when it is cancelled."""

    def __init__(self) -> None:
        self.semaphore: FairSemaphore[Queued] = FairSemaphore(Queued.take_turn)
        super().__init__(Admission(self.semaphore, PATIENCE, PATIENCE, assumed_duration=1.0))
        self.cancelled = Event()
        self._admission.enter(self)

    def cancel(self) -> None:
        super().cancel()
        self.cancelled.set()

    def _on_turn(self) -> None:
        self.begin()

    def _stop_work(self) -> None:
        self.finish()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


def request_from(client: socket.socket) -> RequestContext:
    return Flask(__name__).test_request_context(environ_overrides={"gunicorn.socket": client})


def test_a_request_is_cancelled_when_its_client_leaves(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    with request_from(server), closed_with_client(Queued()) as queued:
        client.close()
        assert queued.cancelled.wait(PATIENCE)
        assert queued.semaphore.held == 0
        with pytest.raises(ClientGone):
            list(queued.events())


def test_a_request_is_closed_at_the_end_whatever_happens(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    queued = Queued()
    assert queued.semaphore.held == 1
    with request_from(server), pytest.raises(LookupError), closed_with_client(queued):
        raise LookupError
    assert queued.status is RequestStatus.FINISHED
    assert queued.semaphore.held == 0
    client.close()
    other_client_is_noticed()
    assert not queued.cancelled.is_set()


def test_a_client_that_closes_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    gone = Event()
    stop = disconnects.watch({"gunicorn.socket": server}, gone.set)
    client.close()
    assert gone.wait(PATIENCE)
    stop()


def test_a_client_that_sends_its_next_request_is_not_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    gone = Event()
    stop = disconnects.watch({"gunicorn.socket": server}, gone.set)
    client.send(b"GET / HTTP/1.1\r\n")
    other_client_is_noticed()
    stop()
    assert not gone.is_set()
    assert server.recv(3) == b"GET"


def test_the_socket_is_not_watched_after_the_end_of_the_watch(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    gone = Event()
    disconnects.watch({"gunicorn.socket": server}, gone.set)()
    client.close()
    other_client_is_noticed()
    assert not gone.is_set()


def test_a_watch_that_ends_as_its_client_leaves_reports_nothing() -> None:
    told: list[int] = []
    stops: list[Callable[[], None]] = []
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(2)]
        for number, (server, client) in enumerate(pairs):
            stack.enter_context(server)
            stack.enter_context(client)

            def end_both(number: int = number) -> None:
                told.append(number)
                for stop in stops:
                    stop()

            stops.append(disconnects.watch({"gunicorn.socket": server}, end_both))
        for _, client in pairs:
            client.close()
        other_client_is_noticed()
    assert len(told) == 1


def test_a_thousand_clients_that_leave_together_are_noticed() -> None:
    count = 1000
    left: list[int] = []
    all_left = Event()

    def leave(number: int) -> None:
        left.append(number)
        if len(left) == count:
            all_left.set()

    with ExitStack() as stack:
        clients, stops = [], []
        for number in range(count):
            server, client = socket.socketpair()
            stack.enter_context(server)
            clients.append(client)
            stops.append(disconnects.watch({"gunicorn.socket": server}, partial(leave, number)))
        for client in clients:
            client.close()
        assert all_left.wait(PATIENCE)
        for stop in stops:
            stop()
    assert sorted(left) == list(range(count))


def test_without_a_server_socket_nothing_is_watched() -> None:
    disconnects.watch({}, pytest.fail)()


def other_client_is_noticed() -> None:
    """The event loop has been round: whatever was readable before has been looked at."""
    gone = Event()
    server, client = socket.socketpair()
    with server, client:
        stop = disconnects.watch({"gunicorn.socket": server}, gone.set)
        client.close()
        assert gone.wait(PATIENCE)
        stop()
