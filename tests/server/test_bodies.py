"""Bodies with invalid HTTP framing, sent to the real server."""

from __future__ import annotations

import gzip
import json
import socket
import zlib

import httpx
import pytest

from tests.support.processes import PATIENCE
from tests.support.server import Server, chat

BODY = b'{"content": "hello", "with_pieces": true}'
HALVES = (BODY[:20], BODY[20:])


DEFLATED = zlib.compress(BODY)


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


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d" % len(DEFLATED), DEFLATED),
        (b"Transfer-Encoding: chunked", chunked(DEFLATED)),
        (b"Transfer-Encoding: chunked", chunked(*(bytes([byte]) for byte in DEFLATED))),
    ],
)
def test_compressed_bodies_are_unpacked_however_they_are_framed(demo: Server, framing: bytes, body: bytes) -> None:
    status, _, content = exchange(demo, framing + b"\r\nContent-Encoding: deflate", body)
    assert (status, "tokens" in json.loads(content)) == (200, True)


def test_a_compressed_body_that_breaks_off_is_refused(demo: Server) -> None:
    framing = b"Content-Encoding: deflate\r\nContent-Length: %d" % len(DEFLATED)
    status, _, content = exchange(demo, framing, DEFLATED[:-1])
    assert (status, "cannot be unpacked" in json.loads(content)["error"]["message"]) == (400, True)


def test_a_connection_goes_on_after_compressed_bodies_good_and_bad(demo: Server) -> None:
    bomb = gzip.compress(b" " * 2**28)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    question = gzip.compress(json.dumps(chat("hello", max_tokens=1)).encode())
    with httpx.Client(base_url=demo.url, timeout=PATIENCE, headers=headers) as client:
        for body, status in ((question, 200), (bomb, 413), (b"no", 400), (question, 200)):
            response = client.post("/v1/chat/completions", content=body)
            assert response.status_code == status, response.text
        response = client.post("/v1/chat/completions", content=question, headers={"Content-Encoding": "br"})
        assert (response.status_code, response.headers["Accept-Encoding"]) == (415, "gzip, deflate")
    assert "Traceback" not in demo.log.read_text()
