"""The web side's pipeline: admission, dispatch to the pipeline process, and the state of both children."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import is_gguf
from glm_api.backend.admission import Admission, RequestStatus
from glm_api.backend.base import Cause, ChildRole, Health, QueueDepth
from glm_api.backend.errors import (
    BackendError,
    ContextLengthExceeded,
    EngineError,
    ModelLoading,
    PromptError,
    shutting_down,
)
from glm_api.backend.semaphore import FairSemaphore
from glm_api.pipeline.child_process import LONGEST_BACKOFF, ChildProcess, LoadFailures
from glm_api.pipeline.conversation import Conversation, StructuredOutput
from glm_api.pipeline.formats.base import Prompt
from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    Alive,
    Cancel,
    EngineName,
    Failed,
    Finished,
    Frame,
    Generate,
    GenerationEvent,
    LoadModel,
    PrefillMode,
    Progress,
    Text,
)
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job
from glm_api.pipeline.model_info import ModelInfo, OutputSpec
from glm_api.pipeline.tokenizer_client import TokenizerClient

logger = logging.getLogger(__name__)

# The pipeline process says at least once a second that it computes, whatever it evaluates. One that says nothing for
# this long is hung. Seconds.
HUNG_AFTER = 30.0
# What a request is assumed to take before one has been measured, for Retry-After. Seconds.
ASSUMED_DURATION = 2.0


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """The settings that the pipeline reads. Times are in seconds.

    ``gguf`` is the file that llama.cpp loads: ``model`` itself, or what has been made of it. ``projector`` and
    ``gpu_layers`` are for llama.cpp too.
    """

    model: str
    max_length: int | None
    cache_slots: int
    prefill: PrefillMode
    threads: int
    queue_size: int
    queue_timeout: float
    request_timeout: float
    environment: Mapping[str, str]
    engine: EngineName = "chatglm-cpp"
    gguf: str | None = None
    projector: str | None = None
    gpu_layers: int | None = None


@dataclass(frozen=True, slots=True)
class SlotState:
    """A cache slot: the ``tokens`` that the latest answer left in it, and the generation that uses it now."""

    id: int
    tokens: int
    generation: Generation | None


class Pipeline:
    """The one pipeline of this server, with its two children. Methods may be called from any thread."""

    def __init__(self, semaphore: FairSemaphore[Generation]) -> None:
        self._semaphore = semaphore
        self._ids = itertools.count(1)
        # Held while work is sent: when `on_down` has had it, nothing is on its way to the child that is gone.
        self._dispatching = threading.Lock()
        self._claiming = threading.Lock()

    def configure(self, settings: PipelineSettings) -> None:
        """Set up for ``settings``; `start` starts the children."""
        self._semaphore.max_waiting = settings.queue_size
        self._admission = Admission(self._semaphore, settings.queue_timeout, settings.request_timeout, ASSUMED_DURATION)
        self._pipeline_ready = self._was_ready = False
        self._failure = ""
        self._model: ModelInfo | None = None
        # What the pipeline process works on, by id, even if nobody waits for it any more.
        self._running: dict[int, Generation] = {}
        self._slots: dict[int, int] = {}
        self._threads = dict.fromkeys(("most", "step", "batch"), settings.threads)
        load_failures = LoadFailures()
        self._tokenizer = TokenizerClient(
            _load_model(settings, computes=False),
            settings.environment,
            self._on_model,
            timeout=min(settings.queue_timeout, settings.request_timeout),
            load_failures=load_failures,
        )
        self._process: ChildProcess[GenerationEvent] = ChildProcess(
            "pipeline", FROM_PIPELINE, _load_model(settings, computes=True), self, settings.environment, load_failures
        )

    def start(self) -> None:
        """Start the children and return at once; `health` reports when the model is ready."""
        self._tokenizer.process.start()
        self._process.start()

    def drain(self) -> None:
        """Refuse new requests and go on with admitted ones."""
        self._admission.drain()

    def stop(self) -> None:
        """End the children: running requests fail with `Interrupted`, waiting ones with `ShuttingDown`. Idempotent."""
        self._admission.stop()
        self._process.stop()
        self._tokenizer.stop()

    def join(self, timeout: float = 5.0) -> None:
        """Wait until the children are gone, after `stop`; at most ``timeout`` seconds."""
        self._process.join(timeout)
        self._tokenizer.process.join(timeout)

    # --- what is known ---

    def health(self) -> Health:
        """Return the current state; never wait."""
        if self._admission.draining:
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

    @property
    def restarts(self) -> Counter[tuple[ChildRole, Cause]]:
        """The ends of each child that were followed by a new one, by cause."""
        children = (self._process, self._tokenizer.process)
        return Counter({(child.role, cause): count for child in children for cause, count in child.restarts.items()})

    def queue_depth(self) -> QueueDepth:
        """Return the numbers of running and of waiting requests."""
        return QueueDepth(len(self._running), self._semaphore.waiting)

    @property
    def threads(self) -> dict[str, int]:
        """The ``most`` threads that compute, and how many compute one token (``step``) and a prompt (``batch``)."""
        return dict(self._threads)

    def snapshot(self) -> dict[str, Any]:
        """Return the running and the waiting requests, for ``/queue``. Times are in milliseconds."""
        now = time.monotonic()
        return {
            "running": [
                {
                    "id": running.id,
                    "prompt_tokens": running.prompt_tokens,
                    "processed_tokens": running.processed,
                    "running_ms": (now - (running.turn_at or now)) * 1000,
                }
                for running in list(self._running.values())
            ],
            "waiting": [
                {
                    "id": generation.id,
                    "position": position,
                    "prompt_tokens": generation.prompt_tokens,
                    "waiting_ms": generation.queue_ms,
                    "estimated_wait_ms": self._admission.estimated_wait(position) * 1000,
                }
                for position, generation in self._admission.waiting()
            ],
            "threads": self.threads,
        }

    def slots(self) -> list[SlotState]:
        """Return what each cache slot holds and which request uses it. Raises `ModelLoading`."""
        free = list(range(self.model.slots))
        used: dict[int, Generation] = {}
        unknown: list[Generation] = []
        for generation in list(self._running.values()):
            slot = None if generation.started is None else generation.started.slot
            if slot in free:
                free.remove(slot)
                used[slot] = generation
            else:
                unknown.append(generation)
        # llama.cpp does not always tell which slot a request has, but it has one.
        used |= dict(zip(free, unknown, strict=False))
        return [SlotState(id, self._slots.get(id, 0), used.get(id)) for id in range(self.model.slots)]

    # --- tokens ---

    # Each raises `ModelLoading`, `ShuttingDown`, `EngineError` or `DeadlineExceeded` besides what it says.

    def encode_chat(self, conversation: Conversation) -> Prompt:
        """Return the prompt of ``conversation``. Raises `PromptError`, `ContextLengthExceeded`."""
        return self._tokenizer.encode_chat(conversation)

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of ``text`` as the prompt of a raw completion. Raises `ContextLengthExceeded`."""
        return self._tokenizer.encode_text(text)

    def text_output(self, structured: StructuredOutput) -> OutputSpec:
        """Return how to read the answer of a raw completion that must be ``structured``. Raises `PromptError`."""
        return self._tokenizer.text_output(structured)

    def tokenize(self, text: str, special: bool) -> list[int]:
        """The ids of ``text``; ``special``: with those that open a raw completion's prompt. Raises `PromptError`."""
        return self._tokenizer.tokenize(text, special)

    def decode(self, ids: list[int]) -> str:
        """Return the text of ``ids``, special tokens shown. Raises `PromptError` for unknown ids, and for too many."""
        return self._tokenizer.decode(ids)

    def pieces(self, ids: list[int]) -> list[bytes]:
        """Return the UTF-8 bytes that each of ``ids`` adds to their text. Raises `PromptError` as `decode` does."""
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
        work = self._work(job, sizes, model.context_length)
        generation = Generation(work, self._admission, self._dispatch, self._cancel)
        self._admission.enter(generation)
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

    def _dispatch(self, generation: Generation) -> None:
        """Send the work of ``generation``, whose turn it is, if there is a child to take it; else `on_ready` does."""
        with self._dispatching:
            if not self._pipeline_ready or not generation.begin():
                return
            self._running[generation.id] = generation
            self._send_work(generation)
        if generation.status is RequestStatus.FINISHED:
            # Closed while the work was on its way: the Cancel may have overtaken it.
            self._process.send(Cancel(generation.id))

    def _send_work(self, generation: Generation) -> None:
        self._process.expect_within(HUNG_AFTER)
        self._process.send(generation.work_left())

    def _cancel(self, generation: Generation) -> None:
        """Tell the pipeline process to stop the work; `_end` follows when it says that it has, or is gone."""
        if self._pipeline_ready:
            self._process.send(Cancel(generation.id))
        elif self._claim(generation):
            # The work waits for another process.
            generation.finish()

    def _claim(self, generation: Generation) -> bool:
        """Return whether the caller is the one to finish ``generation``, on which no process works."""
        with self._claiming:
            return self._running.pop(generation.id, None) is not None

    def _end(self, generation: Generation, error: BackendError | None = None) -> None:
        """The pipeline process has ended its work on ``generation``, or failed at it with ``error``."""
        self._running.pop(generation.id, None)
        self._process.expect_within(HUNG_AFTER if self._running else None)
        generation.finish(error)

    # --- what the children say ---

    def _on_model(self, info: ModelInfo) -> None:
        self._model = self._model or info

    def on_ready(self, info: ModelInfo) -> None:
        """The pipeline process has opened the model."""
        logger.info(
            "The model is ready: %s, a context of %d tokens, up to %d cache slots of %.0f MiB each, up to %d threads.",
            info.family,
            info.context_length,
            info.slots,
            info.slot_bytes / 2**20,
            self._threads["most"],
        )
        self._model = info
        self._failure = ""
        self._slots = {}
        self._semaphore.resize(info.parallel)
        with self._dispatching:
            self._pipeline_ready = self._was_ready = True
            running = list(self._running.values())
            # Those that were closed are left out: `_cancel` may have seen that there is no process.
            left = [generation for generation in running if generation.status is not RequestStatus.FINISHED]
            for generation in left:
                self._send_work(generation)
        for generation in running:
            if generation.status is RequestStatus.FINISHED:
                if generation in left:
                    # Closed while the work was on its way.
                    self._process.send(Cancel(generation.id))
                elif self._claim(generation):
                    generation.finish()
        for generation in self._admission.with_turn():
            self._dispatch(generation)

    def on_frame(self, frame: Frame) -> None:
        """The pipeline process has sent an event of a generation."""
        assert isinstance(frame, GenerationEvent)
        generation = self._running.get(frame.id)
        if generation is None:
            return
        self._process.expect_within(HUNG_AFTER)
        match event := frame.event:
            case Text():
                # First, because nearly every event is one.
                generation.take(event)
            case Alive():
                pass
            case Progress():
                # It is always reported, for the watchdog and /slots; the consumer sees it when it asked for it.
                generation.processed = event.processed
                if generation.work.progress:
                    generation.put(event)
            case Finished():
                if event.slot is not None:
                    self._slots[event.slot] = event.slot_tokens
                self._threads |= {"step": event.step_threads, "batch": event.batch_threads}
                if generation.take(event):
                    self._end(generation)
            case Failed(kind="prompt"):
                self._end(generation, PromptError(event.message, event.param))
            case Failed():
                self._end(generation, EngineError(event.message))
            case _:
                generation.take(event)

    def on_down(self, cause: Cause, message: str) -> None:
        """The pipeline process is gone. Its successor goes on with its work, and the queue waits."""
        with self._dispatching:
            self._pipeline_ready = False
        self._process.expect_within(None)
        error = EngineError("The model process stopped while it worked on this request. It is being restarted.")
        for running in list(self._running.values()):
            running.processed = None
            finished = running.status is RequestStatus.FINISHED
            if (finished or cause == "load_failed" or not running.can_go_on()) and self._claim(running):
                running.finish(error)
        if cause == "load_failed":
            self._failure = message
            self._admission.fail_all(
                ModelLoading("The model cannot be loaded at the moment. Try again later.", retry_after=30)
            )


