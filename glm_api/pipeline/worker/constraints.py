"""Hold an answer to a grammar: llguidance tells after each token which may follow.

What is complete under a grammar is valid, whatever the temperature. https://github.com/guidance-ai/llguidance
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from glm_api.pipeline.worker.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# What compiling a grammar and one step of it may cost. A step of the largest grammar that is admitted takes some 20 ms.
LIMITS = LLParserLimits(
    initial_lexer_fuel=2_000_000, step_lexer_fuel=200_000, step_max_items=50_000, max_grammar_size=200_000
)
# Compiled grammars that are kept. A large one takes some megabytes.
KEPT = 16


class GrammarError(ValueError):
    """The grammar cannot be compiled, or not within `LIMITS`. The message tells why, in llguidance's words."""


class Constraints:
    """Compiles grammars for one vocabulary. ``size`` is the number of logits, ``encode`` gives the ids of a text."""

    def __init__(
        self, vocabulary: Vocabulary, size: int, end_ids: frozenset[int], encode: Callable[[str], list[int]]
    ) -> None:
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Tokens(vocabulary, size, end_ids, encode)), n_vocab=size, eos_token=sorted(end_ids)
        )
        self._size = size
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()

    def compile(self, grammar: str) -> Constraint:
        """Return a constraint at the beginning of ``grammar``, in Lark syntax. Raises `GrammarError`."""
        matcher = self._compiled.get(grammar)
        if matcher is None:
            matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0, limits=LIMITS)
            if matcher.is_error():
                raise GrammarError(_first_line(matcher.get_error()))
            self._compiled[grammar] = matcher
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return Constraint(matcher.deep_copy(), self._size)


class Constraint:
    """Which ids may follow in one answer."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self._matcher = matcher
        self._size = size

    def forbidden(self) -> NDArray[np.bool_]:
        """Return an array, true for each id that may not follow. Raises `GrammarError` if that costs too much."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise GrammarError(_first_line(self._matcher.get_error()))
        forbidden: NDArray[np.bool_] = np.unpackbits(mask, count=self._size, bitorder="little") == 0
        return forbidden

    def consume(self, token: int) -> None:
        """Take note that ``token`` follows. Raises `GrammarError` if it may not."""
        if not self._matcher.consume_token(token):
            raise GrammarError(_first_line(self._matcher.get_error()))

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def over(self) -> bool:
        """Whether the answer must end here."""
        return bool(self._matcher.is_stopped())


class _Tokens:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, vocabulary: Vocabulary, size: int, end_ids: frozenset[int], encode: Callable[[str], list[int]]
    ) -> None:
        names = {number: name for name, number in vocabulary.specials.items()}
        pieces: Sequence[bytes] = [*vocabulary.pieces, *[b""] * (size - len(vocabulary.pieces))]
        # 0xFF, which is in no text, marks a special token.
        self.tokens = [
            piece or b"\xff" + names.get(number, f"<|{number}|>").encode() for number, piece in enumerate(pieces)
        ]
        self.special_token_ids = [number for number, piece in enumerate(pieces) if not piece]
        self.eos_token_id = min(end_ids)
        self._encode = encode
        # SentencePiece puts a space in front of a text. A line break, which is part of no piece, takes it instead.
        self._opening = "\n" if vocabulary.begins_with_space else ""
        self._opening_ids = encode(self._opening)

    def __call__(self, text: str) -> list[int]:
        """Return the ids of ``text`` in the middle of an answer: llguidance asks for those that it forces."""
        return self._encode(self._opening + text)[len(self._opening_ids) :]


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0]
