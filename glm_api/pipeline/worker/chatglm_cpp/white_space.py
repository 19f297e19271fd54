"""Encode white space as GLM-4's tokenizer does, where chatglm_cpp's copy of that tokenizer differs.

GLM-4's own is tiktoken with the pattern of tokenization_chatglm.py (huggingface.co/THUDM/glm-4-9b-chat). It differs in
two ways: ``\\s`` is Unicode's White_Space, and a run of white space at the end of a text is one piece.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence

# RE2, with which chatglm_cpp splits, takes the first kind for white space; only Unicode takes the second kind too.
_ASCII = "\t\n\f\r "
_OTHER = "\v\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_ANY = _ASCII + _OTHER
_BYTES = bytes(set(_ANY.encode()))
# A whole run of white space with a character of the second kind. The lookbehind lets the search try each run once.
_RUN = re.compile(f"(?<![{_ANY}])[{_ANY}]*[{_OTHER}][{_ANY}]*")
_FOUND = re.compile(f"[{_OTHER}]")


def split(text: str) -> list[str | bytes]:
    """Cut ``text`` into strings, which chatglm_cpp splits correctly, and pieces of white space, as UTF-8."""
    if not _FOUND.search(text):
        return [text]
    parts: list[str | bytes] = []
    done = 0
    for run in _RUN.finditer(text):
        start, end = run.span()
        if start and not text[start - 1].isalnum():
            # The line ends right after a sign belong to its piece.
            start = end - len(text[start:end].lstrip("\r\n"))
        parts.append(text[done:start])
        # The run up to its last line end is one piece.
        last_line = max(start, text.rfind("\n", start, end) + 1, text.rfind("\r", start, end) + 1)
        parts.append(text[start:last_line].encode())
        start = last_line
        if start < end < len(text):
            # The last character before other text is not in the piece. It belongs to letters that follow, and a blank
            # belongs to signs that follow; chatglm_cpp splits these correctly.
            parts.append(text[start : end - 1].encode())
            start = end - 1
            if text[start] in _ASCII or text[end].isalnum():
                end = start
        parts.append(text[start:end].encode())
        done = end
    parts.append(text[done:])
    return [part for part in parts if part]


def ranks(tokens: Sequence[bytes]) -> dict[bytes, int]:
    """Return the ranks of those ``tokens`` that consist of white space's bytes; a token's index is its rank."""
    return {token: rank for rank, token in enumerate(tokens) if token and not token.translate(None, _BYTES)}


def merge(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Return the ids of ``piece`` by byte pair encoding: merge the pair with the lowest rank, the leftmost of several.

    A heap keeps the time to that of sorting the bytes, because a piece may be long.
    """
    if piece in ranks:
        return [ranks[piece]]
    size = len(piece)
    ends = list(range(1, size + 1))  # of the token that begins at an index; ``size`` where none begins any more
    before = list(range(-1, size))  # where the token before it begins
    heap: list[tuple[int, int, int]] = []

    def offer(begin: int) -> None:
        middle = ends[begin]
        if middle < size and (rank := ranks.get(piece[begin : ends[middle]])) is not None:
            heapq.heappush(heap, (rank, begin, ends[middle]))

    for begin in range(size):
        offer(begin)
    while heap:
        _, begin, end = heapq.heappop(heap)
        middle = ends[begin]
        if middle == size or ends[middle] != end:
            continue  # one of the two tokens has been merged with another one
        ends[begin], ends[middle] = end, size
        before[end] = begin
        offer(begin)
        if begin:
            offer(before[begin])
    ids = []
    begin = 0
    while begin < size:
        ids.append(ranks[piece[begin : ends[begin]]])
        begin = ends[begin]
    return ids
