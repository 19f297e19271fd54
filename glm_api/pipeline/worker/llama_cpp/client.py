"""Ask the llama.cpp server of this process, over its Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec

# llama.cpp answers questions about tokens and templates within milliseconds, even while it computes. Seconds.
TIMEOUT = 60.0
_PIECE = 65536
_DATA = b"data: "
_DONE = b"[DONE]"


class LlamaError(Exception):
    """llama.cpp refuses a request or has failed at it. ``status`` is its HTTP status, ``type`` its kind of error."""

    def __init__(self, status: int, type: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message


class Stopped(Exception):
    """The stream was closed from this side."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("llama.cpp", timeout=TIMEOUT if timeout is None else timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Stream:
    """The events of a streamed answer. `close` may be called from any thread, and ends the work of llama.cpp."""

    def __init__(self, connection: _Connection, body: bytes) -> None:
        self._connection = connection
        self._body = body
        self._lock = threading.Lock()
        self._closed = False
        # The connection forgets its socket where an answer ends with the connection, though it is still being read.
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Break the connection off: llama.cpp stops when it has done what it is computing. Idempotent."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def events(self, endpoint: str) -> Iterator[bytes]:
        """Send the request and yield the JSON of each event, or of the whole answer. Raises `LlamaError`, `Stopped`."""
        connection = self._connection
        try:
            with self._lock:
                if self._closed:
                    raise Stopped
                connection.connect()
                self._socket = connection.sock
            # It is silent for as long as a prompt takes. Whoever waits for the answer keeps the deadline.
            connection.sock.settimeout(None)
            connection.request("POST", endpoint, self._body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise _error(response.status, response.read())
            if response.getheader("Content-Type", "").startswith("text/event-stream"):
                yield from _split(response)
            else:
                yield response.read()
        except (OSError, ValueError, http.client.HTTPException):
            # ValueError: the file object of a connection that was closed meanwhile.
            if self._closed:
                raise Stopped from None
            raise
        finally:
            with self._lock:
                connection.close()


class LlamaClient:
    """Asks the server that listens on the Unix socket ``path``. Methods may be called from any thread."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, endpoint: str) -> Any:
        """Return the JSON of ``endpoint``. Raises `LlamaError`."""
        return self._ask("GET", endpoint, None)

    def post(self, endpoint: str, body: object) -> Any:
        """Return the JSON of the answer to ``body``. Raises `LlamaError`."""
        return self._ask("POST", endpoint, msgspec.json.encode(body))

    def stream(self, body: object) -> Stream:
        """Return the stream of the answer to ``body``, which is not sent yet."""
        return Stream(_Connection(self._path, None), msgspec.json.encode(body))

    def _ask(self, method: str, endpoint: str, body: bytes | None) -> Any:
        connection = _Connection(self._path, TIMEOUT)
        try:
            connection.request(method, endpoint, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise _error(response.status, data)
        return msgspec.json.decode(data)


def _split(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the data of each server-sent event; llama.cpp writes each as one line."""
    rest = b""
    while piece := response.read1(_PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(_DATA) and line != _DATA + _DONE:
                yield line[len(_DATA) :]
            elif line.startswith(b"error: "):
                raise _error(500, line[len(b"error: ") :])


def _error(status: int, data: bytes) -> LlamaError:
    try:
        found = msgspec.json.decode(data)
        error = found.get("error", found)
        return LlamaError(int(error.get("code", status)), str(error.get("type", "")), str(error.get("message", "")))
    except (ValueError, AttributeError, TypeError):
        return LlamaError(status, "", "")
