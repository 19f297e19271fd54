"""White space as GLM-4's tokenizer encodes it, where chatglm_cpp's copy of that tokenizer differs.

The real one is tiktoken with the pattern of tokenization_chatglm.py (huggingface.co/THUDM/glm-4-9b-chat). It differs in
two ways: ``\\s`` there is Unicode's White_Space, and a run of white space at the end of a text is one piece.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence

# The one kind is white space for RE2 too, which chatglm_cpp splits with; the other only for Unicode.
_ASCII = "\t\n\f\r "
_OTHER = "\v\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_ANY = _ASCII + _OTHER
_BYTES = bytes(set(_ANY.encode()))
# A whole run of white space that holds one of the other kind. The lookbehind lets the search try each run once.
_RUN = re.compile(f"(?<![{_ANY}])[{_ANY}]*[{_OTHER}][{_ANY}]*")
_FOUND = re.compile(f"[{_OTHER}]")


def split(text: str) -> list[str | bytes]:
    """``text`` in parts: strings, which chatglm_cpp splits as it should, and pieces of white space, as UTF-8."""
    if not _FOUND.search(text):
        return [text]
    parts: list[str | bytes] = []
    done = 0
    for run in _RUN.finditer(text):
        start, end = run.span()
        if start and not text[start - 1].isalnum():
            # A sign takes the line ends right behind it.
            start = end - len(text[start:end].lstrip("\r\n"))
        parts.append(text[done:start])
        # Up to the last line end it is one piece.
        last_line = max(start, text.rfind("\n", start, end) + 1, text.rfind("\r", start, end) + 1)
        parts.append(text[start:last_line].encode())
        start = last_line
        if start < end < len(text):
            # The last character before other text is apart. Letters take it, and signs a blank: chatglm_cpp knows that.
            parts.append(text[start : end - 1].encode())
            start = end - 1
            if text[start] in _ASCII or text[end].isalnum():
                end = start
        parts.append(text[start:end].encode())
        done = end
    parts.append(text[done:])
    return [part for part in parts if part]


def ranks(tokens: Sequence[bytes]) -> dict[bytes, int]:
    """The ranks of those ``tokens`` that a piece of white space can be merged to; a token's index is its rank."""
    return {token: rank for rank, token in enumerate(tokens) if token and not token.translate(None, _BYTES)}


def merge(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Byte pair encoding: merge the pair with the lowest rank, of several the leftmost, as long as there is one.

    With a heap, because a piece may be long: the time is that of sorting its bytes.
    """
    if piece in ranks:
        return [ranks[piece]]
    size = len(piece)
    ends = list(range(1, size + 1))  # of the token that begins at an index; ``size`` where none begins any more
    before = list(range(-1, size))  # where the token in front of it begins
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
            continue  # one of the two has been merged with another
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
