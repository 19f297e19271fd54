"""Render the events of a text completion as one JSON body or as the chunks of a stream."""

from __future__ import annotations

import uuid
from typing import Any

from glm_api.api.chunks import ChunkStream
from glm_api.api.completion import Completion
from glm_api.api.generate import Answer
from glm_api.completions.logprobs import Echo, Lists, of_answer, of_prompt
from glm_api.completions.schemas import CompletionRequest
from glm_api.models.catalog import fingerprint, served_model
from glm_api.pipeline.frames import Event, PromptLogprobs, Text
from glm_api.pipeline.generation import Generation

OBJECT = "text_completion"


def to_completion(request: CompletionRequest) -> Completion:
    """Return the completion that answers ``request``. Raises `ApiError` for an unknown model, and `ModelLoading`."""
    return Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        model=served_model(request.model),
        fingerprint=fingerprint(),
        choices=request.n,
        logprobs=request.logprobs is not None,
        stop_in_text=request.include_stop_str_in_output,
        include_usage=request.include_usage,
        continuous_usage=request.continuous_usage,
        timings_per_token=request.timings_per_token,
    )


def to_json(completion: Completion, echoes: list[Echo], answers: list[Answer], queue_ms: float) -> dict[str, Any]:
    """Return the body of a completion that is not streamed; ``echoes`` go in front of the answers."""
    choices = []
    for index, (echo, answer) in enumerate(zip(echoes, answers, strict=True)):
        told = _logprobs(echo, answer) if completion.logprobs else None
        choices.append(_choice(index, echo.text + completion.text(answer), answer.reason, told))
    return completion.body(OBJECT, choices, answers, queue_ms)


def _logprobs(echo: Echo, answer: Answer) -> Lists:
    told = of_answer(answer.text, answer.logprobs, len(echo.text))
    if echo.first is None:
        return told
    prompt = of_prompt(echo, answer.prompt_logprobs)
    return {name: prompt[name] + told[name] for name in prompt}


def _choice(index: int, text: str, reason: str | None = None, logprobs: Lists | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


class CompletionStream(ChunkStream):
    """The chunks of a text completion; ``echoes`` go in front of the answers."""

    def __init__(self, completion: Completion, echoes: list[Echo], generation: Generation) -> None:
        self._echoes = echoes
        # Characters of the choice that have been sent, if log-probabilities are told.
        self._sent = 0
        super().__init__(completion, OBJECT, generation)

    def text_choice(self) -> tuple[str, str]:
        return f'{{"index":{self.index},"text":', ',"logprobs":null,"finish_reason":null}'

    def told_choice(self, event: Text) -> dict[str, Any]:
        told = of_answer(event.text, event.logprobs, self._sent) if event.logprobs else None
        self._sent += len(event.text)
        return _choice(self.index, event.text, logprobs=told)

    def opening(self) -> str:
        echo = self._echoes[self.index]
        self._sent = len(echo.text)
        # With log-probabilities it follows when they are there.
        return self.text(echo.text) if echo.text and echo.first is None else ""

    def last_choice(self, reason: str) -> dict[str, Any]:
        return _choice(self.index, "", reason)

    def empty_choice(self) -> dict[str, Any]:
        return _choice(self.index, "")

    def rare(self, event: Event) -> str:
        match event:
            case PromptLogprobs():
                echo = self._echoes[self.index]
                return self.chunk(_choice(self.index, echo.text, logprobs=of_prompt(echo, event.logprobs)))
            case _:
                return ""
