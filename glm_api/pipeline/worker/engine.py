"""The service in the pipeline process: take a `Generate` frame, answer its prompts, take the next frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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
    Generate,
    Progress,
    Started,
    Text,
    ToolCallStarted,
)
from glm_api.pipeline.model_info import OutputSpec
from glm_api.pipeline.worker.coalescing import Outbox
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.evaluation import Evaluator, Interrupted, Pipeline, Plan, Shown
from glm_api.pipeline.worker.slots import Slot, SlotPool
from glm_api.pipeline.worker.structured_output import DemandNotMet, json_answer

# How often an answer that is not what was demanded (a tool call, JSON) is tried, in all.
ATTEMPTS = 3
# A greedy answer would come again just the same: further attempts are sampled at least this freely.
RETRY_TEMPERATURE = 0.7
# How often an answer that is held back is said to be under way.
ALIVE_SECONDS = 1.0

ConfigMaker = Callable[[float, float, int, float], object]


class Answer:
    """Reads the ids of one answer. ``tokens`` counts them, the one that ends it included."""

    def __init__(self, reader: AnswerReader, limit: int) -> None:
        self._reader = reader
        self._limit = limit
        self.tokens = 0
        self.reason: FinishReason | None = None

    def feed(self, token: int) -> list[Event]:
        self.tokens += 1
        events = self._reader.feed(token)
        self.reason = self._reader.reason
        if self.reason is None and self.tokens >= self._limit:
            self.reason = "length"
        return events

    def finish(self) -> list[Event]:
        """What is still held back; that may end with a stop string, or complete a call."""
        events = self._reader.finish()
        self.reason = self._reader.reason or self.reason
        return events


@dataclass(slots=True)
class Task:
    """One prompt on its slot, of which the slot holds the first ``cached`` ids. ``extra``: what its image takes of the
    context beyond its ids, in tokens. Times are of ``perf_counter``."""

    work: Generate
    output: OutputSpec
    prompt: list[int]
    extra: int
    limit: int
    slot: Slot[Pipeline]
    cached: int
    plan: Plan
    shown: Shown | None
    begun: float
    read: float | None = None

    def prompt_ms(self, now: float) -> float:
        return ((self.read or now) - self.begun) * 1000

    def predicted_ms(self, now: float) -> float:
        return 0.0 if self.read is None else (now - self.read) * 1000


class Engine:
    """Answers prompts, one at a time. ``make_config(temperature, top_p, top_k, repetition_penalty)`` gives
    chatglm_cpp's generation configuration; ``decode_image`` its image."""

    def __init__(
        self,
        connection: Connection,
        format: Format,
        pool: SlotPool[Pipeline],
        evaluator: Evaluator,
        make_config: ConfigMaker,
        decode_image: Callable[[str], object],
    ) -> None:
        self._connection = connection
        self._format = format
        self._pool = pool
        self._evaluator = evaluator
        self._make_config = make_config
        self._decode_image = decode_image
        self._greedy = make_config(0.0, 1.0, 0, 1.0)
        self._outbox = Outbox(connection)
        self._cancelled = False

    def serve(self) -> None:
        """Work until the web process goes away. Raises `ParentGone`."""
        while True:
            frame = self._connection.receive()
            # A Cancel that comes here has missed its generation.
            if isinstance(frame, Generate):
                self._work(frame)

    def _work(self, work: Generate) -> None:
        self._cancelled = False
        try:
            output = OutputSpec.from_json(work.output)
            for prompt, size, limit in zip(work.prompts, work.sizes, work.limits, strict=True):
                self._answer(work, output, prompt, size, limit)
                if self._cancelled:
                    return
        except ParentGone:
            raise
        except DemandNotMet as unmet:
            self._fail("answer", f"The model was tried {ATTEMPTS} times, but {unmet}.")
        except PromptError as error:
            self._fail("prompt", error.message)
        except Exception as error:
            # What chatglm_cpp's checks raise, and whatever nobody thought of: it may cost one request, not the process.
            print(f"A request failed: {describe(error)}", flush=True)
            self._fail("engine", "The model failed while it worked on this request. Try again.")

    def _fail(self, kind: Literal["answer", "prompt", "engine"], message: str) -> None:
        # What is held belongs to this answer, not to the next.
        self._outbox.flush()
        self._connection.send(Failed(kind, message))

    def _is_cancelled(self, work: Generate) -> bool:
        """Whether a Cancel for ``work`` has arrived; costs one system call."""
        frame = self._connection.receive_nowait()
        if isinstance(frame, Cancel) and frame.id == work.id:
            self._cancelled = True
        return self._cancelled

    def _answer(self, work: Generate, output: OutputSpec, prompt: list[int], size: int, limit: int) -> None:
        shown = self._shown(work, prompt)
        extra = size - len(prompt)
        slot, cached = self._pool.choose(prompt)
        if not self._format.reuses_prefix or shown is not None:
            cached = 0
        plan = self._evaluator.plan(size, cached, 0 if shown is None else shown.end + extra)
        self._connection.send(Started(size, 0 if plan.batch else cached, plan.batch_ms, plan.batch))
        task = Task(work, output, prompt, extra, limit, slot, cached, plan, shown, time.perf_counter())
        tokens = 0
        reason: FinishReason = "length"
        try:
            if limit > 0:
                reason, tokens = self._attempt_until_met(task)
        except Interrupted:
            reason = "cancelled"
        except BaseException:
            # The cache may hold anything now.
            slot.held.clear()
            raise
        finally:
            if not self._format.reuses_prefix or shown is not None:
                slot.held.clear()
        now = time.perf_counter()
        self._outbox.flush()
        self._connection.send(
            Finished(reason, tokens, task.prompt_ms(now), task.predicted_ms(now), slot.index, len(slot.held))
        )

    def _shown(self, work: Generate, prompt: list[int]) -> Shown | None:
        """The image that ``prompt`` shows. Raises `PromptError`."""
        ids = self._format.image_ids
        if work.image is not None:
            return Shown(self._decode_image(work.image), prompt.index(ids[0]) + len(ids))
        # Only token ids that a client sends open an image that is not there; chatglm_cpp would write its places all
        # the same, past the end of the prompt's.
        if ids and ids[0] in prompt:
            raise PromptError(f"The prompt opens an image (token {ids[0]}), which only a chat message can show.")
        return None

    def _attempt_until_met(self, task: Task) -> tuple[FinishReason, int]:
        """Generate, and again if the demands on the answer are not met; the reason and all tokens generated."""
        work = task.work
        tokens = 0
        temperature = work.temperature
        for attempt in range(1, ATTEMPTS + 1):
            config = self._make_config(temperature, work.top_p, work.top_k, work.repetition_penalty)
            answer = Answer(self._format.reader(task.output, work.stop), task.limit)
            try:
                self._generate(task, config, answer)
            except DemandNotMet:
                if attempt == ATTEMPTS:
                    raise
            else:
                return answer.reason or "length", tokens + answer.tokens
            tokens += answer.tokens
            temperature = max(temperature, RETRY_TEMPERATURE)
            task.cached = len(task.prompt) - 1 if self._format.reuses_prefix else 0
            task.plan = self._evaluator.plan(len(task.prompt) + task.extra, task.cached + task.extra)
        raise AssertionError("unreachable")

    def _generate(self, task: Task, config: object, answer: Answer) -> None:
        """Read the prompt and generate until the answer is over. Raises `DemandNotMet` or `Interrupted`."""
        demand = _Demand(task.output)
        token = self._prefill(task, config)
        task.read = task.read or time.perf_counter()
        length = len(task.prompt)
        said_alive = time.perf_counter()
        while True:
            self._outbox.put(demand.admit(answer.feed(token)))
            if answer.reason is not None:
                break
            now = time.perf_counter()
            if now - said_alive >= ALIVE_SECONDS:
                said_alive = now
                self._connection.send(Alive())
            if self._is_cancelled(task.work):
                answer.reason = "cancelled"
                return
            token = self._evaluator.next(task.slot, token, config, length, task.extra)
        self._outbox.put(demand.admit(answer.finish()))
        self._outbox.put(demand.release())

    def _prefill(self, task: Task, config: object) -> int:
        total = len(task.prompt) + task.extra

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
            lambda: self._is_cancelled(task.work),
            report,
            task.shown,
            task.extra,
        )
        if task.work.progress:
            report(total)
        return token


class _Demand:
    """Holds events back until it is known that the answer is what ``output`` demands; without a demand, none."""

    def __init__(self, output: OutputSpec) -> None:
        self._call = output.required
        self._schema = output.json_schema
        self._met = not output.required and output.json_schema is None
        self._held: list[Event] = []

    def admit(self, events: list[Event]) -> list[Event]:
        """The events that may go out now."""
        if self._met:
            return events
        self._held += events
        # A call that the model chose to make is an answer to a demand for JSON too: its arguments are JSON.
        if any(isinstance(event, ToolCallStarted) for event in events):
            self._met = True
            released, self._held = self._held, []
            return released
        return []

    def release(self) -> list[Event]:
        """The answer is complete: what was held back. Raises `DemandNotMet`."""
        if self._met:
            return []
        if self._call or self._schema is None:
            raise DemandNotMet("it did not call a tool")
        texts = [event for event in self._held if isinstance(event, Text)]
        text = json_answer("".join(event.text for event in texts), self._schema)
        return [Text(text, [token for event in texts for token in event.ids])]
