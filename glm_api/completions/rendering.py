"""Render the events of a text completion as one JSON body or as the chunks of a stream."""

from __future__ import annotations

import uuid
from typing import Any

from glm_api.api.chunks import ChunkStream
from glm_api.api.completion import Completion
from glm_api.api.generate import Answer
from glm_api.completions.schemas import CompletionRequest
from glm_api.models.catalog import fingerprint, served_model
from glm_api.pipeline.frames import Text
from glm_api.pipeline.generation import Generation

OBJECT = "text_completion"


def to_completion(request: CompletionRequest) -> Completion:
    """Return the completion that answers ``request``. Raises `ApiError` for an unknown model, and `ModelLoading`."""
    return Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        model=served_model(request.model),
        fingerprint=fingerprint(),
        choices=request.n,
        include_usage=request.include_usage,
    )


def to_json(completion: Completion, echoes: list[str], answers: list[Answer], queue_ms: float) -> dict[str, Any]:
    """Return the body of a completion that is not streamed; ``echoes`` go in front of the answers."""
    echoed = zip(echoes, answers, strict=True)
    choices = [_choice(index, echo + answer.text, answer.reason) for index, (echo, answer) in enumerate(echoed)]
    return completion.body(OBJECT, choices, answers, queue_ms)


def _choice(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


class CompletionStream(ChunkStream):
    """The chunks of a text completion; ``echoes`` go in front of the answers."""

    def __init__(self, completion: Completion, echoes: list[str], generation: Generation) -> None:
        self._echoes = echoes
        super().__init__(completion, OBJECT, generation)

    def text_choice(self) -> tuple[str, str]:
        return f'{{"index":{self.index},"text":', ',"logprobs":null,"finish_reason":null}'

    def told_choice(self, event: Text) -> dict[str, Any]:
        return _choice(self.index, event.text)

    def opening(self) -> str:
        echo = self._echoes[self.index]
        return self.text(echo) if echo else ""

    def last_choice(self, reason: str) -> dict[str, Any]:
        return _choice(self.index, "", reason)

    def empty_choice(self) -> dict[str, Any]:
        return _choice(self.index, "")
