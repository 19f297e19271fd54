"""Notices that a client has closed its connection, while the request waits, while a prompt is read, at any time.

A WSGI application learns that a client left only when it writes, which a request in the queue or a non-streamed answer
does not do for minutes. gunicorn hands over the socket (``environ["gunicorn.socket"]``); one thread waits on all of
them and costs nothing until something happens. A client that shuts down its sending side counts as gone.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

# The watching thread lets go of a socket within microseconds; this only bounds a bug.
_LET_GO_TIMEOUT = 5.0


def watch(environ: Mapping[str, Any], on_gone: Callable[[], None]) -> Callable[[], None]:
    """Call ``on_gone`` once, from another thread, when the client of this request closes its connection.

    Returns a function that ends the watch; it must be called before the server uses the connection for the next
    request. Without gunicorn (in tests of the bare application) nothing is watched.
    """
    client = environ.get("gunicorn.socket")
    if client is None:
        return lambda: None
    return _watcher.add(client, on_gone)


class _Watcher:
    """One thread that polls all watched sockets, without a timeout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._let_go: list[threading.Event] = []
        self._wake: socket.socket | None = None

    def add(self, client: socket.socket, on_gone: Callable[[], None]) -> Callable[[], None]:
        fd = client.fileno()
        with self._lock:
            self._watched[fd] = (client, on_gone)
            self._notify()
        return lambda: self._remove(fd, client)

    def _remove(self, fd: int, client: socket.socket) -> None:
        """Forget ``client``; returns when the thread does not poll it any more, so that it can be closed safely."""
        let_go = threading.Event()
        with self._lock:
            if self._watched.get(fd, (None,))[0] is not client:
                return
            del self._watched[fd]
            self._let_go.append(let_go)
            self._notify()
        let_go.wait(_LET_GO_TIMEOUT)

    def _notify(self) -> None:
        """Wake the thread, or start it at the first watch: a thread made at import would not survive a fork."""
        if self._wake is None:
            self._wake, woken = socket.socketpair()
            threading.Thread(target=self._run, args=(woken,), name="disconnects", daemon=True).start()
        self._wake.send(b"\0")

    def _run(self, woken: socket.socket) -> None:
        while True:
            with self._lock:
                watched = dict(self._watched)
                let_go, self._let_go = self._let_go, []
            for event in let_go:
                event.set()
            poll = select.poll()
            for fd in (woken.fileno(), *watched):
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                if fd == woken.fileno():
                    woken.recv(4096)
                else:
                    self._look_at(fd, *watched[fd])

    def _look_at(self, fd: int, client: socket.socket, on_gone: Callable[[], None]) -> None:
        """The socket is readable: at its end the client is gone, else it has sent its next request already."""
        with self._lock:
            if self._watched.get(fd, (None,))[0] is not client:
                return
            del self._watched[fd]
        if _at_end(client):
            on_gone()


def _at_end(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True
    except (OSError, ValueError):
        # A TLS socket cannot be peeked at: such a client is noticed when the answer is written.
        return False


_watcher = _Watcher()
