"""Bodies with invalid HTTP framing, sent to the real server."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.processes import PATIENCE
from tests.support.server import Server

BODY = b'{"content": "hello", "with_pieces": true}'
HALVES = (BODY[:20], BODY[20:])


def exchange(server: Server, framing: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    """Send the request and nothing more; status, headers and body of the answer, after which the server must close.

    /tokenize, because a client that stops sending counts as gone where an answer is generated.
    """
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as client:
        client.sendall(
            b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%b\r\n\r\n%b"
            % (framing, body)
        )
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    status, _, headers = head.partition(b"\r\n")
    return int(status.split()[1]), headers.lower(), content


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@pytest.mark.parametrize(
    "body",
    [
        b"hello\r\n",
        b"-5\r\nhello\r\n",
        b"5;a b\r\nhello\r\n",
        b"5\r\nhelloo",
        b"5\r\nhel",
        b"5",
        b"",
        b"f" * 10_000,
        b"f" * 4000 + b"\r\nhello",
        chunked(*HALVES, end=b""),
        chunked(*HALVES, end=b"0\r\n"),
        chunked(*HALVES, end=b"0\r\nno colon\r\n\r\n"),
        chunked(*HALVES, end=b"0\r\nContent-Length: 5\r\n\r\n"),
        chunked(*HALVES, end=b"0\r\n" + b"a: b\r\n" * 200 + b"\r\n"),
    ],
)
def test_invalid_chunks_are_refused_in_the_envelope(demo: Server, body: bytes) -> None:
    status, headers, content = exchange(demo, b"Transfer-Encoding: chunked", body)
    assert status == 400
    assert b"connection: close" in headers
    assert "body is broken" in json.loads(content)["error"]["message"]
    log = demo.log.read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_a_body_that_is_shorter_than_its_content_length_is_refused(demo: Server) -> None:
    status, _, content = exchange(demo, b"Content-Length: %d" % (len(BODY) + 1), BODY)
    assert status == 400
    assert "ends before its Content-Length" in json.loads(content)["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        chunked(BODY),
        chunked(*HALVES),
        chunked(*(bytes([byte]) for byte in BODY)),
        b'%X;name=value;other="a;b"\r\n%b\r\n0\r\n\r\n' % (len(BODY), BODY),
        b"0000%x\r\n%b\r\n000\r\n\r\n" % (len(BODY), BODY),
        chunked(BODY, end=b"0\r\nX-Checksum: 1\r\n\r\n"),
    ],
)
def test_valid_chunks_of_all_kinds_are_joined(demo: Server, body: bytes) -> None:
    assert exchange(demo, b"Transfer-Encoding: chunked", body)[0] == 200
