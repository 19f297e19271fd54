"""The embeddings of prompts: llama.cpp's ``/v1/embeddings``."""

from __future__ import annotations

import base64
import time

import msgspec

from glm_api.pipeline.frames import Finished, FinishReason, Generate, Started
from glm_api.pipeline.worker.coalescing import EventWriter
from glm_api.pipeline.worker.llama_cpp.answering import Model
from glm_api.pipeline.worker.llama_cpp.client import LlamaError, Stopped, Stream


class _Found(msgspec.Struct):
    embedding: str


class _Answer(msgspec.Struct):
    data: list[_Found]


_decode = msgspec.json.Decoder(_Answer).decode


class Embedding:
    """The embeddings of one request. `run` is for a thread of its own; `cancel` may be called from any thread."""

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

    def run(self) -> None:
        """Give all embeddings. Raises `LlamaError` and `ParentGone`."""
        request = self._request
        for prompt, size in list(zip(request.prompts, request.sizes, strict=True))[request.answered :]:
            if self._embed(prompt, size) == "cancelled":
                return

    def _embed(self, prompt: list[int], size: int) -> FinishReason:
        model, writer = self._model, self._writer
        writer.begin()
        begun = time.perf_counter()
        writer.send(Started(size, 0))
        self._stream = stream = model.client.stream({"input": prompt, "encoding_format": "base64"})
        reason: FinishReason = "stop"
        embedding = b""
        # llama.cpp chooses the slot by itself. What it overwrites there, it knows.
        try:
            if self._cancelled:
                raise Stopped
            embedding = b"".join(
                base64.b64decode(found.embedding)
                for answer in stream.events("/v1/embeddings")
                for found in _decode(answer).data
            )
            if not embedding:
                raise LlamaError(500, "", "there is no embedding in the answer")
        except Stopped:
            reason = "cancelled"
        finally:
            stream.close()
        milliseconds = (time.perf_counter() - begun) * 1000
        writer.flush()
        writer.send(Finished(reason, 0, milliseconds, 0, None, 0, model.threads, model.threads, embedding))
        return reason
