"""The client records what arrives when, and distinguishes a failure from an answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import pytest

from benchmarks.client import Client, Exchange, NoAnswer, get

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PAUSE = 0.1


def serve(*parts: bytes) -> int:
    """Start a server that answers one request with ``parts``, `PAUSE` seconds apart; return its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        # This server ignores a client that leaves.
        with listener, connection, contextlib.suppress(OSError):
            connection.recv(4096)
            for part in parts:
                connection.sendall(part)
                time.sleep(PAUSE)

    threading.Thread(target=answer, daemon=True).start()
    return int(listener.getsockname()[1])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()


def ask(*parts: bytes) -> Exchange:
    return Client().ask(serve(*parts), get("/"))


def test_each_text_has_the_time_at_which_it_came() -> None:
    exchange = ask(HEAD + chunk(event("")), chunk(event("你")), chunk(event("好")) + chunk(b""))
    (first_at, first), (second_at, second) = exchange.texts()
    assert (first, second) == ("你", "好")
    assert exchange.text() == "你好"
    assert PAUSE * 0.9 < first_at < second_at - PAUSE * 0.9
    assert exchange.first_text() == first_at
    assert exchange.first < first_at


def test_an_event_may_come_in_pieces_and_with_crlf_line_ends() -> None:
    data = event("a").replace(b"\n", b"\r\n")
    exchange = ask(HEAD + chunk(data[:9]), chunk(data[9:] + b"data: [DONE]\r\n\r\n"), chunk(b""))
    assert exchange.text() == "a"


def test_a_body_is_read_as_json() -> None:
    body = b'{"choices":[{"message":{"content":" hi "}}]}'
    exchange = ask(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\r\n" + body)
    assert exchange.text() == "hi"
    assert exchange.status == 200


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 429 TOO MANY REQUESTS\r\nContent-Length: 0\r\n\r\n",),
        (HEAD, chunk(b'data: {"error":{"message":"no"}}\n\n') + chunk(b"")),
        (HEAD, chunk(event("a"))),
        (),
    ],
    ids=["status", "error in the stream", "cut off", "closed"],
)
def test_a_failure_is_no_answer(parts: tuple[bytes, ...]) -> None:
    exchange = ask(*parts)
    with pytest.raises(NoAnswer):
        exchange.texts()


def test_a_closed_port_gives_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = int(closed.getsockname()[1])
    exchange = Client().ask(port, get("/"))
    with pytest.raises(NoAnswer, match="not connected"):
        _ = exchange.total


def test_requests_are_sent_when_due_even_if_earlier_ones_wait() -> None:
    client = Client()
    slow = client.send(serve(b"", b"", HEAD + chunk(b"")), get("/"))
    due = time.perf_counter() + PAUSE
    later = client.send(serve(HEAD + chunk(b"")), get("/"), due)
    client.run(lambda: later.begun)
    assert not slow.begun
    assert 0 <= later.arrivals[0][0] - due < PAUSE
    client.leave_all()


def test_a_client_can_leave() -> None:
    client = Client()
    exchange = client.send(serve(HEAD, *[chunk(event("a"))] * 50), get("/"))
    client.run(_has_begun(exchange))
    left = client.leave(exchange)
    client.run()
    assert left - exchange.due < 10 * PAUSE


def _has_begun(exchange: Exchange) -> Callable[[], bool]:
    return lambda: exchange.first_event() is not None
