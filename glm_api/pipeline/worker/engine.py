"""The service of the pipeline process: answer the prompts of one `Generate` frame after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Literal

from glm_api.backend.errors import PromptError
from glm_api.log.faults import describe
from glm_api.pipeline.formats.base import AnswerReader, Format
from glm_api.pipeline.frames import (
    Alive,
    Cancel,
    Event,
    Failed,
    Finished,
    FinishReason,
    FrameError,
    Generate,
    Progress,
    Started,
    ToPipeline,
)
from glm_api.pipeline.job import Sampling
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.evaluation import ChatglmPipeline, Evaluator, Plan, PrefillCancelled, PromptImage
from glm_api.pipeline.worker.images import decode_image
from glm_api.pipeline.worker.sampling import generation_config
from glm_api.pipeline.worker.slots import Slot, SlotPool
from glm_api.pipeline.worker.structured_output import ConstraintNotMet, OutputGuard

# How often an answer that must meet a constraint (a tool call, JSON) is generated, in all.
ATTEMPTS = 3
# A greedy answer would be the same again, so further attempts sample at this temperature or above.
RETRY_TEMPERATURE = 0.7
# How often the web process hears of an answer that is held back. Seconds.
ALIVE_SECONDS = 1.0


class BoundedReader:
    """Reads the ids of one answer, ``limit`` at most. ``tokens`` counts them, the one that ends the answer included."""

    def __init__(self, reader: AnswerReader, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self.tokens = 0
        self.reason: FinishReason | None = None

    def feed(self, token: int) -> list[Event]:
        """Return the events that ``token`` completes; ``reason`` is set when it ends the answer."""
        self.tokens += 1
        events = self._reader.feed(token)
        self.reason = self._reader.reason
        if self.reason is None and self.tokens >= self._limit:
            self.reason = "length"
        return events

    def finish(self) -> list[Event]:
        """Return what the reader still holds back, which may end with a stop string or complete a call."""
        events = self._reader.finish()
        self.reason = self._reader.reason or self.reason
        return events


@dataclass(slots=True)
class Task:
    """One prompt on its slot, whose cache holds the first ``cached`` ids of it.

    ``image_tokens`` is what the image takes of the context beyond its ids. Times are those of ``perf_counter``;
    ``prefilled`` is None until the prompt has been evaluated.
    """

    request: Generate
    prompt: list[int]
    image: PromptImage | None
    image_tokens: int
    limit: int
    slot: Slot[ChatglmPipeline]
    cached: int
    plan: Plan
    begun: float
    prefilled: float | None = None

    def prompt_ms(self, now: float) -> float:
        """Return the milliseconds that the evaluation of the prompt has taken, until ``now`` at most."""
        return ((self.prefilled or now) - self.begun) * 1000

    def predicted_ms(self, now: float) -> float:
        """Return the milliseconds that the answer has taken until ``now``."""
        return 0.0 if self.prefilled is None else (now - self.prefilled) * 1000


class Engine:
    """Answers prompts, one at a time."""

    def __init__(
        self, connection: Connection[ToPipeline], format: Format, pool: SlotPool[ChatglmPipeline], evaluator: Evaluator
    ) -> None:
        self._connection = connection
        self._format = format
        self._pool = pool
        self._evaluator = evaluator
        self._greedy = generation_config(Sampling(temperature=0.0))
        self._writer = EventWriter(connection)
        self._cancelled = False

    def serve(self) -> None:
        """Answer requests until the web process goes away. Raises `ParentGone` and `FrameError`."""
        while True:
            frame = self._connection.receive()
            # A Cancel that arrives here is too late: its generation is over.
            if isinstance(frame, Generate):
                self._answer_all(frame)

    def _answer_all(self, request: Generate) -> None:
        self._cancelled = False
        try:
            for prompt, size, limit in zip(request.prompts, request.sizes, request.limits, strict=True):
                self._answer(request, prompt, size, limit)
                if self._cancelled:
                    return
        except (ParentGone, FrameError):
            raise
        except ConstraintNotMet as error:
            self._fail("answer", f"The model was tried {ATTEMPTS} times, but {error}.")
        except PromptError as error:
            self._fail("prompt", error.message)
        except Exception as error:
            # One of chatglm_cpp's checks, or an error that nobody foresaw: it costs one request, not the process.
            print(f"A request failed: {describe(error)}", flush=True)
            self._fail("engine", "The model failed while it worked on this request. Try again.")

    def _fail(self, kind: Literal["answer", "prompt", "engine"], message: str) -> None:
        # Text that the writer still holds belongs to this answer, not to the next one.
        self._writer.flush()
        self._connection.send(Failed(kind, message))

    def _is_cancelled(self, request: Generate) -> bool:
        """Return whether a Cancel for ``request`` has arrived; costs one system call."""
        frame = self._connection.receive_nowait()
        if isinstance(frame, Cancel) and frame.id == request.id:
            self._cancelled = True
        return self._cancelled

    def _answer(self, request: Generate, prompt: list[int], size: int, limit: int) -> None:
        image = self._image_in(prompt, request)
        image_tokens = size - len(prompt)
        slot, cached = self._pool.choose(prompt)
        reuses_cache = self._format.reuses_prefix and image is None
        if not reuses_cache:
            cached = 0
        plan = self._evaluator.plan(size, cached, 0 if image is None else image.end + image_tokens)
        self._connection.send(Started(size, 0 if plan.batch else cached, plan.batch_ms, plan.batch))
        task = Task(request, prompt, image, image_tokens, limit, slot, cached, plan, time.perf_counter())
        tokens = 0
        reason: FinishReason = "length"
        try:
            if limit > 0:
                reason, tokens = self._generate_until_met(task)
        except PrefillCancelled:
            reason = "cancelled"
        except BaseException:
            # The cache may hold anything now.
            slot.cached_ids.clear()
            raise
        finally:
            if not reuses_cache:
                slot.cached_ids.clear()
        now = time.perf_counter()
        self._writer.flush()
        self._connection.send(
            Finished(reason, tokens, task.prompt_ms(now), task.predicted_ms(now), slot.index, len(slot.cached_ids))
        )

    def _image_in(self, prompt: list[int], request: Generate) -> PromptImage | None:
        """Return the image that ``prompt`` shows. Raises `PromptError`."""
        ids = self._format.image_ids
        if request.image is not None:
            return PromptImage(decode_image(request.image), prompt.index(ids[0]) + len(ids))
        # Only token ids that a client sends open an image that is not there. chatglm_cpp would write the image's places
        # all the same, past the end of the prompt's.
        if ids and ids[0] in prompt:
            raise PromptError(f"The prompt opens an image (token {ids[0]}), which only a chat message can show.")
        return None

    def _generate_until_met(self, task: Task) -> tuple[FinishReason, int]:
        """Generate an answer, and again while it misses a constraint.

        Return the finish reason and the number of tokens of all attempts. Raises `ConstraintNotMet` after the last one.
        """
        request = task.request
        sampling = request.sampling
        tokens = 0
        for attempt in range(1, ATTEMPTS + 1):
            reader = BoundedReader(self._format.reader(request.output, request.stop), task.limit)
            try:
                self._generate(task, generation_config(sampling), reader)
            except ConstraintNotMet:
                if attempt == ATTEMPTS:
                    raise
            else:
                return reader.reason or "length", tokens + reader.tokens
            tokens += reader.tokens
            sampling = replace(sampling, temperature=max(sampling.temperature, RETRY_TEMPERATURE))
            task.cached = len(task.prompt) - 1 if self._format.reuses_prefix else 0
            task.plan = self._evaluator.plan(len(task.prompt) + task.image_tokens, task.cached + task.image_tokens)
        raise AssertionError("unreachable")

    def _generate(self, task: Task, config: object, reader: BoundedReader) -> None:
        """Evaluate the prompt and generate until the answer is over.

        Raises `ConstraintNotMet` and `PrefillCancelled`.
        """
        guard = OutputGuard(task.request.output)
        token = self._prefill(task, config)
        task.prefilled = task.prefilled or time.perf_counter()
        length = len(task.prompt)
        last_alive = time.perf_counter()
        while True:
            self._writer.put(guard.filter(reader.feed(token)))
            if reader.reason is not None:
                break
            now = time.perf_counter()
            if now - last_alive >= ALIVE_SECONDS:
                last_alive = now
                self._connection.send(Alive())
            if self._is_cancelled(task.request):
                reader.reason = "cancelled"
                return
            token = self._evaluator.next(task.slot, token, config, length, task.image_tokens)
        self._writer.put(guard.filter(reader.finish()))
        self._writer.put(guard.finish())

    def _prefill(self, task: Task, config: object) -> int:
        """Evaluate the prompt and return the first id of the answer. Raises `PrefillCancelled`."""
        total = len(task.prompt) + task.image_tokens

        def report(processed: int) -> None:
            elapsed = (time.perf_counter() - task.begun) * 1000
            self._connection.send(Progress(processed, total, task.cached, elapsed))

        token = self._evaluator.prefill(
            task.slot,
            task.prompt,
            task.cached,
            task.plan,
            config,
            self._greedy,
            lambda: self._is_cancelled(task.request),
            report,
            task.image,
            task.image_tokens,
        )
        if task.request.progress:
            report(total)
        return token
