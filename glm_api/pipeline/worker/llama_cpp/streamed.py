"""What is common to all that answers a request with a stream of llama.cpp."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from glm_api.pipeline.formats.base import Format
from glm_api.pipeline.frames import Generate
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.llama_cpp.client import LlamaClient, LlamaError, Stopped, Stream
from glm_api.pipeline.worker.llama_cpp.lost_ids import LostIds
from glm_api.pipeline.worker.llama_cpp.slots import SlotPool
from glm_api.pipeline.worker.tokenizer import LimitedTokenizer


class GrammarDropped(Exception):
    """llama.cpp has chosen an id that the grammar does not admit: it does not apply the grammar."""


@dataclass(slots=True)
class Model:
    """The loaded model, for all answers. ``context`` is the length of a slot's context in tokens.

    ``threads`` is the number of threads that compute.
    """

    client: LlamaClient
    tokenizer: LimitedTokenizer
    format: Format
    pool: SlotPool
    context: int
    threads: int
    lost_ids: LostIds


class StreamedAnswer(ABC):
    """The answers to one request. `run` is for a thread of its own; `cancel` may be called from any thread."""

    def __init__(self, model: Model, request: Generate, writer: EventWriter) -> None:
        self._model = model
        self._request = request
        self._writer = writer
        self._stream: Stream | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Stop: the last event says ``cancelled``. Idempotent."""
        self._cancelled = True
        stream = self._stream
        if stream is not None:
            stream.close()

    @abstractmethod
    def run(self) -> None:
        """Answer all prompts. Raises `PromptError`, `LlamaError` and `ParentGone`."""

    @contextmanager
    def _open(self, body: object) -> Iterator[Stream]:
        """Give the stream of the answer to ``body``, and close it. Raises `Stopped`."""
        self._stream = stream = self._model.client.stream(body)
        try:
            if self._cancelled:
                raise Stopped
            yield stream
        finally:
            stream.close()

    def _without_end(self) -> Exception:
        """Return the error for a stream that was over before its last event."""
        return Stopped() if self._cancelled else LlamaError(500, "", "the answer ended without its end")
