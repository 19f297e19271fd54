"""What the events of llama.cpp's endpoints share."""

from __future__ import annotations

import msgspec

from glm_api.pipeline.worker.llama_cpp.client import LlamaError

_IMPOSSIBLE = -9999.0


class TopLogprob(msgspec.Struct):
    """What the model thought of an id. ``bytes`` are those of its text, where the endpoint tells them."""

    id: int
    bytes: list[int] | None = None
    # JSON has no infinity: null stands for the logarithm of 0.
    logprob: float | None = None

    @property
    def value(self) -> float:
        """The logarithm as a number."""
        return _IMPOSSIBLE if self.logprob is None else self.logprob


class Logprob(TopLogprob):
    """The id that was chosen, and the likeliest in its place."""

    top_logprobs: list[TopLogprob] = []


class PromptProgress(msgspec.Struct):
    """How much of the prompt is evaluated: tokens, and milliseconds so far."""

    total: int
    cache: int
    processed: int
    time_ms: float


class Chunk(msgspec.Struct):
    """Base of the events."""

    prompt_progress: PromptProgress | None = None
    error: dict[str, object] | None = None

    def check(self) -> None:
        """Raise `LlamaError` if the event is an error."""
        if self.error is not None:
            raise LlamaError(500, str(self.error.get("type", "")), str(self.error.get("message", "")))
