"""SentencePiece's merges of ordinary tokens, for texts that llama.cpp cannot be trusted with.

llama.cpp's SentencePiece tokenizer merges text into any token of the vocabulary, special ones too. In a ChatGLM3 that
llama.cpp's converter has written, it makes the special tokens "sop" and "eop" of a part of "philosophy" and "peoples".
"""

from __future__ import annotations

import array
import heapq
import re
from collections.abc import Iterator
from itertools import pairwise

from glm_api.pipeline.worker.gguf_file import GgufFile, Strings
from glm_api.pipeline.worker.vocabulary import BYTE, NORMAL, USER_DEFINED

_SPACE = "▁"
# No token has a space behind another character, so words are merged for themselves.
_WORDS = re.compile(f"{_SPACE}*[^{_SPACE}]+|{_SPACE}+")


class Merges:
    """The tokens of a GGUF file with a SentencePiece vocabulary, by their texts."""

    def __init__(self, file: GgufFile) -> None:
        self._ids: dict[str, int] = {}
        self._scores: dict[str, float] = {}
        self._bytes: dict[int, int] = {}
        user_defined: list[str] = []
        for id, (token, kind, score) in enumerate(_tokens(file)):
            text = token.decode(errors="replace")
            if kind == BYTE:
                self._bytes[int(text[1:-1], 16)] = id
            elif kind in (NORMAL, USER_DEFINED):
                text = text.replace(" ", _SPACE)
                self._ids[text] = id
                self._scores[text] = score
            if kind == USER_DEFINED:
                user_defined.append(text)
        longest_first = sorted(user_defined, key=len, reverse=True)
        self._user_defined = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, none of them special. The space in front, if there is to be one, is in the text."""
        text = text.replace(" ", _SPACE)
        ids: list[int] = []
        # Every other part is a user-defined token, which no merge touches.
        parts = [text] if self._user_defined is None else self._user_defined.split(text)
        for number, part in enumerate(parts):
            if number % 2:
                ids.append(self._ids[part])
            else:
                for word in _WORDS.findall(part):
                    ids += self._merged(word)
        return ids

    def _merged(self, word: str) -> Iterator[int]:
        """Yield the ids of a word: the pair of the highest score is merged first, the first of several."""
        texts = list(word)
        # Where the text before ends, which begins at an index of `texts`, and where the next one begins.
        before = list(range(-1, len(texts) - 1))
        behind = list(range(1, len(texts) + 1))
        pairs = [self._pair(texts, left, left + 1) for left, _ in enumerate(pairwise(texts))]
        heap = [pair for pair in pairs if pair is not None]
        heapq.heapify(heap)
        while heap:
            _, left, right, text = heapq.heappop(heap)
            # A text that was merged meanwhile is another one, or empty.
            if texts[left] + texts[right] != text or not texts[left] or not texts[right]:
                continue
            texts[left], texts[right] = text, ""
            behind[left] = behind[right]
            if behind[left] < len(texts):
                before[behind[left]] = left
            for pair in (
                self._pair(texts, before[left], left) if before[left] >= 0 else None,
                self._pair(texts, left, behind[left]) if behind[left] < len(texts) else None,
            ):
                if pair is not None:
                    heapq.heappush(heap, pair)
        for text in filter(None, texts):
            if text in self._ids:
                yield self._ids[text]
            else:
                yield from (self._bytes[byte] for byte in text.encode() if byte in self._bytes)

    def _pair(self, texts: list[str], left: int, right: int) -> tuple[float, int, int, str] | None:
        """Return a place in the order of merges, if the texts at the two indexes are a token together."""
        text = texts[left] + texts[right]
        return (-self._scores[text], left, right, text) if text in self._scores else None


def _tokens(file: GgufFile) -> Iterator[tuple[bytes, int, float]]:
    tokens, kinds, scores = (file.metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "scores"))
    if isinstance(tokens, Strings) and isinstance(kinds, array.array) and isinstance(scores, array.array):
        yield from zip(tokens, map(int, kinds), scores, strict=False)
