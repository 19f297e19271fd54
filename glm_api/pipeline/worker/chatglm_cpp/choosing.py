"""Choose the ids of an answer by its sampling parameters and its grammar, and keep what the model thought of them.

Imported after the model is ready (`Answerer.warm_up`): numpy and llguidance take a tenth of a second.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from glm_api.pipeline.frames import Event, Text, TokenLogprob
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.sampling import Logprobs, NothingAllowed, Sampler
from glm_api.pipeline.worker.constraints import Constraint, GrammarError


class Vocabulary(Protocol):
    """The part of the tokenizer that an answer needs."""

    end_ids: frozenset[int]

    def show(self, ids: list[int]) -> str:
        """Return the text of ``ids``, special tokens shown."""

    def decode(self, ids: list[int]) -> bytes:
        """Return the bytes that ``ids`` add to a text."""


class Chooser:
    """Chooses the ids of one answer by its sampling parameters and its grammar, in the hook of the bridge.

    ``choose`` is the hook. ``over`` is set when no further id may follow, ``complete`` or not.
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
        self._logprobs: deque[TokenLogprob] = deque()
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
            self._logprobs.append(named(self._vocabulary, token, logprobs))

    @property
    def complete(self) -> bool:
        """Whether the answer may end here. One that is over without this is cut."""
        return self._constraint is None or self._constraint.complete

    def must_end(self) -> bool:
        """Return whether the answer is complete, and nothing but its end may follow."""
        return self._constraint is not None and self._constraint.over

    def rest(self) -> list[Event]:
        """Return what is known of the ids that no event names: the end of a raw completion."""
        rest, self._logprobs = list(self._logprobs), deque()
        return [Text("", [], rest)] if rest else []

    def with_logprobs(self, events: list[Event]) -> list[Event]:
        """Add the log-probabilities of their ids to the texts among ``events``, which come in the order of the ids."""
        if not self._logprobs:
            return events
        return [self._with_logprobs(event) for event in events]

    def _with_logprobs(self, event: Event) -> Event:
        ids: list[int] = getattr(event, "ids", [])
        if not ids:
            return event
        found = []
        for token in ids:
            # The ids of the end of an answer, or of a turn, are in no event.
            while (logprob := self._logprobs.popleft()).id != token:
                pass
            found.append(logprob)
        return Text(event.text, ids, found) if isinstance(event, Text) and event.text else event


def named(vocabulary: Vocabulary, token: int, logprobs: Logprobs) -> TokenLogprob:
    """Return ``logprobs`` of ``token`` with the bytes of the tokens."""

    def piece(id: int) -> bytes:
        return vocabulary.decode([id]) or vocabulary.show([id]).encode()

    return TokenLogprob(token, piece(token), logprobs.chosen, [(id, piece(id), value) for id, value in logprobs.top])