def _load_model(settings: PipelineSettings, *, computes: bool) -> LoadModel:
    """Return what the pipeline process loads, which ``computes``, or the tokenizer process.

    chatglm-cpp tokenizes for its own files, whichever engine computes.
    """
    llama = settings.engine == "llama-cpp" and (
        # A GGUF file may have been repacked too.
        computes or settings.gguf == settings.model or is_gguf(Path(settings.model))
    )
    return LoadModel(
        model=settings.gguf if llama and settings.gguf is not None else settings.model,
        max_length=settings.max_length,
        cache_slots=settings.cache_slots,
        prefill=settings.prefill,
        threads=settings.threads,
        engine="llama-cpp" if llama else "chatglm-cpp",
        projector=settings.projector,
        gpu_layers=settings.gpu_layers,
    )


def _not_loaded(health: Health) -> ModelLoading:
    """The error for a request that comes while there is no model; one that cannot be loaded may never be."""
    if health.state == "failed":
        again = f"The server tries to load it again at least every {LONGEST_BACKOFF:g} seconds."
        return ModelLoading(f"{health.message} {again}", retry_after=30)
    return ModelLoading(f"{health.message} Try again in a few seconds.", retry_after=2)


# One of each, for the whole server. `on_ready` gives the semaphore as many places as requests run at a time.
semaphore: FairSemaphore[Generation] = FairSemaphore(Generation.take_turn)
pipeline = Pipeline(semaphore)
