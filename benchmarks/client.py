"""A client that takes little from the model's CPUs: it records what arrives when, and parses it later.

Each request is sent at its time, whether or not earlier ones are answered. So the delay of a server that stands still
counts for every request that it should have answered meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

RECEIVE_BYTES = 1 << 16
TIMEOUT = 900.0


class NoAnswer(Exception):
    """A request was answered with an error, or not at all; the message says which."""


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer. Times are of ``perf_counter``; ``due`` is the time to send the request."""

    port: int
    request: bytes
    due: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    over: float | None = None
    error: str | None = None
    _raw: bytearray = field(default_factory=bytearray)
    _socket: socket.socket | None = None

    @property
    def begun(self) -> bool:
        """Whether the first byte of the answer has arrived."""
        return bool(self.arrivals)

    @property
    def first(self) -> float:
        """Seconds from when the request was due to the first byte of its answer."""
        self._check()
        return self.arrivals[0][0] - self.due

    @property
    def total(self) -> float:
        """Seconds from when the request was due to the last byte of its answer."""
        self._check()
        return self.arrivals[-1][0] - self.due

    @property
    def status(self) -> int:
        """The HTTP status; 0 before it has arrived."""
        head = bytes(self._raw[:16]).split()
        return int(head[1]) if len(head) > 1 else 0

    @property
    def fault(self) -> str | None:
        """What is wrong with an answer that has ended; None if nothing is."""
        if not self.begun:
            return "closed without an answer"
        return "cut off" if self._is_chunked and not self._raw.endswith(b"0\r\n\r\n") else None

    def json(self) -> Any:
        """Return the body of an answer that is not streamed. Raises `NoAnswer` for an error."""
        self._check()
        return json.loads(b"".join(piece for piece, _ in self._pieces()))

    def events(self) -> list[tuple[float, Any]]:
        """Return the events of a stream, each with the seconds from ``due`` to its arrival. Raises `NoAnswer`."""
        self._check()
        return list(self._events())

    def text(self) -> str:
        """Return the text of a chat completion, streamed or not."""
        if b"text/event-stream" in self._head():
            return "".join(text for _, text in self.texts()).strip()
        return str(self.json()["choices"][0]["message"]["content"]).strip()

    def texts(self) -> list[tuple[float, str]]:
        """Return the texts of a streamed chat completion that are not empty, as in `events`. Raises `NoAnswer`."""
        found = []
        for at, event in self.events():
            if "error" in event:
                raise NoAnswer(f"an error in the stream: {event['error']}")
            text = event["choices"][0]["delta"].get("content") if event["choices"] else None
            if text:
                found.append((at, text))
        return found

    def first_event(self) -> float | None:
        """Return the time at which the first event of a stream arrived; None before that."""
        return next((self.due + at for at, _ in self._events()), None)

    def first_text(self) -> float:
        """Return the seconds from ``due`` to the first text that a reader sees. Raises `NoAnswer`."""
        for at, text in self.texts():
            if text.strip():
                return at
        raise NoAnswer("an answer without any text")

    def usage(self) -> Any:
        """Return the token counts at the end of a stream of this server. Raises `NoAnswer`."""
        return self.events()[-1][1]["usage"]

    def _check(self) -> None:
        if self.error is not None:
            raise NoAnswer(self.error)
        if self.status != 200:
            raise NoAnswer(f"status {self.status}: {bytes(self._raw[-300:])!r}")

    @property
    def _is_chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self._head()

    def _head(self) -> bytes:
        return bytes(self._raw[: self._raw.find(b"\r\n\r\n")]).lower()

    def _events(self) -> Iterator[tuple[float, Any]]:
        rest = b""
        for piece, end in self._pieces():
            *lines, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                if line.startswith(b"data:") and line != b"data: [DONE]":
                    yield self._time_of(end) - self.due, json.loads(line[5:])

    def _time_of(self, end: int) -> float:
        return self.arrivals[bisect_left(self.arrivals, end, key=lambda arrival: arrival[1])][0]

    def _pieces(self) -> Iterator[tuple[bytes, int]]:
        """Yield the chunks of the body, each with its end as an offset in all received bytes."""
        start = self._raw.find(b"\r\n\r\n") + 4
        if not self._is_chunked:
            yield bytes(self._raw[start:]), len(self._raw)
            return
        while (line_end := self._raw.find(b"\r\n", start)) >= 0:
            length = int(self._raw[start:line_end], 16)
            start = line_end + 2 + length + 2
            if not length or start > len(self._raw):
                return
            yield bytes(self._raw[line_end + 2 : start - 2]), start


