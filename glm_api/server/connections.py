"""gunicorn's gevent worker, with a time limit on each wait for a client.

A worker has a fixed number of connections. Clients that hold all of them, by sending slowly or nothing or by not
reading their answers, would make the server unavailable. So each wait for a client ends:

- for the head of a request, and between requests, after gunicorn's ``keepalive``;
- for the body of a request, ``GLM_BODY_TIMEOUT`` after its head;
- for a client that does not read its answer, after the same time without progress (by a socket option).

If all connections are taken nevertheless, the wait that began first is ended to make room. `RESERVE` connections are
always left for `MONITORING_PATHS`.

Import nothing of the application here but the log and `paths`, because gunicorn's master imports this module, and what
the master imports stays unpatched by gevent in the worker.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import time
from dataclasses import dataclass
from typing import Any

import gevent
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.ggevent import GeventWorker

from glm_api.log.lines import log_faults
from glm_api.server.paths import canonical

# Monitoring requests these every few seconds, and takes a server that does not answer for dead.
MONITORING_PATHS = frozenset({"/health", "/livez", "/ping", "/metrics"})
RESERVE = 100
# Open files apart from connections, and open files for each connection: its socket, and a file that is sent.
_OPEN_FILES, _FILES_PER_CONNECTION = 256, 2


@dataclass(slots=True)
class Occupancy:
    """The number of requests that are being answered, without `MONITORING_PATHS`, and ``most``, its maximum."""

    requests: int = 0
    most: float = float("inf")

    @property
    def exceeded(self) -> bool:
        """Whether there is no room for the latest request."""
        return self.requests > self.most


class Wait(gevent.Timeout):  # type: ignore[misc]
    """A ``with`` block that waits for a client. It ends without an exception after ``seconds``, or earlier by `drop`.

    ``waits`` holds the waits under way, in the order in which they began.
    """

    def __init__(self, seconds: float, waits: dict[Wait, None]) -> None:
        super().__init__(seconds, False)
        self._waits = waits
        self._greenlet: Any = None
        self.dropped = False

    def __enter__(self) -> Wait:
        self._greenlet = gevent.getcurrent()
        self._waits[self] = None
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> bool:
        self._waits.pop(self, None)
        return bool(super().__exit__(*exception))

    def drop(self) -> None:
        """End the wait now."""
        self._waits.pop(self, None)
        self.dropped = True
        gevent.get_hub().loop.run_callback(self._throw)

    def _throw(self) -> None:
        # Meanwhile the client may have sent what was waited for.
        if self.pending:
            self._greenlet.throw(self)


def drop_oldest(*groups: dict[Wait, None]) -> None:
    """End the wait that began first, in the first of ``groups`` that is not empty."""
    for waits in groups:
        for wait in waits:
            wait.drop()
            return


class RequestBody:
    """The body of a request, which must arrive within ``seconds``. After a failure its connection is closed."""

    def __init__(self, request: Any, seconds: float, waits: dict[Wait, None]) -> None:
        self._request = request
        self._body = request.body
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._waits = waits

    def read(self, size: int | None = None) -> bytes:
        """Read as from any file. Raises `ApiError` for a body that is late or broken, or whose connection is needed."""
        # Not at the top, because gunicorn's master imports this module.
        from glm_api.errors import broken_body, late_body, overloaded

        with Wait(max(0.0, self._deadline - time.monotonic()), self._waits) as wait:
            try:
                data: bytes = self._body.read(size)
            except (ParseException, NoMoreData):
                self._request.force_close()
                raise broken_body() from None
            return data
        # A chunk may be half read, so it is not known where the next request would begin.
        self._request.force_close()
        if wait.dropped:
            raise overloaded("The request body arrived slowly, and the server needed its connection. Try again later.")
        raise late_body(self._seconds)


class BoundedWorker(GeventWorker):  # type: ignore[misc]
    """The worker that the text at the top of this module describes."""

    worker_connections: int

    def run(self) -> None:
        """Serve until told to end. The application has been loaded."""
        log_faults()
        self._make_room()
        self._connections = 0
        self._heads: dict[Wait, None] = {}
        self._bodies: dict[Wait, None] = {}
        self._body_timeout: float = self.wsgi.config["GLM_SETTINGS"].body_timeout
        self._occupancy: Occupancy = self.wsgi.extensions["glm_occupancy"]
        self._occupancy.most = self.worker_connections - RESERVE
        super().run()

    def _make_room(self) -> None:
        """Raise the limit of open files to what the connections need, or else lower the number of connections."""
        needed = _OPEN_FILES + _FILES_PER_CONNECTION * self.worker_connections
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < needed and soft != resource.RLIM_INFINITY:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if soft < needed:
                room = max(RESERVE + 1, (soft - _OPEN_FILES) // _FILES_PER_CONNECTION)
                self.log.warning(
                    "The limit of %d open files leaves room for %d connections instead of %d: raise it to %d "
                    "(LimitNOFILE, ulimit -n), or lower GLM_QUEUE_SIZE.",
                    soft,
                    room,
                    self.worker_connections,
                    needed,
                )
                self.worker_connections = room

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection."""
        self._connections += 1
        try:
            if self._connections >= self.worker_connections:
                drop_oldest(self._heads, self._bodies)
            with contextlib.suppress(OSError):
                # A Unix socket does not have this option; it belongs to a proxy, which reads.
                milliseconds = round(self._body_timeout * 1000)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            super().handle(listener, client, addr)
        finally:
            self._connections -= 1

    def timeout_ctx(self) -> Wait:
        """Return the limit of the wait for the head of a request."""
        return Wait(self.cfg.keepalive, self._heads)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request, whose head has arrived."""
        counted = canonical(req.path) not in MONITORING_PATHS
        body = req.body
        req.body = RequestBody(req, self._body_timeout, self._bodies)
        self._occupancy.requests += counted
        try:
            if self._occupancy.requests >= self._occupancy.most:
                # Early enough, so that the next request finds a place.
                drop_oldest(self._bodies)
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            # The kernel gave up on a client that does not read. Treat it as a client that left, as gunicorn does.
            raise ConnectionResetError(errno.ECONNRESET, "The client does not read.") from error
        finally:
            self._occupancy.requests -= counted
            # gunicorn reads the rest of the body before the next request.
            req.body = body
