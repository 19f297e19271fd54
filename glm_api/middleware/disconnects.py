"""Cancel a request when its client closes the connection, at any time: while it waits, during prefill, while decoding.

Every endpoint that generates uses `closed_with_client`, which gives the request's place in the queue back in any case.

A WSGI application notices that a client left only when it writes, and a waiting request or a non-streamed answer writes
nothing for minutes. gunicorn provides the socket (``environ["gunicorn.socket"]``), and gevent's event loop, which waits
for all sockets anyway, waits for this one too. A watch costs nothing until its socket is readable. A client that shuts
down its sending side counts as gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import gevent
from flask import request

from glm_api.backend.admission import QueuedRequest

_READABLE = 1

Queued = TypeVar("Queued", bound=QueuedRequest[Any])


@contextmanager
def closed_with_client(queued: Queued) -> Iterator[Queued]:
    """Close ``queued`` at the end of the block; cancel it at once if the client of the HTTP request leaves earlier."""
    stop_watching = watch(request.environ, queued.cancel)
    try:
        yield queued
    finally:
        stop_watching()
        queued.close()


def watch(environ: Mapping[str, Any], on_gone: Callable[[], None]) -> Callable[[], None]:
    """Call ``on_gone`` once, in a greenlet of its own, when the client of this request closes its connection.

    Returns a function that ends the watch; call it before the server uses the connection for the next request. Without
    gunicorn, as in tests, nothing is watched.
    """
    client = environ.get("gunicorn.socket")
    if client is None:
        return lambda: None
    return _Watch(client, on_gone).end


class _Watch:
    def __init__(self, client: socket.socket, on_gone: Callable[[], None]) -> None:
        self._client = client
        self._on_gone = on_gone
        self._ended = False
        self._watcher = gevent.get_hub().loop.io(client.fileno(), _READABLE)
        self._watcher.start(self._readable)

    def end(self) -> None:
        self._ended = True
        self._watcher.close()

    def _readable(self) -> None:
        """Start a greenlet: this runs in the event loop, where nothing may block, and ``on_gone`` may take locks."""
        self._watcher.stop()
        gevent.spawn(self._look)

    def _look(self) -> None:
        """Call ``on_gone`` if the readable socket is at its end; else the client has already sent its next request."""
        if not self._ended and _at_end(self._client):
            self._on_gone()


def _at_end(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True
    except (OSError, ValueError):
        # A TLS socket cannot be peeked at; its client's absence is noticed when the answer is written.
        return False
