"""The web side's pipeline: admission, dispatch to the pipeline process, and the state of both children."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glm_api.backend.base import Cause, Health, Load
from glm_api.backend.deadlines import Deadlines
from glm_api.backend.errors import (
    ContextLengthExceeded,
    EngineError,
    ModelLoading,
    PipelineError,
    queue_full,
    shutting_down,
)
from glm_api.backend.semaphore import FairSemaphore, Full
from glm_api.pipeline.child_process import ChildProcess
from glm_api.pipeline.conversation import Conversation
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    Alive,
    Cancel,
    Event,
    Failed,
    Finished,
    Frame,
    Generate,
    LoadModel,
    PipelineEvent,
    PrefillMode,
    Progress,
    Started,
    Text,
)
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import ModelInfo
from glm_api.pipeline.tokenizer_client import TokenizerClient

logger = logging.getLogger(__name__)

# A process that computes and says nothing for this long is hung: a token takes a large model on one slow core about a
# second at the very worst. A call that evaluates many tokens may take longer by this many times its estimate, or, while
# no such call has been measured, by this much for each of its tokens. Seconds.
HUNG_AFTER = 30.0
HUNG_AFTER_ESTIMATES = 10.0
HUNG_AFTER_PER_TOKEN = 1.0
# From killing the pipeline process to a new one that is ready, roughly: Python, chatglm_cpp, mapping the file. Seconds.
RESTART_SECONDS = 2.0
# What a request is assumed to take before one has been measured, for Retry-After. Seconds.
ASSUMED_DURATION = 2.0


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """The settings that the pipeline reads. Times are in seconds."""

    model: str
    max_length: int | None
    cache_slots: int
    prefill: PrefillMode
    queue_size: int
    queue_timeout: float
    request_timeout: float
    environment: Mapping[str, str]


class Pipeline:
    """The one pipeline of this server, with its two children. Methods may be called from any thread.

    ``restarts`` counts the ends of the pipeline process that were followed by a new one, by cause.
    """

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore = semaphore
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self.restarts: Counter[Cause] = Counter()
        self._generations: dict[int, Generation] = {}
        self._current: Generation | None = None
        self._reset()

    def _reset(self) -> None:
        self._draining = False
        self._pipeline_ready = self._was_ready = False
        self._failure = ""
        self._model: ModelInfo | None = None
        self._duration = ASSUMED_DURATION
        self._slots: dict[int, dict[str, int]] = {}
        self._progress: Progress | None = None
        self._deaf_until = 0.0

    def configure(self, settings: PipelineSettings) -> None:
        """Set up for ``settings``; `start` starts the children."""
        self._settings = settings
        self._semaphore.max_waiting = settings.queue_size
        self._reset()
        load_model = LoadModel(settings.model, settings.max_length, settings.cache_slots, settings.prefill)
        self._tokenizer = TokenizerClient(
            load_model,
            settings.environment,
            self._on_model,
            timeout=min(settings.queue_timeout, settings.request_timeout),
        )
        self._process: ChildProcess[PipelineEvent] = ChildProcess(
            "pipeline", FROM_PIPELINE, load_model, self, settings.environment
        )

    def start(self) -> None:
        """Start the children and return at once; `health` reports when the model is ready."""
        self._tokenizer.process.start()
        self._process.start()

    def drain(self) -> None:
        """Refuse new requests and go on with admitted ones."""
        self._draining = True

    def stop(self) -> None:
        """End the children: running requests fail with `Interrupted`, waiting ones with `ShuttingDown`. Idempotent."""
        self.drain()
        for generation in list(self._generations.values()):
            generation.fail(shutting_down(begun=generation.sent))
            generation.close()
        self._process.stop()
        self._tokenizer.stop()

    def join(self, timeout: float = 5.0) -> None:
        """Wait until the children are gone, after `stop`; at most ``timeout`` seconds."""
        self._process.join(timeout)
        self._tokenizer.process.join(timeout)

    # --- what is known ---

    def health(self) -> Health:
        """Return the current state; never wait."""
        if self._draining:
            return Health("draining", "The server is shutting down.")
        unresponsive = [child.role for child in (self._process, self._tokenizer.process) if not child.responsive]
        if self._pipeline_ready and self._tokenizer.ready and not unresponsive:
            return Health("ready", "The model is ready.")
        if self._failure:
            return Health("failed", self._failure)
        if self._was_ready:
            what = "does not respond and is being replaced" if unresponsive else "is being restarted"
            return Health("restarting", f"The model process {what}.")
        return Health("loading", "The model is being loaded.")

    @property
    def model(self) -> ModelInfo:
        """The loaded model; known after the first load, even while a child restarts. Raises `ModelLoading`."""
        if self._model is None:
            raise _not_loaded(self.health())
        return self._model

    @property
    def pids(self) -> dict[str, int | None]:
        """The process ids of the children."""
        return {"pipeline": self._process.pid, "tokenizer": self._tokenizer.process.pid}

    def load(self) -> Load:
        """Return the numbers of running and of waiting requests."""
        current = self._current
        return Load(int(current is not None and current.sent), self._semaphore.waiting)

    def snapshot(self) -> dict[str, Any]:
        """Return running and waiting requests and the cache slots, for ``/slots``. Times are in milliseconds."""
        now = time.monotonic()
        current = self._current
        waiting = sorted(
            ((generation.ticket.position or 0, generation) for generation in list(self._generations.values())),
            key=lambda entry: entry[0],
        )
        progress = self._progress
        return {
            "running": None
            if current is None or not current.sent
            else {
                "id": current.id,
                "prompt_tokens": current.prompt_tokens,
                "processed_tokens": progress.processed if progress else None,
                "running_ms": (now - (current.turn_at or now)) * 1000,
            },
            "waiting": [
                {
                    "id": generation.id,
                    "position": position,
                    "prompt_tokens": generation.prompt_tokens,
                    "waiting_ms": (now - generation.created) * 1000,
                    "estimated_wait_ms": position * self._duration * 1000,
                }
                for position, generation in waiting
                if position > 0
            ],
            "slots": [{"id": slot, **held} for slot, held in sorted(self._slots.items())],
        }

    # --- tokens ---

    # Each raises `ModelLoading`, `ShuttingDown`, `EngineError` or `DeadlineExceeded` besides what it says.

    def encode_chat(self, conversation: Conversation) -> Prompt:
        """Return the prompt of ``conversation``. Raises `PromptError`, `ContextLengthExceeded`."""
        return self._tokenizer.encode_chat(conversation)

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of ``text`` as the prompt of a raw completion. Raises `ContextLengthExceeded`."""
        return self._tokenizer.encode_text(text)

    def tokenize(self, text: str, special: bool) -> list[int]:
        """The ids of ``text``; ``special``: with those that open a raw completion's prompt. Raises `PromptError`."""
        return self._tokenizer.tokenize(text, special)

    def decode(self, ids: list[int]) -> str:
        """Return the text of ``ids``, special tokens shown. Raises `PromptError` for unknown ids, and for too many."""
        return self._tokenizer.decode(ids)

    def pieces(self, ids: list[int]) -> list[str]:
        """Return the text of each of ``ids`` by itself. Raises `PromptError` as `decode` does."""
        return self._tokenizer.pieces(ids)

    # --- admission and dispatch ---

    def generate(self, job: Job) -> Generation:
        """Admit ``job``: the caller gets a place in the queue, in order of arrival.

        Raises `ContextLengthExceeded`, `QueueFull`, `ModelLoading` or `ShuttingDown`; nothing has begun then.
        """
        health = self.health()
        if health.state == "draining":
            raise shutting_down(begun=False)
        if health.state in ("loading", "failed"):
            raise _not_loaded(health)
        model = self.model
        shown = model.image_tokens if job.image is not None else 0
        sizes = [len(prompt) + shown for prompt in job.prompts]
        if max(sizes) >= model.context_length:
            raise ContextLengthExceeded(max(sizes), model.context_length, shown)
        generation = Generation(
            self._work(job, sizes, model.context_length),
            self._semaphore,
            self._on_turn,
            self._on_cancel,
            Deadlines(self._settings.queue_timeout, self._settings.request_timeout),
        )
        self._generations[generation.id] = generation
        try:
            generation.ticket.enter()
        except Full:
            del self._generations[generation.id]
            waiting = self._semaphore.waiting
            raise queue_full(waiting, self._duration * (waiting + 1)) from None
        self._abandon_prefill_if_worthwhile()
        return generation

    def _work(self, job: Job, sizes: list[int], context: int) -> Generate:
        return Generate(
            id=next(self._ids),
            prompts=job.prompts,
            sizes=sizes,
            limits=[min(job.max_tokens, context - size) for size in sizes],
            sampling=job.sampling,
            stop=job.stop,
            output=job.output,
            image=job.image,
            progress=job.progress,
        )

    def _on_turn(self, generation: Generation) -> None:
        with self._lock:
            if generation.closed:
                return
            generation.turn_at = time.monotonic()
            self._current = generation
        self._dispatch()

    def _dispatch(self) -> None:
        """Send the work of whoever has the turn, when there is a child to take it; else `on_ready` comes back here."""
        with self._lock:
            generation = self._current
            if generation is None or generation.sent or not self._pipeline_ready:
                return
            generation.sent = True
        self._process.expect_within(HUNG_AFTER)
        self._process.send(generation.work)
        if generation.closed:
            # Closed while the work was on its way: the Cancel may have overtaken it.
            self._process.send(Cancel(generation.id))

    def _on_cancel(self, generation: Generation) -> None:
        with self._lock:
            running = generation is self._current and generation.sent
            if generation is self._current and not running:
                self._current = None
        if running:
            # The place is given back when the pipeline says that it has stopped.
            self._process.send(Cancel(generation.id))
            self._abandon_prefill_if_worthwhile()
        else:
            self._release(generation)

    def _abandon_prefill_if_worthwhile(self) -> None:
        """Kill the pipeline process if the running prefill was cancelled, another request waits, and a restart is
        quicker than letting the prefill end."""
        current = self._current
        if current is None or not current.closed or not self._semaphore.waiting:
            return
        if self._deaf_until - time.monotonic() > RESTART_SECONDS:
            self._deaf_until = 0.0
            self._process.kill("abandoned")

    def _release(self, generation: Generation) -> None:
        self._generations.pop(generation.id, None)
        generation.ticket.leave()

    def _end_current(self) -> Generation | None:
        """Take the turn from the current generation; the caller releases it after telling its consumer."""
        with self._lock:
            generation, self._current = self._current, None
        self._progress = None
        self._deaf_until = 0.0
        self._process.expect_within(None)
        return generation

    # --- what the children say ---

    def _on_model(self, info: ModelInfo) -> None:
        self._model = self._model or info

    def on_ready(self, info: ModelInfo) -> None:
        """The pipeline process has opened the model."""
        logger.info(
            "The model is ready: %s, a context of %d tokens, up to %d cache slots of %.0f MiB each.",
            info.family,
            info.context_length,
            info.slots,
            info.slot_bytes / 2**20,
        )
        self._model = info
        self._failure = ""
        self._slots = {}
        with self._lock:
            self._pipeline_ready = self._was_ready = True
        self._dispatch()

    def on_frame(self, frame: Frame) -> None:
        """The pipeline process has sent an event of the current generation."""
        assert isinstance(frame, Event)
        generation = self._current
        if generation is None:
            return
        self._process.expect_within(_longest_silence(frame))
        if isinstance(frame, Text):
            generation.put(frame)
            return
        if isinstance(frame, Alive):
            return
        self._note(frame, generation)
        over = isinstance(frame, Failed) or generation.remaining == 0
        if over:
            self._end_current()
        # Progress is always reported, for the watchdog and /slots; the consumer sees it when it asked for it.
        if not isinstance(frame, Progress) or generation.work.progress:
            generation.put(frame)
        if over:
            self._release(generation)

    def _note(self, event: Event, generation: Generation) -> None:
        """Keep what /slots, Retry-After and the decision to abandon a prefill need to know."""
        match event:
            case Started():
                self._deaf_until = time.monotonic() + event.batch_ms / 1000
            case Progress():
                self._progress = event
                self._deaf_until = 0.0
            case Finished():
                self._slots[event.slot] = {"tokens": event.slot_tokens}
                generation.remaining = 0 if event.reason == "cancelled" else generation.remaining - 1
                if generation.remaining == 0 and generation.turn_at is not None:
                    self._duration += 0.2 * (time.monotonic() - generation.turn_at - self._duration)

    def on_down(self, cause: Cause, message: str) -> None:
        """The pipeline process is gone. Only what it worked on is lost; the queue waits for its successor."""
        if cause != "stopped":
            self.restarts[cause] += 1
        with self._lock:
            self._pipeline_ready = False
            lost = self._current if self._current is not None and self._current.sent else None
        if lost is not None:
            self._end_current()
            lost.fail(EngineError("The model process stopped while it worked on this request. It is being restarted."))
            self._release(lost)
        if cause == "load_failed":
            self._failure = message
            self._fail_all(ModelLoading("The model cannot be loaded at the moment. Try again later.", retry_after=30))

    def _fail_all(self, error: PipelineError) -> None:
        for generation in list(self._generations.values()):
            generation.fail(error)
            generation.close()


def _not_loaded(health: Health) -> ModelLoading:
    """The error for a request that comes while there is no model; one that cannot be loaded may never be."""
    if health.state == "failed":
        return ModelLoading(f"{health.message} The server tries again by itself.", retry_after=30)
    return ModelLoading(f"{health.message} Try again in a few seconds.", retry_after=2)


def _longest_silence(event: Event) -> float:
    """Seconds within which another event follows ``event`` unless the process is hung."""
    if not isinstance(event, Started) or not event.batch_tokens:
        return HUNG_AFTER
    if event.batch_ms:
        return HUNG_AFTER + HUNG_AFTER_ESTIMATES * event.batch_ms / 1000
    return HUNG_AFTER + HUNG_AFTER_PER_TOKEN * event.batch_tokens


# chatglm_cpp answers one prompt at a time, so there is one of each, for the whole server.
semaphore = FairSemaphore()
pipeline = Pipeline(semaphore)
