"""The embeddings of prompts: llama.cpp's ``/v1/embeddings``."""

from __future__ import annotations

import base64
import time

import msgspec

from glm_api.pipeline.frames import Finished, FinishReason, Started
from glm_api.pipeline.worker.llama_cpp.client import Stopped
from glm_api.pipeline.worker.llama_cpp.streamed import StreamedAnswer


class _Found(msgspec.Struct):
    embedding: str


class _Answer(msgspec.Struct):
    data: list[_Found]


_decode = msgspec.json.Decoder(_Answer).decode


class Embedding(StreamedAnswer):
    """The embeddings of the prompts of one request."""

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
        reason: FinishReason = "stop"
        embedding = b""
        # llama.cpp chooses the slot by itself. What it overwrites there, it knows.
        try:
            with self._open({"input": prompt, "encoding_format": "base64"}) as stream:
                embedding = b"".join(
                    base64.b64decode(found.embedding)
                    for answer in stream.events("/v1/embeddings")
                    for found in _decode(answer).data
                )
            if not embedding:
                raise self._without_end()
        except Stopped:
            reason = "cancelled"
        milliseconds = (time.perf_counter() - begun) * 1000
        writer.flush()
        writer.send(Finished(reason, 0, milliseconds, 0, None, 0, model.threads, model.threads, embedding))
        return reason
