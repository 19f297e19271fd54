"""Encodes no more than was asked for: prompts of millions of characters cost seconds, and fit into no context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from glm_api.pipeline.worker.lengths import lengths
from glm_api.pipeline.worker.tokenizer import PipelineTokenizer

# A text that is a little too long is encoded to its end, so that its tokens can be told; one of more than this many
# times the tokens that were asked for is not.
_COUNTED = 2


class TooManyTokens(Exception):
    """What was to be encoded has ``tokens``, or ``at_least`` that many."""

    def __init__(self, tokens: int, at_least: bool) -> None:
        super().__init__(f"{tokens} tokens")
        self.tokens = tokens
        self.at_least = at_least


class LimitedTokenizer:
    """A `PipelineTokenizer` whose encodings in one `limit` together are limited."""

    def __init__(self, tokenizer: PipelineTokenizer) -> None:
        self._tokenizer = tokenizer
        self._lengths = lengths(tokenizer.vocabulary)
        self._most: int | None = None
        self._encoded = 0
        self.decode = tokenizer.decode
        self.show = tokenizer.show
        self.role = tokenizer.role
        self.template = tokenizer.template
        self.knows = tokenizer.knows
        self.end_ids = tokenizer.end_ids
        self.characters_per_token = self._lengths.characters_per_token

    @property
    def prefix(self) -> list[int]:
        """The special ids that open (ChatGLM-6B: that close) every prompt."""
        return self._tokenizer.prefix

    @contextmanager
    def limit(self, most: int) -> Iterator[None]:
        """Let all encodings inside together have at most ``most`` tokens. They raise `TooManyTokens` as soon as they
        are known to have more, or later: their exact number is then to be checked with `check`."""
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
        """Ordinary text as ids. Raises `TooManyTokens`."""
        most = self._most
        if most is None or len(text) + self._encoded <= most:
            ids = self._tokenizer.encode(text)
            self._encoded += len(ids)
            return ids
        fewest = self._encoded + self._lengths.fewest_tokens(text)
        if fewest > most:
            raise TooManyTokens(fewest, at_least=True)
        ids = []
        for part in self._tokenizer.parts(text):
            ids += self._tokenizer.encode(part)
            if self._encoded + len(ids) > _COUNTED * most:
                raise TooManyTokens(self._encoded + len(ids), at_least=True)
        self._encoded += len(ids)
        return ids
