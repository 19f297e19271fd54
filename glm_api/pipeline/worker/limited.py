"""Bounded encoding: a prompt of millions of characters takes seconds to encode and fits into no context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from glm_api.pipeline.worker.bridge import _C
from glm_api.pipeline.worker.lengths import lengths
from glm_api.pipeline.worker.model_file import ModelFile
from glm_api.pipeline.worker.tokenizer import PipelineTokenizer

# A text that is a little too long is encoded to its end, so that an error can tell its number of tokens. Encoding stops
# at this many times the tokens that were asked for.
_COUNTED = 2


class TooManyTokens(Exception):
    """The text or prompt has ``tokens`` tokens, or ``at_least`` that many."""

    def __init__(self, tokens: int, at_least: bool) -> None:
        super().__init__(f"{tokens} tokens")
        self.tokens = tokens
        self.at_least = at_least


class LimitedTokenizer(PipelineTokenizer):
    """A `PipelineTokenizer` that can limit several encodings together, such as those of one prompt."""

    def __init__(self, pipeline: _C.Pipeline, model: ModelFile) -> None:
        super().__init__(pipeline, model)
        self._lengths = lengths(self._vocabulary)
        self._most: int | None = None
        self._encoded = 0

    @property
    def characters_per_token(self) -> int:
        """The most characters that a token stands for; 0 where some characters take no token."""
        return self._lengths.characters_per_token

    @contextmanager
    def limit(self, most: int) -> Iterator[None]:
        """Let encodings in this context raise `TooManyTokens` as soon as they have far more than ``most`` ids in all.

        A few more ids raise nothing. `check` finds them afterwards, when they can be counted.
        """
        self._most, self._encoded = most, 0
        try:
            yield
        finally:
            self._most = None

    def check(self, ids: Sequence[int], most: int) -> None:
        """Raise `TooManyTokens` for more than ``most`` ids."""
        if len(ids) > most:
            raise TooManyTokens(len(ids), at_least=False)

    def encode(self, text: str) -> list[int]:
        """Return ordinary text as ids. Raises `TooManyTokens`."""
        if self._most is None:
            return super().encode(text)
        # The bound is never more than the number of characters.
        if self._encoded + len(text) > self._most:
            fewest = self._encoded + self._lengths.fewest_tokens(text)
            if fewest > self._most:
                raise TooManyTokens(fewest, at_least=True)
        ids: list[int] = []
        for part in self._parts(text):
            ids += super().encode(part)
            if self._encoded + len(ids) > _COUNTED * self._most:
                raise TooManyTokens(self._encoded + len(ids), at_least=True)
        self._encoded += len(ids)
        return ids
