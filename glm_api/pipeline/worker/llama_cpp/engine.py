"""The service of the pipeline process: answer requests, several at a time, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from glm_api.backend.errors import PromptError
from glm_api.log.faults import describe
from glm_api.pipeline.frames import Alive, Cancel, Failed, Generate, ToPipeline
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.connection import Connection, ParentGone
from glm_api.pipeline.worker.llama_cpp.client import LlamaError

# How often the web process hears that this process computes. Seconds.
ALIVE_SECONDS = 1.0
# CPU seconds of an idle process in the time between.
_IDLE_CPU_SECONDS = 0.05
_FAILED = "The model failed while it worked on this request. Try again."


class RunningAnswer(Protocol):
    """The answers to one request."""

    def run(self) -> None:
        """Answer all prompts."""

    def cancel(self) -> None:
        """Stop soon: the last event says ``cancelled``."""


class Engine:
    """Answers the requests of the web process. ``make_answer`` returns what answers one of them."""

    def __init__(
        self, connection: Connection[ToPipeline], make_answer: Callable[[Generate, EventWriter], RunningAnswer]
    ) -> None:
        self._connection = connection
        self._make_answer = make_answer
        self._lock = threading.Lock()
        # What runs, by its id, with what sends its events.
        self._running: dict[int, tuple[RunningAnswer, EventWriter]] = {}

    def serve(self) -> None:
        """Answer requests until the web process goes away. Raises `ParentGone` and `FrameError`."""
        while True:
            cpu, began = time.process_time(), time.monotonic()
            frame = self._connection.receive(ALIVE_SECONDS if self._running else None)
            if isinstance(frame, Generate):
                writer = EventWriter(self._connection, frame.id)
                answer = self._make_answer(frame, writer)
                with self._lock:
                    self._running[frame.id] = answer, writer
                threading.Thread(target=self._run, args=(frame.id, answer, writer), daemon=True).start()
            elif isinstance(frame, Cancel):
                # One that comes too late names a generation that is over.
                found = self._running.get(frame.id)
                if found is not None:
                    found[0].cancel()
            elif frame is None and time.process_time() - cpu > _IDLE_CPU_SECONDS * (time.monotonic() - began):
                self._tell_alive()

    def _tell_alive(self) -> None:
        with self._lock:
            for _, writer in self._running.values():
                writer.send(Alive())

    def _run(self, id: int, answer: RunningAnswer, writer: EventWriter) -> None:
        failed: Failed | None = None
        try:
            answer.run()
        except ParentGone:
            return
        except PromptError as error:
            failed = Failed("prompt", error.message, error.param)
        except LlamaError as error:
            print(f"llama.cpp refuses a request or has failed at it (status {error.status}).", flush=True)
            failed = Failed("engine", _FAILED)
        except Exception as error:
            # It costs one request, not the process.
            print(f"A request failed: {describe(error)}", flush=True)
            failed = Failed("engine", _FAILED)
        finally:
            # Nothing more is told of it from here on; the last event may be out already.
            with self._lock:
                del self._running[id]
        if failed is not None:
            try:
                writer.flush()
                writer.send(failed)
            except ParentGone:
                return
