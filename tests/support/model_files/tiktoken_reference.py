"""GLM-4's tokenizer as it is published, written for reading. Tests compare chatglm_cpp's copy with it.

Source of the pattern: tokenization_chatglm.py of huggingface.co/THUDM/glm-4-9b-chat. The merge is tiktoken's.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Mapping

from hypothesis import strategies as st

# Some characters of each kind that the pattern distinguishes.
TEXTS = st.text("  \t\f\v\n\r\u3000\u3000\xa0\x85\u2003\u2028a你é\u0301。1½,'s_😀\x1c", max_size=30)
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def encode(text: str, ranks: Mapping[bytes, int]) -> list[int]:
    """Return the ids of ``text``; ``ranks`` must have all single bytes."""
    return [id for piece in _pattern().findall(text) for id in _merge(piece.encode(), ranks)]


@functools.cache
def _pattern() -> re.Pattern[str]:
    """Return the pattern for `re`, which has no classes for letters and numbers, and a different one for space."""
    members: dict[str, list[str]] = {"L": [], "N": []}
    for character in map(chr, range(sys.maxunicode + 1)):
        members.get(unicodedata.category(character)[0], []).append(character)
    pattern = _PATTERN.replace(r"\S", rf"[^{_WHITE_SPACE}]").replace(r"[^\s", rf"[^{_WHITE_SPACE}")
    pattern = pattern.replace(r"\s", f"[{_WHITE_SPACE}]")
    for name, characters in members.items():
        ranges = _ranges(characters)
        pattern = pattern.replace(rf"\p{{{name}}}+", f"[{ranges}]+").replace(rf"\p{{{name}}}{{", f"[{ranges}]{{")
        pattern = pattern.replace(rf"\p{{{name}}}", ranges)
    return re.compile(pattern)


def _ranges(characters: list[str]) -> str:
    found: list[list[str]] = []
    for character in characters:
        if found and ord(character) == ord(found[-1][1]) + 1:
            found[-1][1] = character
        else:
            found.append([character, character])
    return "".join(f"{first}-{last}" for first, last in found)


def _merge(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    tokens = [bytes([byte]) for byte in piece]
    if piece in ranks:
        tokens = [piece]
    while True:
        pairs = [tokens[at] + tokens[at + 1] for at in range(len(tokens) - 1)]
        known = [at for at, pair in enumerate(pairs) if pair in ranks]
        if not known:
            return [ranks[token] for token in tokens]
        first = min(known, key=lambda at: ranks[pairs[at]])
        tokens[first : first + 2] = [pairs[first]]
