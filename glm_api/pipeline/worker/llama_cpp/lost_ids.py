"""Find the ids that llama.cpp leaves out of a stream: those of a character that further ids complete.

It sends the text of a character when that is whole, together with the last of its ids only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_NO_CHARACTER = "\ufffd".encode()
# In no text.
_NO_BYTE = b"\xff"


class LostIds:
    """``ids`` are the ids of a vocabulary by the bytes that they stand for."""

    def __init__(self, ids: Mapping[bytes, int]) -> None:
        self._ids = ids
        self._longest = max(map(len, ids), default=0)

    def find(self, text: bytes, count: int) -> list[int]:
        """Return ``count`` ids that stand for ``text``, one after the other; none if there are no such ids.

        Where several do, they need not be those that were generated, but they say the same. llama.cpp writes U+FFFD for
        bytes that are no character; ids that are none either stand for those.
        """
        found = next(self._splits(text, count), [])
        if not found and _NO_CHARACTER in text and _NO_BYTE in self._ids:
            return [self._ids[_NO_BYTE]] * count
        return found

    def _splits(self, text: bytes, count: int) -> Iterator[list[int]]:
        if count == 0:
            if not text:
                yield []
            return
        # Each of the others needs a byte.
        for length in range(min(self._longest, len(text) - count + 1), 0, -1):
            if (id := self._ids.get(text[:length])) is not None:
                for rest in self._splits(text[length:], count - 1):
                    yield [id, *rest]
