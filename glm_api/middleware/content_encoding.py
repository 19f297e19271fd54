"""Unpack the bodies of requests that are compressed with gzip or deflate (``Content-Encoding``).

Whoever reads the body, the prompt log too, reads the unpacked bytes. They are unpacked as they are read: a reader that
stops at the largest size of a body spends neither memory nor time on what a small body would unpack to.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.wsgi import get_content_length, get_input_stream

from glm_api.errors import ApiError, invalid

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

ENCODINGS = ("gzip", "deflate")
_SANE_NAMES = re.compile(r"[a-z0-9_, .+-]{1,80}")
# Bytes of the compressed body that are read at a time.
_PIECE = 16384
# The beginning of each member of a gzip file.
_GZIP_MAGIC = b"\x1f\x8b"
# Each member costs time, whatever its size.
_MAX_MEMBERS = 1024
# What zlib calls the container: gzip's, zlib's own, none.
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class UnpackedBody:
    """The unpacked body of the request in ``environ``. The compressed body may have ``most`` bytes.

    ``encodings`` is what ``Content-Encoding`` names.
    """

    def __init__(self, environ: WSGIEnvironment, encodings: str, most: int) -> None:
        self._environ = environ.copy()
        self._encodings = encodings
        self._most = most
        self._unpacker: zlib._Decompress | None = None
        # What was read and is not unpacked yet, and whether the unpacker may have more without any.
        self._input = b""
        self._more = False
        self._members = 1

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end.

        Raises `ApiError`: 415 for an encoding that is not taken, 400 for damaged data, and what reading the compressed
        body raises; and werkzeug's 413 if that is too large.
        """
        if self._unpacker is None:
            # A stream without a length ends where one byte more than allowed has been read.
            more = 1 if get_content_length(self._environ) is None else 0
            self._packed = get_input_stream(self._environ, max_content_length=self._most + more)
            self._input = self._packed.read(_PIECE)
            if not self._input:
                return b""
            self._unpacker = _unpacker(self._encodings, self._input)
        while not self._unpacker.eof or self._begins_member(self._unpacker):
            if not self._input and not self._more:
                self._input = self._packed.read(_PIECE)
                if not self._input:
                    raise self._damaged("it ends too early")
            if data := self._unpack(self._unpacker, size):
                return data
        return b""

    def _begins_member(self, ended: zlib._Decompress) -> bool:
        """Return whether another member of a gzip file follows the one that has ended, and prepare to unpack it.

        Raises `ApiError` if something else follows.
        """
        following = ended.unused_data or self._packed.read(_PIECE)
        if not following:
            return False
        if not _is_gzip(self._encodings) or not following.startswith(_GZIP_MAGIC[: len(following)]):
            raise self._damaged("something follows its end")
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise self._damaged(f"it has more than {_MAX_MEMBERS} members")
        self._unpacker, self._input, self._more = zlib.decompressobj(_GZIP), following, False
        return True

    def _unpack(self, unpacker: zlib._Decompress, size: int) -> bytes:
        try:
            data = unpacker.decompress(self._input, size)
        except zlib.error:
            raise self._damaged("it is damaged") from None
        self._input = unpacker.unconsumed_tail
        self._more = len(data) == size
        return data

    def _damaged(self, how: str) -> ApiError:
        return invalid(
            f"The request body cannot be unpacked with {self._encodings}, which its Content-Encoding names: {how}.",
            code=None,
        )


def _is_gzip(encodings: str) -> bool:
    return encodings in ("gzip", "x-gzip")


def _unpacker(encodings: str, first: bytes) -> zlib._Decompress:
    """Return what unpacks a body that begins with ``first``. Raises `ApiError` (415)."""
    if _is_gzip(encodings):
        return zlib.decompressobj(_GZIP)
    if encodings == "deflate":
        # HTTP means zlib's container, but some clients leave it out. No encoder begins the data in it like this.
        return zlib.decompressobj(_ZLIB if first[0] & 0x0F == zlib.DEFLATED else _RAW)
    shown = f"Content-Encoding: {encodings}" if _SANE_NAMES.fullmatch(encodings) else "another Content-Encoding"
    raise ApiError(
        415,
        f"This server does not take a request body with {shown}. Send the body as it is, or compressed once, with "
        f"{' or '.join(ENCODINGS)}.",
        headers={"Accept-Encoding": ", ".join(ENCODINGS)},
    )


def register(app: Flask) -> None:
    """Unpack compressed bodies for ``app``."""
    answer = app.wsgi_app

    def unpacked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        named = [name.strip().lower() for name in environ.get("HTTP_CONTENT_ENCODING", "").split(",")]
        encodings = ", ".join(name for name in named if name not in ("", "identity"))
        if encodings:
            environ["wsgi.input"] = UnpackedBody(environ, encodings, app.config["MAX_CONTENT_LENGTH"])
            # The length is that of the compressed body. The unpacked one ends where it ends.
            environ.pop("CONTENT_LENGTH", None)
            environ["wsgi.input_terminated"] = True
        return answer(environ, start_response)

    app.wsgi_app = unpacked  # type: ignore[method-assign]
