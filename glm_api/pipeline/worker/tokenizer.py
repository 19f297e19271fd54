"""What the tokenizers of both engines share: the vocabulary, grammars over it, and bounded encoding.

A prompt of millions of characters takes seconds to encode and fits into no context.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from glm_api.pipeline.worker.lengths import lengths
from glm_api.pipeline.worker.vocabulary import Vocabulary

if TYPE_CHECKING:
    from glm_api.pipeline.worker.constraints import Constraints

# A text that is a little too long is encoded to its end, so that an error can tell its number of tokens. Encoding stops
# at this many times the tokens that were asked for.
_COUNTED = 2


class TooManyTokens(Exception):
    """The text or prompt has ``tokens`` tokens, or ``at_least`` that many."""

    def __init__(self, tokens: int, at_least: bool) -> None:
        super().__init__(f"{tokens} tokens")
        self.tokens = tokens
        self.at_least = at_least


class LimitedTokenizer(ABC):
    """The `Tokenizer` of a model with ``vocabulary`` and ``size`` logits.

    It can limit several encodings together, such as those of one prompt. An engine's tokenizer is a subclass.
    """

    def __init__(self, vocabulary: Vocabulary, size: int, end_ids: frozenset[int]) -> None:
        self.end_ids = end_ids
        self.size = size
        self._vocabulary = vocabulary
        self._pieces = dict(enumerate(vocabulary.pieces))
        # A user-defined token of a GGUF file has a name and is text all the same.
        self._special_ids = frozenset(id for id in vocabulary.specials.values() if not vocabulary.pieces[id])
        self._lengths = lengths(vocabulary)
        self._most: int | None = None
        self._encoded = 0

    # --- what an engine knows ---

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Return ordinary text as ids."""

    def _parts(self, text: str) -> Iterator[str]:
        """Cut ``text`` into parts, so that a caller can encode them one by one and stop.

        The ids of the parts, one after the other, are those of the text.
        """
        yield text

    @property
    @abstractmethod
    def prefix(self) -> list[int]:
        """The special ids that open (ChatGLM-6B: that close) every prompt."""

    @abstractmethod
    def template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of (role, content) pairs by the engine's own chat template, uncut."""

    # --- encoding ---

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

    def expect(self, fewest: int) -> None:
        """Raise `TooManyTokens` if a prompt of ``fewest`` ids, or more, is longer than the limit."""
        if self._most is not None and fewest > self._most:
            raise TooManyTokens(fewest, at_least=True)

    def expect_text(self, text: str) -> None:
        """`expect` the ids of ``text``, which may spell out special tokens: the fewest that it can have."""
        if self._most is None or self._lengths.fewest_tokens(text) <= self._most:
            return
        # The name of a special token may be longer than any piece.
        for name in self.special_names:
            text = text.replace(name, "")
        self.expect(self._lengths.fewest_tokens(text))

    @property
    def special_names(self) -> list[str]:
        """The names of the special tokens."""
        return list(self._vocabulary.specials)

    def check(self, ids: Sequence[int], most: int) -> None:
        """Raise `TooManyTokens` for more than ``most`` ids."""
        if len(ids) > most:
            raise TooManyTokens(len(ids), at_least=False)

    def encode(self, text: str) -> list[int]:
        """Return ordinary text as ids, none of them special. Raises `TooManyTokens`."""
        if self._most is None:
            return self.encode_all(text)
        # The bound is never more than the number of characters.
        if self._encoded + len(text) > self._most:
            fewest = self._encoded + self._lengths.fewest_tokens(text)
            if fewest > self._most:
                raise TooManyTokens(fewest, at_least=True)
        ids: list[int] = []
        for part in self._parts(text):
            ids += self.encode_all(part)
            if self._encoded + len(ids) > _COUNTED * self._most:
                raise TooManyTokens(self._encoded + len(ids), at_least=True)
        self._encoded += len(ids)
        return ids

    def encode_all(self, text: str) -> list[int]:
        """Return ordinary text as ids, none of them special, however many they are.

        A model file may let the tokenizer find special tokens in a text, though the published ones do not. Their ids
        are dropped.
        """
        ids = self._encode(text)
        if not self._special_ids.isdisjoint(ids):
            ids = [id for id in ids if id not in self._special_ids]
        return ids

    # --- the vocabulary ---

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the UTF-8 bytes that ``ids`` add to a text, without special and unknown ids."""
        pieces = self._pieces
        return b"".join([pieces.get(id, b"") for id in ids])

    @cached_property
    def ids_by_bytes(self) -> dict[bytes, int]:
        """The ids by the bytes that they stand for, without those that stand for none.

        Of several ids for the same bytes it has the last one, which is that of the piece rather than of the byte.
        """
        return {piece: id for id, piece in self._pieces.items() if piece}

    @cached_property
    def _shown_pieces(self) -> dict[int, bytes]:
        return {**self._pieces, **{id: name.encode() for name, id in self._vocabulary.specials.items()}}

    def shown_pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Return what each of ``ids`` adds to `show`; a character may be parted among several."""
        pieces = [self._shown_pieces.get(id, b"") for id in ids]
        if ids and ids[0] not in self._special_ids and self._vocabulary.begins_with_space:
            pieces[0] = pieces[0].removeprefix(b" ")
        return pieces

    def show(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` for people: special tokens by name, and no space in front."""
        return b"".join(self.shown_pieces(ids)).decode(errors="replace")

    @property
    def ending(self) -> str:
        """The text of a token that ends an answer; empty if the model has none."""
        return self.show(sorted(self.end_ids)[:1])

    def role(self, name: str) -> int:
        """Return the id of ``<|name|>``. Raises KeyError where the family has none."""
        return self._vocabulary.specials[f"<|{name}|>"]

    def knows(self, token: int) -> bool:
        """Return whether the tokenizer has this id."""
        return token in self._pieces

    # --- grammars ---

    @cached_property
    def constraints(self) -> Constraints:
        """The grammars of this vocabulary. Made at the first use: that takes half a second and 50 MB for GLM-4."""
        # Imported here: numpy takes a tenth of a second, and a restart must be quick.
        from glm_api.pipeline.worker.constraints import Constraints

        # llguidance keeps what it is given for ever if that leads back to it, and with this tokenizer the whole model.
        tokenizer = weakref.proxy(self)
        return Constraints(self._vocabulary, self.size, self.end_ids, lambda text: tokenizer.encode_all(text))

    def refusal(self, grammar: str) -> str | None:
        """Return why no answer can be held to this Lark grammar, in the words of llguidance; None if one can."""
        return self.constraints.refusal(grammar)
