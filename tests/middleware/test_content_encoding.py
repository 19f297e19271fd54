"""A compressed body is taken as if it had been sent as it is, within the same limits; others are refused by name."""

from __future__ import annotations

import gzip
import json
import logging
import tracemalloc
import zlib
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, TestResponse

from glm_api.middleware.content_encoding import UnpackedBody
from tests.support.client import CHAT, HELLO, MakeApp, error, refused
from tests.support.fake_pipeline import FakePipeline

REQUESTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/tokenize": {"content": "Hi"},
    "/detokenize": {"tokens": [65]},
    "/apply-template": {"messages": HELLO},
}
BODY = json.dumps(REQUESTS[CHAT]).encode()
LIMIT = 100_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def stored(data: bytes) -> bytes:
    return zlib.compress(data, 0)


def plain(data: bytes) -> bytes:
    return data


PACKED = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("identity, gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", stored),
    ("deflate", raw_deflate),
    ("identity", plain),
    ("", plain),
]


def post(client: FlaskClient, encoding: str, body: bytes, path: str = CHAT, **more: Any) -> TestResponse:
    headers = {"Content-Encoding": encoding}
    return client.post(path, data=body, content_type="application/json", headers=headers, buffered=True, **more)


@pytest.fixture
def small(make_app: MakeApp) -> FlaskClient:
    return make_app(max_body_bytes=LIMIT).test_client()


@pytest.mark.parametrize("endpoint", REQUESTS)
@pytest.mark.parametrize(("encoding", "pack"), PACKED)
def test_a_compressed_body_is_taken(client: FlaskClient, endpoint: str, encoding: str, pack: Any) -> None:
    response = post(client, encoding, pack(json.dumps(REQUESTS[endpoint]).encode()), endpoint)
    assert response.status_code == 200, response.text


def test_the_model_gets_the_unpacked_text(client: FlaskClient, fake: FakePipeline) -> None:
    post(client, "gzip", gzip.compress(BODY))
    assert fake.conversations[0].messages[0].content == HELLO[0]["content"]


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "gzip, br", "x" * 500, "é"]
)
def test_another_encoding_is_415_and_told_what_is_taken(client: FlaskClient, encoding: str) -> None:
    response = post(client, encoding, gzip.compress(BODY))
    message = error(response)["message"]
    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "gzip, deflate"
    assert "gzip or deflate" in message
    assert (encoding in message) is (len(encoding) < 100 and encoding.isascii())
    assert len(message) < 300


@pytest.mark.parametrize(
    ("encoding", "body", "why"),
    [
        ("gzip", BODY, "it is damaged"),
        ("deflate", BODY, "it is damaged"),
        ("gzip", zlib.compress(BODY), "it is damaged"),
        ("deflate", gzip.compress(BODY), "it is damaged"),
        ("gzip", gzip.compress(BODY)[:-1], "it ends too early"),
        ("gzip", gzip.compress(BODY)[:5], "it ends too early"),
        ("deflate", zlib.compress(BODY)[:-5], "it ends too early"),
        ("gzip", gzip.compress(BODY)[:-8] + bytes(8), "it is damaged"),
        ("gzip", gzip.compress(BODY) + b"x", "something follows its end"),
        ("gzip", gzip.compress(BODY) + b"x" * 50_000, "something follows its end"),
        ("gzip", gzip.compress(BODY) + gzip.compress(b" ")[:-1], "it ends too early"),
        ("gzip", gzip.compress(BODY) + b"\x1f", "it ends too early"),
        ("gzip", gzip.compress(BODY) + b"\x1f\x8bxx", "it is damaged"),
        ("gzip", gzip.compress(b"") * 1025, "it has more than 1024 members"),
        ("deflate", zlib.compress(BODY) * 2, "something follows its end"),
        ("deflate", zlib.compress(BODY) + gzip.compress(b""), "something follows its end"),
    ],
    # The data has the time in it.
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_damaged_data_is_400(client: FlaskClient, encoding: str, body: bytes, why: str) -> None:
    message = refused(post(client, encoding, body), None, None)
    assert message == f"The request body cannot be unpacked with {encoding}, which its Content-Encoding names: {why}."


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]),
        gzip.compress(BODY) + gzip.compress(b"") * 1023,
        b"".join(gzip.compress(bytes([byte])) for byte in BODY),
        # The pieces that are read end in every place of a member.
        *(gzip.compress(b" " * size, 0) + gzip.compress(BODY) for size in range(16384 - 40, 16384)),
    ],
    ids=lambda value: "",
)
def test_a_gzip_file_may_have_several_members(client: FlaskClient, fake: FakePipeline, body: bytes) -> None:
    response = post(client, "gzip", body)
    assert response.status_code == 200, response.text
    assert fake.conversations[0].messages[0].content == HELLO[0]["content"]


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_body_that_is_empty_is_told_so(client: FlaskClient, encoding: str) -> None:
    assert "is empty" in refused(post(client, encoding, b""), None, None)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_request_without_a_body_may_name_any_encoding(client: FlaskClient, encoding: str) -> None:
    assert client.get("/v1/models", headers={"Content-Encoding": encoding}).status_code == 200


