"""Render the events of a completion as one JSON body or as the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from glm_api.api.chunks import ChunkStream
from glm_api.api.generate import Answer
from glm_api.api.usage import timings, usage
from glm_api.completions.schemas import CompletionRequest
from glm_api.models.catalog import fingerprint, served_model
from glm_api.pipeline.generation import Generation


@dataclass(frozen=True, slots=True)
class Completion:
    """What all chunks share, and the body. ``echoes`` go in front of the choices."""

    model: str
    fingerprint: str
    choices: int
    include_usage: bool
    echoes: list[str]
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, request: CompletionRequest, echoes: list[str]) -> Completion:
        return cls(served_model(request.model), fingerprint(), request.n, request.include_usage, echoes)

    @property
    def head(self) -> dict[str, Any]:
        """The keys that come first everywhere."""
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def choice(index: int, text: str, reason: str | None = None) -> dict[str, Any]:
    """An entry of ``choices``."""
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def body(completion: Completion, answers: list[Answer], queue_ms: float) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    echoed = zip(completion.echoes, answers, strict=True)
    return {
        **completion.head,
        "choices": [choice(index, echo + answer.text, answer.reason) for index, (echo, answer) in enumerate(echoed)],
        "usage": usage(answers, completion.choices),
        "timings": timings(answers, queue_ms),
    }


class CompletionStream(ChunkStream):
    """The chunks of a completion."""

    def __init__(self, completion: Completion, generation: Generation) -> None:
        self._completion = completion
        super().__init__(completion.head, completion.include_usage, completion.choices, generation)

    def text_choice(self) -> tuple[str, str]:
        return f'{{"index":{self.index},"text":', ',"logprobs":null,"finish_reason":null}'

    def opening(self) -> str:
        echo = self._completion.echoes[self.index]
        return self.text(echo) if echo else ""

    def last_choice(self, reason: str) -> dict[str, Any]:
        return choice(self.index, "", reason)

    def empty_choice(self) -> dict[str, Any]:
        return choice(self.index, "")
