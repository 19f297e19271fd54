"""Choose the ids of an answer by its sampling parameters and its grammar, and keep what the model thought of them.

Imported after the model is ready (`Answerer.warm_up`): numpy and llguidance take a tenth of a second.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from glm_api.pipeline.job import Sampling
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.sampling import NothingAllowed, Sampler
from glm_api.pipeline.worker.constraints import Constraint, GrammarError
from glm_api.pipeline.worker.logprobs import LogprobQueue, Pieces, named


class Vocabulary(Pieces, Protocol):
    """The part of the tokenizer that an answer needs."""

    end_ids: frozenset[int]


class Chooser:
    """Chooses the ids of one answer by its sampling parameters and its grammar, in the hook of the bridge.

    ``choose`` is the hook. ``over`` is set when no further id may follow, ``complete`` or not. ``logprobs`` holds what
    the model thought of the ids.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: list[int],
        vocabulary: Vocabulary,
        size: int,
        index: int,
        constraint: Constraint | None,
    ) -> None:
        self._sampler = Sampler(sampling, prompt, size, index)
        self._constraint = constraint
        self._vocabulary = vocabulary
        self._no_end = None
        self._min_tokens = float("inf") if sampling.ignore_eos else sampling.min_tokens
        if self._min_tokens:
            self._no_end = np.zeros(size, np.bool_)
            self._no_end[list({*vocabulary.end_ids, *sampling.stop_token_ids})] = True
        self._chosen = 0
        self.logprobs = LogprobQueue()
        self.over = False

    def resume(self, fed: list[int]) -> None:
        """Go on behind ``fed``, the ids that were chosen before. Raises `GrammarError`."""
        for token in fed:
            self._sampler.resume(token)
            if self._constraint is not None:
                self._constraint.consume(token)
        self._chosen = len(fed)

    @staticmethod
    def is_needed(sampling: Sampling, constraint: Constraint | None) -> bool:
        """Return whether chatglm_cpp's own choice of the likeliest id will not do."""
        if constraint is not None or sampling.min_tokens or sampling.ignore_eos:
            return True
        return Sampler.is_needed(sampling)

    def choose(self, logits: bridge.Logits) -> None:
        """Choose an id and make it the likeliest of ``logits``."""
        forbidden = None
        try:
            if self._constraint is not None:
                forbidden = self._constraint.forbidden()
            if self._no_end is not None and self._chosen < self._min_tokens:
                forbidden = self._no_end if forbidden is None else forbidden | self._no_end
            token, logprobs = self._sampler.choose(logits, forbidden)
            if self._constraint is not None:
                self._constraint.consume(token)
        except (NothingAllowed, GrammarError) as error:
            # The message of a GrammarError may quote what a client sent.
            reason = "no token may follow" if isinstance(error, NothingAllowed) else "its grammar is too complex"
            print(f"An answer ended early: {reason}.", flush=True)
            self.over = True
            return
        self._chosen += 1
        if logprobs is not None:
            self.logprobs.put(named(self._vocabulary, token, logprobs.chosen, logprobs.top))

    @property
    def complete(self) -> bool:
        """Whether the answer may end here. One that is over without this is cut."""
        return self._constraint is None or self._constraint.complete

    def must_end(self) -> bool:
        """Return whether the answer is complete, and nothing but its end may follow."""
        return self._constraint is not None and self._constraint.over
