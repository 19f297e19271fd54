"""Turn token ids into text, one id at a time.

A character may be spread over several ids (byte fallback, byte-level BPE). Text is returned as soon as its characters
are complete. At most three bytes are held back, because bytes that cannot become a character are replaced at once. An
answer that is cut inside a character ends before that character.
"""

from __future__ import annotations

import codecs

from glm_api.pipeline.formats.base import Tokenizer

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Decodes one answer.

    Its texts, joined, are ``decode(ids)`` with U+FFFD for invalid bytes and without an incomplete character at the end.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._utf8 = _utf8_decoder("replace").decode

    def feed(self, token: int) -> str:
        """Return the text that this id completes; empty for a special id and inside a character."""
        return self._utf8(self._decode((token,)))

    def flush(self) -> str:
        """Return U+FFFD for a character that stays incomplete, because other text follows; else nothing."""
        return self._utf8(b"", True)
