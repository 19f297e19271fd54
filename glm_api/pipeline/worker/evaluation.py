"""Evaluate tokens on a cache slot: a prompt in one call or token by token, then one token after the other.

Both ways of evaluating a prompt (*prefill*) give the same cache.

- In one call (*batch*). It uses many cores better. But nothing can interrupt the call, it cannot start from a cached
  prefix, and its attention scores take memory that grows with the square of the prompt's length.
- Token by token (*step*). It can be interrupted after each token, and continues whatever the slot holds.

Which is cheaper for a prompt is decided from the rates measured on this machine. An image, and the text before it, can
only be evaluated in one call; the text after it, either way.

An image takes more places in the cache than it has ids. Sizes and places are counted in tokens and include those of the
image; ``image_tokens`` is the difference between these and the ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import PrefillMode
from glm_api.pipeline.worker.slots import Slot

PROGRESS_SECONDS = 0.5
# Steps may take this many times as long as a batch: they can be interrupted, so a client that leaves costs no other
# slot its cache.
STEP_BONUS = 1.15
# On a machine that has not been measured yet, prompts from this many tokens are evaluated in one call.
UNMEASURED_BATCH = 2
# How much the newest measurement counts.
SMOOTHING = 0.3


class ChatglmModel(Protocol):
    """The part of ``chatglm_cpp.Pipeline.model`` that evaluates."""

    def generate_next_token(
        self, input_ids: list[int], image: object | None, gen_config: object, n_past: int, n_ctx: int
    ) -> int:
        """Evaluate tokens and return the id that follows them.

        With ``n_past`` 0 these are ``input_ids`` and the image. Else it is the last id, and ``n_past`` places of the
        cache are taken. ``n_ctx`` is the length of the prompt in ids.
        """


class ChatglmPipeline(Protocol):
    """The part of ``chatglm_cpp.Pipeline`` that a slot needs."""

    @property
    def model(self) -> ChatglmModel:
        """The evaluating half of the pipeline."""


@dataclass(frozen=True, slots=True)
class PromptImage:
    """An image in a prompt. ``end`` is the number of ids up to its end, its own included."""

    image: object
    end: int


class PrefillCancelled(Exception):
    """The generation was cancelled while its prompt was evaluated."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Evaluate the first ``batch`` tokens in one call, for about ``batch_ms`` milliseconds, and the rest one by one."""

    batch: int
    batch_ms: float


@dataclass(slots=True)
class Rates:
    """Measured milliseconds a token; None before the first measurement."""

    step_ms: float | None = None
    batch_ms: float | None = None

    def note_step(self, milliseconds: float) -> None:
        """Take a measurement of one token that was evaluated alone."""
        self.step_ms = _smooth(self.step_ms, milliseconds)

    def note_batch(self, tokens: int, milliseconds: float) -> None:
        """Take a measurement of ``tokens`` that were evaluated in one call."""
        self.batch_ms = _smooth(self.batch_ms, milliseconds / tokens)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)


class Evaluator:
    """Runs the model. ``longest_batch`` is the most tokens that memory admits in one call.

    With ``whole_prompts`` each prompt is evaluated in one call.
    """

    def __init__(self, mode: PrefillMode, longest_batch: int, *, whole_prompts: bool) -> None:
        self._mode = mode
        self._longest_batch = longest_batch
        self._whole_prompts = whole_prompts
        self.rates = Rates()

    def plan(self, total: int, cached: int, least: int = 0) -> Plan:
        """Return how to evaluate a prompt of ``total`` tokens of which ``cached`` are in the slot.

        The first ``least`` tokens must be evaluated in one call. Raises `PromptError` when memory does not admit that.
        """
        if self._whole_prompts:
            return self._batch(total)
        fresh = total - cached
        longest = min(total, self._longest_batch)
        if least > cached:
            if least > longest:
                raise PromptError(
                    f"The image and the text before it are {least} tokens, but this server's memory lets it read "
                    f"{self._longest_batch} at once. Shorten the text before the image.",
                    "messages",
                )
            return self._batch(least if self._mode == "step" else longest)
        if self._mode == "step" or (cached and fresh == 1) or longest < UNMEASURED_BATCH:
            return Plan(0, 0.0)
        if self._mode == "batch":
            return self._batch(longest)
        step, batch = self.rates.step_ms, self.rates.batch_ms
        if step is None or batch is None:
            return Plan(0, 0.0) if cached else self._batch(longest)
        by_steps = fresh * step
        by_batch = longest * batch + (total - longest) * step
        return Plan(0, 0.0) if by_steps <= STEP_BONUS * by_batch else self._batch(longest)

    def _batch(self, tokens: int) -> Plan:
        return Plan(tokens, tokens * (self.rates.batch_ms or 0.0))

    def prefill(
        self,
        slot: Slot[ChatglmPipeline],
        prompt: list[int],
        cached: int,
        plan: Plan,
        config: object,
        greedy: object,
        is_cancelled: Callable[[], bool],
        on_progress: Callable[[int], None],
        image: PromptImage | None = None,
        image_tokens: int = 0,
    ) -> int:
        """Evaluate ``prompt`` on ``slot``, which holds its first ``cached`` tokens, and return the answer's first id.

        ``greedy`` is the configuration for the steps whose id is not used. ``on_progress`` is called from time to time
        with the number of evaluated tokens. ``is_cancelled`` is called before each token; when it returns True,
        `PrefillCancelled` is raised, and the slot keeps what it holds.
        """
        generate = slot.pipeline.model.generate_next_token
        cached_ids = slot.cached_ids
        del cached_ids[cached:]
        total = len(prompt)
        token = -1
        if plan.batch:
            cached_ids.clear()
            head = prompt[: plan.batch - image_tokens]
            begun = time.perf_counter()
            pixels = None if image is None else image.image
            token = generate(head, pixels, config if len(head) == total else greedy, 0, total)
            if image is None:
                # A call with an image takes longer, because the model looks at its patches first.
                self.rates.note_batch(len(head), (time.perf_counter() - begun) * 1000)
            cached_ids.extend(head)
            if len(head) == total:
                return token
            on_progress(len(cached_ids) + image_tokens)
        last_report = begun = time.perf_counter()
        first = len(cached_ids)
        for position in range(first, total):
            if is_cancelled():
                raise PrefillCancelled
            cached_ids.append(prompt[position])
            token = self._step(slot, config if position == total - 1 else greedy, position + image_tokens, total)
            now = time.perf_counter()
            if now - last_report >= PROGRESS_SECONDS:
                last_report = now
                on_progress(len(cached_ids) + image_tokens)
        self.rates.note_step((time.perf_counter() - begun) * 1000 / (total - first))
        return token

    def next(
        self, slot: Slot[ChatglmPipeline], token: int, config: object, prompt_length: int, image_tokens: int = 0
    ) -> int:
        """Evaluate ``token`` on top of what the slot holds and return the id that follows it."""
        slot.cached_ids.append(token)
        return self._step(slot, config, len(slot.cached_ids) - 1 + image_tokens, prompt_length)

    def _step(self, slot: Slot[ChatglmPipeline], config: object, past: int, prompt_length: int) -> int:
        return slot.pipeline.model.generate_next_token(slot.cached_ids, None, config, past, prompt_length)
