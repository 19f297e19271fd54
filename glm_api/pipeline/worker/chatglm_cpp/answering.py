"""Answer the prompts of a request: evaluate, choose ids, and turn these into events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from glm_api.backend.errors import PromptError
from glm_api.log.faults import describe
from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.frames import (
    Alive,
    Event,
    Failed,
    Finished,
    FinishReason,
    FrameError,
    Generate,
    Progress,
    PromptLogprobs,
    Started,
    TokenLogprob,
)
from glm_api.pipeline.worker.bounded_reader import BoundedReader
from glm_api.pipeline.worker.chatglm_cpp import bridge
from glm_api.pipeline.worker.chatglm_cpp.evaluation import Cancelled, ChatglmPipeline, Evaluator, PromptImage
from glm_api.pipeline.worker.chatglm_cpp.images import decode_image
from glm_api.pipeline.worker.chatglm_cpp.slots import Slot, SlotPool
from glm_api.pipeline.worker.coalescing import EventWriter, Sender
from glm_api.pipeline.worker.connection import ParentGone

if TYPE_CHECKING:
    from glm_api.pipeline.worker.chatglm_cpp.choosing import Chooser, Vocabulary
    from glm_api.pipeline.worker.constraints import Constraint


@dataclass(slots=True)
class Task:
    """One prompt on its slot, whose cache holds the first ``cached`` ids of it. ``batch`` are evaluated in one call.

    ``fed`` are ids that the answer has begun with, in a process that has died.

    ``image_tokens`` is what the image takes of the context beyond its ids. Times are those of ``perf_counter``;
    ``prefilled`` is None until the prompt has been evaluated.
    """

    request: Generate
    prompt: list[int]
    fed: list[int]
    image: PromptImage | None
    image_tokens: int
    limit: int
    slot: Slot[ChatglmPipeline]
    cached: int
    batch: int
    begun: float
    prefilled: float | None = None

    def prompt_ms(self, now: float) -> float:
        """Return the milliseconds that the evaluation of the prompt has taken, until ``now`` at most."""
        return ((self.prefilled or now) - self.begun) * 1000

    def predicted_ms(self, now: float) -> float:
        """Return the milliseconds that the answer has taken until ``now``."""
        return 0.0 if self.prefilled is None else (now - self.prefilled) * 1000


class Answerer:
    """Answers prompts, one at a time. `answer` is for the main thread, the other methods are for the listening one.

    ``size`` is the number of logits. ``compile_grammar`` returns a constraint at the beginning of a grammar.
    """

    def __init__(
        self,
        connection: Sender,
        format: Format,
        pool: SlotPool[ChatglmPipeline],
        evaluator: Evaluator,
        vocabulary: Vocabulary,
        size: int,
        compile_grammar: Callable[[str], Constraint],
    ) -> None:
        self._connection = connection
        self._format = format
        self._pool = pool
        self._evaluator = evaluator
        self._vocabulary = vocabulary
        self._size = size
        self._compile_grammar = compile_grammar
        # It is replaced with each request.
        self._writer = EventWriter(connection, 0)
        self.busy = False
        """Whether there is a request to answer."""
        # What is being answered. Nothing is told of it once this is None: the lock is held while it is told and ended.
        self._task: Task | None = None
        self._telling = threading.Lock()

    # --- for the listening thread ---

    def prepare(self) -> None:
        """A request follows: `cancel` concerns that one from now on."""
        self.busy = True
        self._evaluator.cancelled = False
        bridge.abort(False)

    def cancel(self) -> None:
        """End the request that is being answered, within a node of the model's graph."""
        self._evaluator.cancelled = True
        bridge.abort()

    def tell_alive(self) -> None:
        """Tell the web process how far the model is, if it has computed since the last call. Raises `ParentGone`."""
        with self._telling:
            task = self._task
            if task is None or not self._evaluator.is_computing():
                return
            processed = self._evaluator.processed
            if task.prefilled is None and processed is not None:
                self._report(task, processed)
            else:
                self._writer.send(Alive())

    # --- for the main thread ---

    def warm_up(self) -> None:
        """Import what chooses ids, which takes a tenth of a second, and measure evaluations.

        The web process has been told before that the model is ready.
        """
        import glm_api.pipeline.worker.chatglm_cpp.choosing  # noqa: F401

        slot, _ = self._pool.choose([0])
        self._evaluator.measure(slot, lambda: not self.busy)

    def answer(self, request: Generate) -> None:
        """Answer all prompts of ``request``. Raises `ParentGone` and `FrameError`."""
        self._writer = EventWriter(self._connection, request.id)
        try:
            prompts = zip(request.prompts, request.sizes, request.limits, strict=True)
            for index, (prompt, size, limit) in enumerate(prompts):
                if index < request.answered:
                    continue
                fed = request.fed if index == request.answered else []
                if self._answer(request, index, prompt, fed, size, limit) == "cancelled":
                    return
        except (ParentGone, FrameError):
            raise
        except PromptError as error:
            self._fail("prompt", error.message, error.param)
        except Exception as error:
            # One of chatglm_cpp's checks, or an error that nobody foresaw: it costs one request, not the process.
            print(f"A request failed: {describe(error)}", flush=True)
            self._fail("engine", "The model failed while it worked on this request. Try again.")

    def _fail(self, kind: Literal["prompt", "engine"], message: str, param: str | None = None) -> None:
        # Text that the writer still holds belongs to this answer, not to the next one.
        self._writer.flush()
        self._end(over=True)
        self._writer.send(Failed(kind, message, param))

    def _end(self, over: bool) -> None:
        """Tell nothing more of the answer, before its last frame is sent: the next request may follow that at once."""
        with self._telling:
            self._task = None
            self.busy = not over

    def _answer(
        self, request: Generate, index: int, prompt: list[int], fed: list[int], size: int, limit: int
    ) -> FinishReason:
        image = self._image_in(prompt, request)
        image_tokens = size - len(prompt)
        self._writer.begin()
        slot, cached = self._pool.choose([*prompt, *fed])
        reuses_cache = self._format.reuses_prefix and image is None
        if not reuses_cache or request.sampling.prompt_logprobs:
            cached = 0
        repeatable = request.sampling.seed is not None and not request.sampling.greedy
        if repeatable:
            cached = self._evaluator.repeatable(slot, cached)
        if request.sampling.prompt_logprobs:
            batch = self._no_batch()
        else:
            least = 0 if image is None else image.end + image_tokens
            total = size + len(fed) if self._format.reuses_prefix else size
            batch = self._evaluator.plan(total, cached, least, repeatable=repeatable)
        self._writer.send(Started(size, 0 if batch else cached, slot.index))
        task = Task(request, prompt, fed, image, image_tokens, limit, slot, cached, batch, time.perf_counter())
        self._task = task
        tokens, stop_string = 0, ""
        reason: FinishReason = "length"
        try:
            if limit > 0 or request.sampling.prompt_logprobs:
                reason, tokens, stop_string = self._generate(task, index)
        except Cancelled:
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
        self._end(over=index == len(request.prompts) - 1 or reason == "cancelled")
        self._writer.send(
            Finished(
                reason,
                tokens,
                task.prompt_ms(now),
                task.predicted_ms(now),
                slot.index,
                len(slot.cached_ids),
                self._evaluator.step_threads.home,
                self._evaluator.batch_threads.home,
                stop_string=stop_string,
            )
        )
        return reason

    def _no_batch(self) -> int:
        """Return 0: one call gives the logits behind its last token only. Raises `PromptError`."""
        if not self._format.reuses_prefix:
            raise PromptError("This model gives no log-probabilities for the tokens of a prompt.", "logprobs")
        return 0

    def _image_in(self, prompt: list[int], request: Generate) -> PromptImage | None:
        """Return the image that ``prompt`` shows. Raises `PromptError`."""
        ids = self._format.image_ids
        if request.image is not None:
            return PromptImage(decode_image(request.image), prompt.index(ids[0]) + len(ids))
        # Only token ids that a client sends open an image that is not there. chatglm_cpp would write the image's places
        # all the same, past the end of the prompt's.
        if ids and ids[0] in prompt:
            message = f"The prompt opens an image (token {ids[0]}), which only a chat message can show."
            raise PromptError(message, "prompt")
        return None

    def _generate(self, task: Task, index: int) -> tuple[FinishReason, int, str]:
        """Evaluate the prompt and generate until the answer is over. Raises `Cancelled`.

        Return why it is over, the number of its tokens, and the stop string that ended it.
        """
        request, sampling = task.request, task.request.sampling
        reader = BoundedReader(
            self._format.reader(request.output, request.stop),
            task.limit,
            sampling.stop_token_ids,
            min(self._vocabulary.end_ids),
        )
        constraint = None if request.output.grammar is None else self._compile_grammar(request.output.grammar)
        # See `warm_up`.
        from glm_api.pipeline.worker.chatglm_cpp.choosing import Chooser

        if Chooser.is_needed(sampling, constraint):
            chooser = Chooser(sampling, task.prompt, self._vocabulary, self._size, index, constraint)
            chooser.resume(task.fed)
            with self._evaluator.choosing(chooser.choose):
                self._generate_with(task, reader, chooser)
        else:
            self._generate_with(task, reader, None)
        return reader.reason or "length", reader.tokens, reader.stop_string

    def _generate_with(self, task: Task, reader: BoundedReader, chooser: Chooser | None) -> None:
        def put(events: list[Event]) -> None:
            self._writer.put(events if chooser is None else chooser.logprobs.add_to(events))

        for fed in task.fed:
            # What it completes is told already.
            reader.feed(fed)
        token = self._prefill(task)
        task.prefilled = time.perf_counter()
        length = len(task.prompt)
        while task.limit:
            if chooser is not None and chooser.over:
                if chooser.complete:
                    put(reader.end())
                break
            events = reader.feed(token)
            self._writer.feed(token)
            if reader.reason is None and chooser is not None and chooser.must_end():
                events += reader.end()
            put(events)
            if reader.reason is not None:
                break
            token = self._evaluator.next(task.slot, token, length, task.image_tokens)
        put(reader.finish())
        if chooser is not None and task.request.output.mode == "text":
            self._writer.put(chooser.logprobs.rest())

    def _prefill(self, task: Task) -> int:
        """Evaluate the prompt and return the first id of the answer. Raises `Cancelled`."""
        if task.request.sampling.prompt_logprobs:
            return self._prefill_with_logprobs(task)
        token = self._evaluator.prefill(
            task.slot,
            task.prompt,
            task.cached,
            task.batch,
            lambda processed: self._report(task, processed),
            task.image,
            task.image_tokens,
            fed=task.fed,
        )
        if task.request.progress:
            self._report(task, len(task.prompt) + task.image_tokens)
        return token

    def _prefill_with_logprobs(self, task: Task) -> int:
        """The same, token by token, telling what the model thought of each."""
        from glm_api.pipeline.worker.chatglm_cpp.sampling import logprobs
        from glm_api.pipeline.worker.logprobs import named

        prompt, top = task.prompt, task.request.sampling.top_logprobs or 0
        found: list[TokenLogprob] = []

        def look(logits: bridge.Logits) -> None:
            following = prompt[len(found) + 1]
            thought = logprobs(logits, following, top)
            found.append(named(self._vocabulary, following, thought.chosen, thought.top))

        if len(prompt) > 1:
            with self._evaluator.choosing(look):
                self._evaluator.prefill(
                    task.slot,
                    prompt[:-1],
                    0,
                    task.batch,
                    lambda processed: self._report(task, processed),
                    choose_each=True,
                )
        self._writer.send(PromptLogprobs(found))
        return self._evaluator.next(task.slot, prompt[-1], len(prompt)) if task.limit else -1

    def _report(self, task: Task, processed: int) -> None:
        elapsed = (time.perf_counter() - task.begun) * 1000
        total = len(task.prompt) + task.image_tokens
        self._writer.send(Progress(processed, total, task.cached, elapsed))
