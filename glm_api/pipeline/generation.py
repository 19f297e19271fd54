"""One request in the pipeline, from the queue to the last event."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from glm_api.backend.deadlines import Deadlines
from glm_api.backend.errors import AnswerError, ClientGone, EngineError, PipelineError, PromptError
from glm_api.pipeline.frames import Event, Failed, Finished, Generate, Started

if TYPE_CHECKING:
    from glm_api.backend.semaphore import FairSemaphore

_FAILURES: dict[str, Callable[[str], PipelineError]] = {
    "answer": AnswerError,
    "prompt": PromptError,
    "engine": EngineError,
}


class Generation:
    """The answers to one `Job`. Made by `Pipeline.generate`; ``events`` is for one consumer.

    The place in the queue is given back exactly once: by the last event, by a failure, or by `close`, whichever comes
    first. A consumer that is slower than the model holds up nobody: events wait here, the pipeline goes on.
    """

    def __init__(
        self,
        work: Generate,
        semaphore: FairSemaphore,
        on_turn: Callable[[Generation], None],
        on_cancel: Callable[[Generation], None],
        deadlines: Deadlines,
    ) -> None:
        self.id = work.id
        self.work = work
        self.ticket = semaphore.ticket(lambda: on_turn(self))
        self.created = deadlines.created
        self.turn_at: float | None = None
        self.sent = False
        self.remaining = len(work.prompts)
        self.closed = False
        self._on_cancel = on_cancel
        self._deadlines = deadlines
        self._events: queue.SimpleQueue[Event | PipelineError] = queue.SimpleQueue()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the longest prompt of this job, those of an image included."""
        return max(self.work.sizes)

    @property
    def queue_ms(self) -> float:
        """Milliseconds waited for the turn, so far or in all."""
        return ((self.turn_at or time.monotonic()) - self.created) * 1000

    def events(self, silence: float | None = None) -> Iterator[list[Event]]:
        """Yield the events in order, those that are ready together as one list, until the last prompt is `Finished`.

        With ``silence`` (seconds) an empty list comes whenever that time has passed without an event. Raises
        `DeadlineExceeded`, `EngineError`, `AnswerError`, `PromptError`, `ShuttingDown` or `ClientGone`.
        """
        # Not `remaining`: the answer may be complete before anybody asks for it.
        unfinished = len(self.work.prompts)
        while unfinished:
            batch, failure = self._next_batch(silence)
            unfinished -= sum(isinstance(event, Finished) for event in batch)
            if batch or failure is None:
                yield batch
            if failure is not None:
                raise failure

    def _next_batch(self, silence: float | None) -> tuple[list[Event], PipelineError | None]:
        """Wait for an event, then take all that are there; a failure comes after what came before it."""
        batch: list[Event] = []
        quiet_until = None if silence is None else time.monotonic() + silence
        while True:
            waiting = self.turn_at is None
            left = self._deadlines.left(waiting)
            if left <= 0:
                self.close()
                return [], self._deadlines.exceeded(waiting)
            if quiet_until is not None:
                quiet_left = quiet_until - time.monotonic()
                if quiet_left <= 0:
                    return [], None
                left = min(left, quiet_left)
            try:
                item = self._events.get(timeout=left)
                while True:
                    if isinstance(item, PipelineError):
                        return batch, item
                    if isinstance(item, Failed):
                        return batch, _FAILURES[item.kind](item.message)
                    batch.append(item)
                    item = self._events.get_nowait()
            except queue.Empty:
                if batch:
                    return batch, None

    def put(self, event: Event) -> None:
        """The pipeline has sent ``event``."""
        if isinstance(event, Started):
            self.turn_at = self.turn_at or time.monotonic()
        if not self.closed:
            self._events.put(event)

    def fail(self, error: PipelineError) -> None:
        """Let the consumer see ``error`` after what it has got already."""
        if not self.closed:
            self._events.put(error)

    def cancel(self) -> None:
        """The client is gone: stop the work, from any thread; `events` raises `ClientGone`."""
        self.fail(ClientGone("The client closed the connection."))
        self.close()

    def close(self) -> None:
        """Give the place back, whatever state the work is in. Idempotent."""
        if not self.closed:
            self.closed = True
            self._on_cancel(self)
