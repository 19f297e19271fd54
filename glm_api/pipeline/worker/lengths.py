"""Compute a lower bound of a text's number of tokens from its characters, without encoding it.

No token stands for more characters than the longest piece of the vocabulary has. This is also true of the characters
of one kind alone, which gives a better bound where pieces of another kind are much longer: GLM-4 has a piece of 512
blanks, but none of more than 41 letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glm_api.pipeline.worker.vocabulary import Vocabulary

_LETTERS = bytes(byte for byte in range(0x80) if chr(byte).isalnum())
_SIGNS = bytes(byte for byte in range(0x21, 0x7F) if not chr(byte).isalnum())
# The first bytes of characters beyond ASCII. A token may hold a part of such a character, so its first byte is counted.
_BEYOND_ASCII = bytes(range(0xC0, 0x100))
_KINDS = (_LETTERS, _SIGNS, _BEYOND_ASCII, bytes(range(0x80)) + _BEYOND_ASCII)

# ChatGLM-6B's normalizer (SentencePiece's nmt_nfkc) drops control characters, and all but one of several white space
# characters in a row. _VISIBLE are the first bytes of all other characters, but also of those in _DROPPED.
_VISIBLE = bytes(range(0x21, 0x7F)) + _BEYOND_ASCII
_DROPPED = [
    *(chr(code).encode() for code in (0x8F, 0x9F, 0xA0, 0x1680, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F)),
    *(sign.encode() for sign in "\u205f\u2581\u3000\ufeff\ufffd"),
]
# The normalizer composes letters and marks. It makes one character of this many at the most.
_COMPOSED = 4
# Characters that are never composed with the one before: ASCII, and the first bytes of ideographs and pictographs.
_ALONE = bytes({*range(0x21, 0x7F), *range(0xE4, 0xEA)})
_PICTOGRAPHS = b"\xf0\x9f"
# chatglm_cpp makes one token of each line feed, and of up to 80 blanks.
_MOST_BLANKS = 80
# For each kind the bytes that are not of it.
_OTHERS = {kind: bytes(set(range(0x100)) - set(kind)) for kind in (*_KINDS, _VISIBLE, _ALONE)}


@dataclass(frozen=True, slots=True)
class Lengths:
    """What a vocabulary tells of lengths.

    ``characters_per_token`` is the most characters that a token stands for; 0 where some characters take no token.
    ``fewest_tokens(text)`` is a lower bound of the number of tokens of ``text``.
    """

    characters_per_token: int
    fewest_tokens: Callable[[str], int]


def lengths(vocabulary: Vocabulary) -> Lengths:
    """Return the lengths of ``vocabulary``."""
    if not vocabulary.covers_all:
        return Lengths(0, lambda text: 0)
    if vocabulary.normalizes:
        return Lengths(0, lambda text: _fewest_normalized(text, vocabulary))
    # At least 1, for a vocabulary without a character of a kind.
    longest = [max(1, *(_count(piece, kind) for piece in vocabulary.pieces)) for kind in _KINDS]
    return Lengths(longest[-1], lambda text: _fewest(text, longest))


def _fewest(text: str, longest: list[int]) -> int:
    # SentencePiece takes this sign for a blank, and the vocabulary has one in its place.
    data = text.replace("\u2581", " ").encode()
    return max(_divided(_count(data, kind), most) for kind, most in zip(_KINDS, longest, strict=True))


def _fewest_normalized(text: str, vocabulary: Vocabulary) -> int:
    data = text.encode()
    # Where the file lets the tokenizer find special tokens in a text, it drops those that the text spells out.
    spelled = sum(text.count(name) * len(name) for name in vocabulary.specials)
    visible = _count(data, _VISIBLE) - sum(map(data.count, _DROPPED)) - spelled
    alone = _count(data, _ALONE) + data.count(_PICTOGRAPHS) - spelled
    return max(
        _divided(visible, _COMPOSED * vocabulary.longest_piece),
        _divided(alone, vocabulary.longest_piece),
        _divided(text.count("  "), _MOST_BLANKS // 2),
        text.count("\n"),
    )


def _count(data: bytes, kind: bytes) -> int:
    return len(data.translate(None, _OTHERS[kind]))


def _divided(count: int, by: int) -> int:
    """Divide and round up."""
    return -(-count // by)
