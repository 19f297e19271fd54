"""gunicorn's gevent worker, with a bound on every wait for a client.

A worker has a fixed number of connections. Whoever holds them all by sending slowly, or nothing, or by not reading what
it asked for, would take the server away from everybody. So each wait for a client ends:

- for a request's head, and between requests, after gunicorn's ``keepalive``;
- for a request's body, after ``GLM_BODY_TIMEOUT`` from its head on;
- for a client that does not read its answer, after the same time without any progress (the kernel sees to that).

And when the places are taken all the same, the client that has kept the server waiting the longest makes room, while
`RESERVE` connections stay for `MONITORING_PATHS`, whatever else the server is asked for.

gunicorn's master imports this module, and what it imports stays unpatched by gevent: nothing of the application.
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

# Asked every few seconds by machines, which take no answer for a server that is down.
MONITORING_PATHS = frozenset({"/health", "/livez", "/metrics"})
RESERVE = 100
# Files that are open whatever the number of connections, and files of each connection: its socket, and what it is sent.
_OPEN_FILES, _FILES_PER_CONNECTION = 256, 2


@dataclass(slots=True)
class Occupancy:
    """How many requests are being answered, `MONITORING_PATHS` not counted, and ``most`` of how many there may be."""

    requests: int = 0
    most: float = float("inf")

    @property
    def exceeded(self) -> bool:
        """Whether there is no room for the request that came last."""
        return self.requests > self.most


class Wait(gevent.Timeout):  # type: ignore[misc]
    """A ``with`` block in which a client is waited for: left without an exception when ``seconds`` are over, or earlier
    by `drop`. ``waits`` holds those that are under way, in the order in which they began."""

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
        """End it now."""
        self._waits.pop(self, None)
        self.dropped = True
        gevent.get_hub().loop.run_callback(self._throw)

    def _throw(self) -> None:
        # The client may have sent what was waited for, meanwhile.
        if self.pending:
            self._greenlet.throw(self)


def drop_oldest(*groups: dict[Wait, None]) -> None:
    """End the wait that began first, in the first of these groups that has any."""
    for waits in groups:
        for wait in waits:
            wait.drop()
            return


class RequestBody:
    """A request's body, to be read within ``seconds`` from now. After a failure its connection is not used again."""

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
        # Part of a chunk may be read: where the next request would begin is not known.
        self._request.force_close()
        if wait.dropped:
            raise overloaded("The request body arrived slowly, and the server needed its connection. Try again later.")
        raise late_body(self._seconds)


class BoundedWorker(GeventWorker):  # type: ignore[misc]
    """The worker: see the module's text."""

    worker_connections: int

    def run(self) -> None:
        """Serve until told to end. The application is loaded by now."""
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
        """Raise the limit of open files to what the connections need, or lower their number to what there is."""
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
                # Of a Unix socket there is no such option: it is a proxy's.
                milliseconds = round(self._body_timeout * 1000)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            super().handle(listener, client, addr)
        finally:
            self._connections -= 1

    def timeout_ctx(self) -> Wait:
        """What bounds the wait for a request's head."""
        return Wait(self.cfg.keepalive, self._heads)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request, whose head has come."""
        counted = req.path not in MONITORING_PATHS
        body = req.body
        req.body = RequestBody(req, self._body_timeout, self._bodies)
        self._occupancy.requests += counted
        try:
            if self._occupancy.requests >= self._occupancy.most:
                # Before it is too late: the request that takes the last place still finds one.
                drop_oldest(self._bodies)
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError as error:
            # The kernel has given up a client that does not read. gunicorn takes it for one that has left.
            raise ConnectionResetError(errno.ECONNRESET, "The client does not read.") from error
        finally:
            self._occupancy.requests -= counted
            # gunicorn reads what nobody has read before it takes the next request.
            req.body = body
