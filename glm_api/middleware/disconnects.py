"""Detect that a client has closed its connection: while its request waits, during prefill, at any time.

A WSGI application learns that a client left only when it writes, which a request in the queue or a non-streamed answer
does not do for minutes. gunicorn hands over the socket (``environ["gunicorn.socket"]``), and gevent's event loop, which
waits on all sockets anyway, waits on this one too. It costs nothing until something happens, however many there are.
A client that shuts down its sending side counts as gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import gevent

_READABLE = 1


def watch(environ: Mapping[str, Any], on_gone: Callable[[], None]) -> Callable[[], None]:
    """Call ``on_gone`` once, in a greenlet of its own, when the client of this request closes its connection.

    Returns a function that ends the watch; it must be called before the server uses the connection for the next
    request. Without gunicorn (in tests of the bare application) nothing is watched.
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
        """Called by the event loop, where nothing may block: whoever hears of it may take locks and send."""
        self._watcher.stop()
        gevent.spawn(self._look)

    def _look(self) -> None:
        """The socket is readable: at its end the client is gone, else it has sent its next request already."""
        if not self._ended and _at_end(self._client):
            self._on_gone()


def _at_end(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True
    except (OSError, ValueError):
        # A TLS socket cannot be peeked at: such a client is noticed when the answer is written.
        return False
