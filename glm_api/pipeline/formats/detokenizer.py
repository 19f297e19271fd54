"""Token ids to text, one id at a time.

A character may be spread over several ids (byte fallback, byte-level BPE). Text is given out as soon as its characters
are whole; at most three bytes are ever held back, because bytes that cannot become a character are replaced at once.
An answer that is cut inside a character ends in front of it.
"""

from __future__ import annotations

import codecs

from glm_api.pipeline.formats.base import Tokenizer

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Decodes one answer. What it gives out, joined, is ``decode(ids)`` with invalid bytes as U+FFFD, without the
    beginning of a character at its end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._utf8 = _utf8_decoder("replace").decode

    def feed(self, token: int) -> str:
        """The text that this id completes; empty for a special id and inside a character."""
        return self._utf8(self._decode((token,)))

    def flush(self) -> str:
        """U+FFFD for an unfinished character that other text than its rest follows, else nothing."""
        return self._utf8(b"", True)