class Client:
    """Sends requests and receives their answers, all in one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._scheduled: deque[Exchange] = deque()
        self._open: set[Exchange] = set()

    def send(self, port: int, request: bytes, due: float | None = None) -> Exchange:
        """Send ``request`` now, or schedule it for the time ``due``, which is not before that of an earlier call."""
        exchange = Exchange(port, request, time.perf_counter() if due is None else due)
        if due is None:
            self._connect(exchange)
        else:
            self._scheduled.append(exchange)
        return exchange

    def run(self, until: Callable[[], bool] | None = None, timeout: float = TIMEOUT) -> None:
        """Send and receive until all requests are answered or ``until`` returns true. Raises `NoAnswer`."""
        end = time.perf_counter() + timeout
        while (self._scheduled or self._open) and not (until is not None and until()):
            if time.perf_counter() > end:
                raise NoAnswer(f"no answer within {timeout:g} seconds")
            self._turn(end)

    def run_until(self, end: float) -> None:
        """Send and receive until the time ``end``."""
        while time.perf_counter() < end:
            self._turn(end)

    def ask(self, port: int, request: bytes) -> Exchange:
        """Send one request and wait for the whole answer."""
        exchange = self.send(port, request)
        self.run(lambda: exchange.over is not None)
        return exchange

    def leave(self, exchange: Exchange) -> float:
        """Close the connection of ``exchange``, as a client that leaves; return the time."""
        assert exchange._socket is not None
        self._close(exchange)
        return time.perf_counter()

    def leave_all(self) -> None:
        """Close all connections and drop the requests that are not sent yet."""
        self._scheduled.clear()
        for exchange in list(self._open):
            self._close(exchange)

    def _turn(self, end: float) -> None:
        now = time.perf_counter()
        while self._scheduled and self._scheduled[0].due <= now:
            self._connect(self._scheduled.popleft())
        wait = min(end, self._scheduled[0].due if self._scheduled else end) - now
        for key, _ in self._selector.select(max(0.0, wait)):
            self._hear(key.data)

    def _connect(self, exchange: Exchange) -> None:
        self._open.add(exchange)
        try:
            exchange._socket = socket.create_connection(("127.0.0.1", exchange.port))
            exchange._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange._socket.sendall(exchange.request)
            exchange._socket.setblocking(False)
        except OSError as error:
            self._end(exchange, f"not connected: {error}")
        else:
            self._selector.register(exchange._socket, selectors.EVENT_READ, exchange)

    def _hear(self, exchange: Exchange) -> None:
        assert exchange._socket is not None
        try:
            data = exchange._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(exchange, f"connection lost: {error}")
            return
        if data:
            exchange._raw += data
            exchange.arrivals.append((time.perf_counter(), len(exchange._raw)))
        else:
            self._end(exchange, exchange.fault)

    def _end(self, exchange: Exchange, error: str | None) -> None:
        exchange.error = error
        self._close(exchange)

    def _close(self, exchange: Exchange) -> None:
        exchange.over = time.perf_counter()
        self._open.discard(exchange)
        if exchange._socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(exchange._socket)
            exchange._socket.close()


def get(path: str) -> bytes:
    """Return a GET request for a connection of its own."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def post(path: str, document: object) -> bytes:
    """Return a POST request with a JSON body for a connection of its own."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
