"""One HTTP request to the upstream, run in its own thread; it can be ended at any moment.

``http.client`` and not a client with a pool of connections: the socket must be at hand from the first moment on, also
while the upstream has not answered at all, because closing it is the only way to tell the upstream to stop. A new
connection for each request costs next to nothing compared with an answer.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 10.0
_PIECE = 65536


@dataclass(frozen=True, slots=True)
class Head:
    """The answer has begun. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Broken:
    """It failed. ``connected`` tells whether the upstream may have seen the request; ``reason`` is for the log."""

    connected: bool
    reason: str


class End:
    """The answer is complete."""


Arrival: TypeAlias = "Head | bytes | End | Broken"


class Address:
    """The address of the upstream. ``url`` is its base URL, such as ``http://10.0.0.5:8080/v1``."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._key = key

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=CONNECT_TIMEOUT)

    def path(self, endpoint: str) -> str:
        """Return the path of ``endpoint``, such as ``/chat/completions``, at the upstream."""
        return self._path + endpoint

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the headers that every request has."""
        headers = {"X-Request-Id": request_id, "Connection": "close"}
        return headers | {"Authorization": f"Bearer {self._key}"} if self._key else headers


class Exchange:
    """A request to the upstream at ``address``. `start` sends it; ``put`` is called from its thread with what arrives.

    Last comes an `End` or a `Broken`. ``body`` is JSON; without one it is a GET.
    """

    def __init__(
        self, address: Address, endpoint: str, request_id: str, body: bytes | None, put: Callable[[Arrival], None]
    ) -> None:
        self._address = address
        self._endpoint = endpoint
        self._headers = address.headers(request_id)
        self._body = body
        self._put = put
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False

    def start(self) -> None:
        """Send the request; returns at once."""
        threading.Thread(target=self._run, name="exchange", daemon=True).start()

    def cancel(self) -> None:
        """Close the connection, which tells the upstream to stop. May be called from any thread. Idempotent."""
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        connection = self._address.connection()
        connected = False
        try:
            connection.connect()
            # Whoever waits for the arrivals keeps the deadline, and cancels when it has passed.
            connection.sock.settimeout(None)
            connected = True
            with self._lock:
                if self._cancelled:
                    raise OSError("cancelled")
                self._socket = connection.sock
            self._exchange(connection)
        # ValueError: a TLS socket that is shut down while it is being read.
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._put(Broken(connected, f"{type(error).__name__}: {error}"))
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection) -> None:
        path = self._address.path(self._endpoint)
        if self._body is None:
            connection.request("GET", path, headers=self._headers)
        else:
            headers = self._headers | {"Content-Type": "application/json"}
            connection.request("POST", path, self._body, headers)
        response = connection.getresponse()
        self._put(Head(response.status, {name.lower(): value for name, value in response.getheaders()}))
        while piece := response.read1(_PIECE):
            self._put(piece)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        self._put(End())
