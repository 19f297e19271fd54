"""Find the ids that llama.cpp leaves out of a stream: those of a character that further ids complete.

It sends the text of a character when that is whole, together with the last of its ids only.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_CHARACTER = "\ufffd".encode()
# In no text.
_NO_BYTE = b"\xff"


class LostIds:
    """``ids`` are the ids of a vocabulary by the bytes that they stand for."""

    def __init__(self, ids: Mapping[bytes, int]) -> None:
        self._ids = ids

    def find(self, text: bytes, count: int) -> list[int]:
        """Return ``count`` ids that stand for ``text``, one after the other; none if there are no such ids.

        Where several do, they need not be those that were generated, but they say the same. llama.cpp writes U+FFFD for
        bytes that are no character; ids that are none either stand for those.
        """
        found = self._split(text, 0, count, set())
        if not found and _NO_CHARACTER in text and _NO_BYTE in self._ids:
            return [self._ids[_NO_BYTE]] * count
        return found

    def _split(self, text: bytes, begin: int, count: int, dead: set[tuple[int, int]]) -> list[int]:
        """Return ``count`` ids for the text from ``begin`` on; ``dead`` are the places and counts that have none."""
        if (begin, count) in dead or not count:
            return []
        # Each of the others needs a byte. Behind each of them the text ends inside a character.
        for end in range(len(text) - count + 1, begin, -1):
            id = self._ids.get(text[begin:end])
            if id is None or not _is_cut(text[:end]):
                continue
            if count == 1 and end == len(text):
                return [id]
            rest = self._split(text, end, count - 1, dead)
            if rest:
                return [id, *rest]
        dead.add((begin, count))
        return []


def _is_cut(text: bytes) -> bool:
    """Return whether ``text`` ends inside a character."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False
