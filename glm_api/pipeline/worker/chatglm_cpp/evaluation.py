"""Evaluate tokens on a cache slot: a prompt in one call or token by token, then one token after the other.

Both ways of evaluating a prompt (*prefill*) give the same cache.

- In one call (*batch*). It uses many cores better. But it cannot start from a cached prefix, nothing of it is left when
  it is cancelled, and its attention scores take memory that grows with the square of the prompt's length.
- Token by token (*step*). It continues whatever the slot holds.

The caches are the same but for rounding, which is enough to change an answer that is chosen by chance. So *repeatable*
answers rest on steps only, whatever is cached.

Which is cheaper for any other prompt is decided from the rates measured on this machine. An image, and the text before
it, can only be evaluated in one call; the text after it, either way.

An image takes more places in the cache than it has ids. Sizes and places are counted in tokens and include those of the
image; ``image_tokens`` is the difference between these and the ids.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from glm_api.backend.errors import PromptError
from glm_api.pipeline.frames import PrefillMode
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.bridge import _C
from glm_api.pipeline.worker.chatglm_cpp.slots import Slot
from glm_api.pipeline.worker.chatglm_cpp.threads import ThreadChooser

PROGRESS_SECONDS = 0.5
# Steps may take this many times as long as a batch, because a client that leaves costs no cache then.
STEP_BONUS = 1.15
# On a machine that has not been measured yet, prompts from this many tokens are evaluated in one call.
UNMEASURED_BATCH = 2
# How much the newest measurement counts.
SMOOTHING = 0.3
# Seconds that an evaluation may take beyond what was expected of it, so that no hiccup of the machine ends it.
PATIENCE = 0.1
# Seconds for measuring evaluations before the first request.
MEASURING = 1.0


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


class Cancelled(Exception):
    """The generation was cancelled."""


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
    """Runs the model, with ``threads`` threads at most.

    ``longest_batch`` is the most tokens that memory admits in one call, ``context`` the most that a slot holds. With
    ``whole_prompts`` each prompt is evaluated in one call.
    """

    def __init__(
        self, mode: PrefillMode, longest_batch: int, threads: int, context: int, *, whole_prompts: bool
    ) -> None:
        self._mode = mode
        self._context = context
        self._longest_batch = longest_batch
        self._whole_prompts = whole_prompts
        self.rates = Rates()
        self.step_threads = ThreadChooser(threads)
        self.batch_threads = ThreadChooser(threads)
        self.cancelled = False
        """Set by any thread, together with `bridge.abort`: the evaluation raises `Cancelled`."""
        # How many tokens of a prompt have been evaluated; and, while a call evaluates many of them, how many these are
        # and the count of nodes at its beginning.
        self._processed: int | None = None
        self._batch: tuple[int, int] | None = None
        # Nodes of a call, whatever its tokens: measured by the last one.
        self._nodes_a_call = 0
        self._likeliest = _C.GenerationConfig(do_sample=False)
        self._hooked = _C.GenerationConfig(do_sample=False, repetition_penalty=bridge.CALL_HOOK)
        # For the id that follows a prompt, and for those that follow it.
        self._choice = self._likeliest
        self._raise_failure: Callable[[], None] = lambda: None
        self._nodes = 0

    def repeatable(self, slot: Slot[ChatglmPipeline], cached: int) -> int:
        """Return how many of the ``cached`` first tokens of a prompt a repeatable answer may rest on: all or none."""
        return cached if slot.stepped and self._mode != "batch" else 0

    def plan(self, total: int, cached: int, least: int = 0, *, repeatable: bool = False) -> int:
        """Return how many first tokens of a prompt to evaluate in one call; the rest is for steps.

        ``cached`` of its ``total`` tokens are in the slot. At least ``least`` must be evaluated in one call. Neither
        what is cached nor the rates change how a ``repeatable`` answer is evaluated. Raises `PromptError` when memory
        does not admit ``least``.
        """
        if self._whole_prompts:
            return total
        mode = "step" if repeatable and self._mode == "auto" else self._mode
        fresh = total - cached
        longest = min(total, self._longest_batch)
        if least > cached:
            if least > longest:
                raise PromptError(
                    f"The image and the text before it are {least} tokens, but this server's memory lets it read "
                    f"{self._longest_batch} at once. Shorten the text before the image.",
                    "messages",
                )
            return least if mode == "step" else longest
        if mode == "step" or (cached and fresh == 1) or longest < UNMEASURED_BATCH:
            return 0
        if mode == "batch":
            return longest
        step, batch = self.rates.step_ms, self.rates.batch_ms
        if step is None or batch is None:
            return 0 if cached else longest
        by_steps = fresh * step
        by_batch = longest * batch + (total - longest) * step
        return 0 if by_steps <= STEP_BONUS * by_batch else longest

    def measure(self, slot: Slot[ChatglmPipeline], wanted: Callable[[], bool]) -> None:
        """Find the best number of threads on the empty ``slot``, for `MEASURING` seconds, or while it is ``wanted``.

        So the first request need not, and an evaluation that takes much too long is known from the beginning.
        """
        until = time.perf_counter() + MEASURING
        # A model of which nothing can be evaluated is found out by the first request.
        with contextlib.suppress(Cancelled, RuntimeError):
            while wanted() and not self.step_threads.settled and time.perf_counter() < until:
                slot.cached_ids.clear()
                self._step(slot, 0, self._likeliest, 0, 1)
        slot.cached_ids.clear()
        self.batch_threads.longest = self.step_threads.expected

    @contextlib.contextmanager
    def choosing(self, hook: Callable[[bridge.Logits], None]) -> Iterator[None]:
        """Let ``hook`` choose, in this context, the id that follows a prompt and each id after it.

        It gets the logits and makes the id that it chooses the likeliest.
        """
        before = self._choice, self._raise_failure
        with bridge.logits_hook(hook) as raise_failure:
            self._choice, self._raise_failure = self._hooked, raise_failure
            try:
                yield
            finally:
                self._choice, self._raise_failure = before

    @property
    def processed(self) -> int | None:
        """The number of tokens of a prompt that have been evaluated, None outside a prompt. Any thread may read it."""
        batch = self._batch
        if batch is None or not self._nodes_a_call:
            return self._processed
        tokens, begun = batch
        return min(tokens - 1, tokens * (bridge.nodes() - begun) // self._nodes_a_call)

    def is_computing(self) -> bool:
        """Return whether the model has computed since the last call; always True where that cannot be told."""
        before, self._nodes = self._nodes, bridge.nodes()
        return before != self._nodes or not self._nodes

    def prefill(
        self,
        slot: Slot[ChatglmPipeline],
        prompt: list[int],
        cached: int,
        batch: int,
        on_progress: Callable[[int], None],
        image: PromptImage | None = None,
        image_tokens: int = 0,
        *,
        fed: list[int] | None = None,
        choose_each: bool = False,
    ) -> int:
        """Evaluate ``prompt`` on ``slot``, which holds its first ``cached`` tokens, and return the answer's first id.

        With ``fed``, the ids that the answer has begun with, evaluate these too, and return the id behind them. The
        first ``batch`` tokens are evaluated in one call, which discards what the slot holds. ``on_progress`` is called
        from time to time with the number of evaluated tokens. ``choose_each``: the hook of `choosing` sees the logits
        behind every token. Raises `Cancelled`; the slot keeps what it holds.
        """
        cached_ids = slot.cached_ids
        del cached_ids[cached:]
        slot.stepped = slot.stepped or not cached_ids
        length = len(prompt)
        ids = [*prompt, *(fed or ())]
        total = len(ids)
        token = -1
        try:
            if batch:
                token = self._evaluate_batch(slot, ids, length, batch, image, image_tokens)
                if len(cached_ids) == total:
                    return token
                on_progress(len(cached_ids) + image_tokens)
            last_report = begun = time.perf_counter()
            first = len(cached_ids)
            for position in range(first, total):
                self._processed = position + image_tokens
                choice = self._choice if choose_each or position == total - 1 else self._likeliest
                token = self._step(slot, ids[position], choice, image_tokens, length)
                now = time.perf_counter()
                if now - last_report >= PROGRESS_SECONDS:
                    last_report = now
                    on_progress(len(cached_ids) + image_tokens)
            self.rates.note_step((time.perf_counter() - begun) * 1000 / (total - first))
            return token
        finally:
            self._processed = None

    def next(self, slot: Slot[ChatglmPipeline], token: int, prompt_length: int, image_tokens: int = 0) -> int:
        """Evaluate ``token`` on top of what the slot holds and return the id that follows it. Raises `Cancelled`."""
        return self._step(slot, token, self._choice, image_tokens, prompt_length)

    def _evaluate_batch(
        self,
        slot: Slot[ChatglmPipeline],
        ids: list[int],
        length: int,
        tokens: int,
        image: PromptImage | None,
        image_tokens: int,
    ) -> int:
        """Evaluate the first ``tokens`` of ``ids`` in one call and return the id that follows them.

        The prompt is the first ``length`` of ``ids``.
        """
        slot.cached_ids.clear()
        slot.stepped = False
        head = ids[: tokens - image_tokens]
        pixels = None if image is None else image.image
        choice = self._choice if len(head) == len(ids) else self._likeliest
        try:
            token, seconds = self._evaluate(slot, head, pixels, choice, 0, length, batch=tokens)
        finally:
            self._batch = None
        if image is None:
            # A call with an image takes longer, because the model looks at its patches first.
            self.rates.note_batch(len(head), seconds * 1000)
            self.batch_threads.note(seconds / len(head))
        slot.cached_ids.extend(head)
        return token

    def _step(self, slot: Slot[ChatglmPipeline], token: int, choice: object, image_tokens: int, length: int) -> int:
        cached_ids = slot.cached_ids
        past = len(cached_ids) + image_tokens
        cached_ids.append(token)
        try:
            following, seconds = self._evaluate(slot, cached_ids, None, choice, past, length)
        except BaseException:
            # Its place in the cache may be half written.
            cached_ids.pop()
            raise
        self.step_threads.note(seconds)
        return following

    def _evaluate(
        self,
        slot: Slot[ChatglmPipeline],
        ids: list[int],
        image: object | None,
        choice: object,
        past: int,
        length: int,
        batch: int = 0,
    ) -> tuple[int, float]:
        """Evaluate and return the id that follows, and the seconds that it took with the number of threads in force.

        ``batch`` is the number of tokens, 0 for a step. Raises `Cancelled`.
        """
        if past == 0:
            # The graph has other shapes than those behind it.
            slot.allocated = 0
        elif past >= slot.allocated:
            bridge.allocate(slot.pipeline.model, self._context)
            slot.allocated = self._context
        threads, tokens = (self.batch_threads, batch) if batch else (self.step_threads, 1)
        while True:
            if self.cancelled:
                raise Cancelled
            nodes = bridge.nodes()
            if batch:
                self._batch = (batch, nodes)
            # What an image takes is not known.
            limit = threads.limit if image is None else 0.0
            expected = (threads.expected or threads.longest or 0.0) * tokens
            bridge.set_threads(threads.count, expected, limit and limit * tokens + PATIENCE)
            begun = time.perf_counter()
            try:
                token = slot.pipeline.model.generate_next_token(ids, image, choice, past, length)
            except RuntimeError:
                if self.cancelled:
                    raise Cancelled from None
                if not bridge.gave_up():
                    raise
                threads.note_late()
            else:
                break
        seconds = time.perf_counter() - begun
        if batch:
            self._nodes_a_call = bridge.nodes() - nodes
        if choice is self._hooked:
            self._raise_failure()
        return token, seconds
