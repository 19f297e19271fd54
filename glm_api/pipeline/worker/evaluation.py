"""Evaluate tokens on a cache slot: a prompt in one call or token by token, then one token after the other.

The two ways of reading a prompt give the same cache. One call (*batch*) uses many cores better, but nothing can
interrupt it, it cannot start from a cached prefix, and its attention scores take memory that grows with the square of
its length. Token by token (*step*) can be interrupted after each token and continues whatever the slot holds. Which
is cheaper for a prompt is decided from the rates measured on this machine. An image, and what stands before it, can
only be read in one call; what follows it, either way.

An image takes more places in the cache than it has ids. Sizes and places are counted in tokens with the image's;
``extra`` is how many those are more than ids.
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
# Being interruptible, and keeping what other slots hold when a client leaves, is worth this much time.
STEP_BONUS = 1.15
# A machine that has not been measured yet reads this many tokens by batch rather than token by token.
UNMEASURED_BATCH = 2
# How much the newest measurement counts.
SMOOTHING = 0.3


class Model(Protocol):
    """The part of ``chatglm_cpp.Pipeline.model`` that evaluates."""

    def generate_next_token(
        self, input_ids: list[int], image: object | None, gen_config: object, n_past: int, n_ctx: int
    ) -> int:
        """Evaluate ``input_ids`` and the image, or their last id when ``n_past > 0``: that many places of the cache are
        taken then. Choose the id that follows. ``n_ctx`` is the length of the prompt in ids."""


class Pipeline(Protocol):
    """The part of ``chatglm_cpp.Pipeline`` that a slot needs."""

    @property
    def model(self) -> Model:
        """The evaluating half of the pipeline."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An image in a prompt. ``end``: how many ids there are up to its end, its own included."""

    image: object
    end: int


class Interrupted(Exception):
    """The client has left while the prompt was being read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Read the first ``batch`` tokens in one call (0: none), the rest one by one. ``batch_ms`` is the estimate."""

    batch: int
    batch_ms: float


@dataclass(slots=True)
class Rates:
    """Milliseconds a token, measured; None before the first measurement."""

    step_ms: float | None = None
    batch_ms: float | None = None

    def note_step(self, milliseconds: float) -> None:
        self.step_ms = _smooth(self.step_ms, milliseconds)

    def note_batch(self, tokens: int, milliseconds: float) -> None:
        self.batch_ms = _smooth(self.batch_ms, milliseconds / tokens)


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)


class Evaluator:
    """Runs the model. ``longest_batch`` is the most tokens that memory admits in one call."""

    def __init__(self, mode: PrefillMode, longest_batch: int, *, whole_prompts: bool) -> None:
        self._mode = mode
        self._longest_batch = longest_batch
        self._whole_prompts = whole_prompts
        self.rates = Rates()

    def plan(self, total: int, cached: int, least: int = 0) -> Plan:
        """How to read a prompt of ``total`` tokens of which ``cached`` are in the slot, if not at least the first
        ``least`` must be read in one call. Raises `PromptError` when memory does not admit those."""
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
        slot: Slot[Pipeline],
        prompt: list[int],
        cached: int,
        plan: Plan,
        config: object,
        greedy: object,
        interrupted: Callable[[], bool],
        on_progress: Callable[[int], None],
        shown: Shown | None = None,
        extra: int = 0,
    ) -> int:
        """Read ``prompt`` into ``slot``, which holds its first ``cached`` tokens; the first id of the answer.

        ``greedy`` is the configuration for the steps whose choice is not used. ``interrupted`` is asked after each
        token; when it says yes, `Interrupted` is raised and what was read so far stays usable. ``on_progress`` hears
        from time to time how many tokens are read. ``shown`` is the image in the prompt, ``extra`` what it takes.
        """
        generate = slot.pipeline.model.generate_next_token
        held = slot.held
        del held[cached:]
        total = len(prompt)
        token = -1
        if plan.batch:
            held.clear()
            head = prompt[: plan.batch - extra]
            begun = time.perf_counter()
            image = None if shown is None else shown.image
            token = generate(head, image, config if len(head) == total else greedy, 0, total)
            if shown is None:
                # With an image it takes longer, for the patches are looked at first.
                self.rates.note_batch(len(head), (time.perf_counter() - begun) * 1000)
            held.extend(head)
            if len(head) == total:
                return token
            on_progress(len(held) + extra)
        last_report = begun = time.perf_counter()
        first = len(held)
        for position in range(first, total):
            if interrupted():
                raise Interrupted
            held.append(prompt[position])
            token = self._step(slot, config if position == total - 1 else greedy, position + extra, total)
            now = time.perf_counter()
            if now - last_report >= PROGRESS_SECONDS:
                last_report = now
                on_progress(len(held) + extra)
        self.rates.note_step((time.perf_counter() - begun) * 1000 / (total - first))
        return token

    def next(self, slot: Slot[Pipeline], token: int, config: object, prompt_length: int, extra: int = 0) -> int:
        """Evaluate ``token`` after what the slot holds; the id that follows it."""
        slot.held.append(token)
        return self._step(slot, config, len(slot.held) - 1 + extra, prompt_length)

    def _step(self, slot: Slot[Pipeline], config: object, past: int, prompt_length: int) -> int:
        return slot.pipeline.model.generate_next_token(slot.held, None, config, past, prompt_length)
