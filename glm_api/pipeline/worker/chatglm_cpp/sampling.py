"""Choose the next id from the logits: penalties, biases, masks, temperature, min-p, top-k and top-p, with a seed.

chatglm_cpp's own sampler has no seed and knows half of these. The choice is made here instead, in the bridge's hook;
chatglm_cpp then takes the likeliest of the logits that the hook leaves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glm_api.pipeline.job import Sampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glm_api.pipeline.worker.chatglm_cpp.bridge import Logits


class NothingAllowed(Exception):
    """The masks leave no id that may follow."""


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The log-probabilities of one choice, of the logits as the model gave them: natural logarithms, at most 0.

    ``top`` are the likeliest ids and theirs, the likeliest first.
    """

    chosen: float
    top: list[tuple[int, float]]


class Sampler:
    """Chooses the ids of one answer. ``size`` is the number of logits; ``index`` tells answers of one request apart.

    The order is vLLM's: masks, penalties and biases, then temperature, min-p, top-k, top-p. The repetition penalty
    counts the prompt's ids and the answer's, presence and frequency penalty the answer's only.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], size: int, index: int = 0) -> None:
        self._sampling = sampling
        self._size = size
        # A string, because Python seeds 3 and -3 alike. Without a seed the system's randomness is taken.
        self._random = random.Random(None if sampling.seed is None else f"{sampling.seed}/{index}")
        self._forbidden = self._all_but(sampling.allowed_token_ids)
        self._repeated = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._shift = self._biases(sampling)
        self._came: set[int] = set()

    @staticmethod
    def is_needed(sampling: Sampling) -> bool:
        """Return whether ``sampling`` asks for more than the likeliest id, which chatglm_cpp chooses by itself."""
        unbiased = sampling.repetition_penalty == 1 and not (
            sampling.logit_bias or sampling.presence_penalty or sampling.frequency_penalty
        )
        return not (
            sampling.greedy
            and unbiased
            and sampling.allowed_token_ids is None
            and sampling.top_logprobs is None
            and not sampling.prompt_logprobs
        )

    def resume(self, token: int) -> None:
        """Take note that ``token`` was chosen before."""
        if not self._sampling.greedy:
            self._random.random()
        self._note(token)

    def choose(self, logits: Logits, forbidden: NDArray[np.bool_] | None = None) -> tuple[int, Logprobs | None]:
        """Choose an id and make it the likeliest of ``logits``, which are changed. Raises `NothingAllowed`.

        ``forbidden`` is true for the ids that may not follow this once.
        """
        sampling = self._sampling
        raw = logits.copy() if sampling.top_logprobs is not None else None
        if sampling.repetition_penalty != 1:
            repeated = np.fromiter(self._repeated, np.intp, len(self._repeated))
            values, penalty = logits[repeated], np.float32(sampling.repetition_penalty)
            logits[repeated] = np.where(values > 0, values / penalty, values * penalty)
        if self._shift is not None:
            logits += self._shift
        for mask in (self._forbidden, forbidden):
            if mask is not None:
                logits[mask] = -np.inf
        best = int(logits.argmax())
        if logits[best] == -np.inf:
            raise NothingAllowed
        token = best if sampling.greedy else self._sample(logits, best)
        logits[token] = np.inf
        self._note(token)
        return token, None if raw is None else logprobs(raw, token, sampling.top_logprobs or 0)

    def _sample(self, logits: Logits, best: int) -> int:
        """Choose by chance, as temperature, min-p, top-k and top-p allow."""
        sampling = self._sampling
        ids: NDArray[np.intp] | None = None
        values = logits
        if 0 < sampling.top_k < self._size:
            ids = np.argpartition(values, -sampling.top_k)[-sampling.top_k :]
            values = values[ids]
        weights = np.exp((values - logits[best]) / np.float32(sampling.temperature))
        # The weight of the likeliest is 1. What weighs less than this is left out of the nucleus in any case.
        least = max(sampling.min_p, (1 - sampling.top_p) / len(weights) if sampling.top_p < 1 else 0.0)
        if least > 0:
            kept = np.flatnonzero(weights >= least)
            ids, weights = kept if ids is None else ids[kept], weights[kept]
        if sampling.top_p < 1:
            order = np.argsort(-weights, kind="stable")
            ids, weights = order if ids is None else ids[order], weights[order]
            sums = np.cumsum(weights, dtype=np.float64)
            sums = sums[: int(np.searchsorted(sums, sampling.top_p * sums[-1])) + 1]
        else:
            sums = np.cumsum(weights, dtype=np.float64)
        place = min(int(np.searchsorted(sums, self._random.random() * sums[-1], side="right")), len(sums) - 1)
        return place if ids is None else int(ids[place])

    def _note(self, token: int) -> None:
        sampling = self._sampling
        self._repeated.add(token)
        if sampling.presence_penalty or sampling.frequency_penalty:
            assert self._shift is not None
            self._shift[token] -= sampling.frequency_penalty
            if token not in self._came:
                self._came.add(token)
                self._shift[token] -= sampling.presence_penalty

    def _biases(self, sampling: Sampling) -> NDArray[np.float32] | None:
        if not (sampling.logit_bias or sampling.presence_penalty or sampling.frequency_penalty):
            return None
        shift = np.zeros(self._size, np.float32)
        for token, bias in sampling.logit_bias.items():
            shift[token] = bias
        return shift

    def _all_but(self, allowed: Sequence[int] | None) -> NDArray[np.bool_] | None:
        if allowed is None:
            return None
        mask = np.ones(self._size, np.bool_)
        mask[np.asarray(allowed, np.intp)] = False
        return mask


def logprobs(logits: Logits, token: int, top: int) -> Logprobs:
    """Return the log-probability of ``token``, and of the ``top`` likeliest ids."""
    highest = logits.max()
    total = highest + np.log(np.exp(logits - highest).sum(dtype=np.float64))
    found: list[tuple[int, float]] = []
    if top:
        likeliest = np.argpartition(logits, -top)[-top:]
        likeliest = likeliest[np.lexsort((likeliest, -logits[likeliest]))]
        found = [(int(number), float(logits[number] - total)) for number in likeliest]
    return Logprobs(float(logits[token] - total), found)