def test_the_unpacked_body_may_be_as_large_as_any(small: FlaskClient) -> None:
    empty = json.dumps({"messages": [{"role": "user", "content": "x"}], "user": ""}).encode()
    body = empty.replace(b'""', b'"' + b"x" * (LIMIT - len(empty)) + b'"')
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    for encoding, pack, environ in (
        ("gzip", gzip.compress, {}),
        ("gzip", gzip.compress, chunked),
        ("", bytes, chunked),
    ):
        assert post(small, encoding, pack(body), environ_overrides=environ).status_code == 200
        response = post(small, encoding, pack(body + b" "), environ_overrides=environ)
        assert (response.status_code, f"{LIMIT} bytes" in error(response)["message"]) == (413, True)
    second = gzip.compress(body) + gzip.compress(b" ")
    assert post(small, "gzip", second).status_code == 413


def test_the_compressed_body_may_be_as_large_as_any(small: FlaskClient) -> None:
    # Blocks of nothing, of five bytes each, and one more byte for a length that is not a multiple of five.
    block = b"\0\0\0\xff\xff"
    body = raw_deflate(BODY)
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    padded = json.dumps({**REQUESTS[CHAT], "user": "x" * 20}).encode()
    for environ in ({}, chunked):
        for more, status in ((0, 200), (1, 413)):
            found = next(
                block * ((LIMIT + more - len(body)) // 5) + body
                for text in (padded + b" " * number for number in range(50))
                if (LIMIT + more - len(body := raw_deflate(text))) % 5 == 0
            )
            assert len(found) == LIMIT + more
            assert post(small, "deflate", found, environ_overrides=environ).status_code == status


def test_a_compressed_body_that_is_too_large_is_413_whatever_it_unpacks_to(small: FlaskClient) -> None:
    # A block of nothing is five bytes.
    nothing = zlib.compress(b"")[:2] + b"\0\0\0\xff\xff" * LIMIT
    assert post(small, "deflate", nothing).status_code == 413
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    assert post(small, "deflate", nothing, environ_overrides=chunked).status_code == 413


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_a_bomb_is_413_and_takes_no_more_memory_than_a_body_may(small: FlaskClient, pack: Any) -> None:
    bomb = pack(b" " * (200 * LIMIT))
    assert len(bomb) < LIMIT
    encoding = "gzip" if pack is gzip.compress else "deflate"
    post(small, encoding, bomb)
    tracemalloc.start()
    try:
        response = post(small, encoding, bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 413
    assert most < 20 * LIMIT


def test_the_log_of_prompts_has_the_unpacked_body(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="glm_api.request")
    assert post(make_app(log_prompts=True).test_client(), "gzip", gzip.compress(BODY)).status_code == 200
    assert caplog.records[-1].__dict__["prompt"] == BODY.decode()


@settings(deadline=None)
@given(
    st.binary(max_size=300) | st.integers(0, 40_000).map(bytes),
    st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]),
    st.sampled_from([1, 2, 7, 64, 1000, 65536]),
)
def test_any_data_is_read_in_any_pieces(data: bytes, packing: tuple[str, Any], size: int) -> None:
    encoding, pack = packing
    body = UnpackedBody(EnvironBuilder(data=pack(data)).get_environ(), encoding, 10**6)
    pieces = []
    while piece := body.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    assert b"".join(pieces) == data
    assert body.read(size) == b""
