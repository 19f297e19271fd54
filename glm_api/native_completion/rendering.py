"""Render the events of a completion in llama-server's own shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from glm_api.api import sse
from glm_api.api.generate import Answer
from glm_api.api.logprobs import finite
from glm_api.api.running_counts import RunningCounts
from glm_api.api.usage import progress, timings
from glm_api.errors import ApiError
from glm_api.models.catalog import served_model
from glm_api.native_completion.schemas import NativeRequest
from glm_api.pipeline.frames import Event, Finished, Progress, Started, Text, TokenLogprob
from glm_api.pipeline.generation import Generation


class Renderer:
    """Renders the answers to one request. ``prompts`` are the texts that are completed."""

    def __init__(self, request: NativeRequest, prompts: list[str], context: int) -> None:
        self._request = request
        self._prompts = prompts
        self._model = served_model(request.model)
        self._context = context

    def whole(self, index: int, answer: Answer, generation: Generation) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        probabilities = self.probabilities(answer.logprobs)
        tokens = answer.ids if self._request.return_tokens else []
        return {
            **self.piece(index, answer.text, tokens, answer, True),
            **probabilities,
            **self.ending(index, answer, generation),
        }

    def piece(self, index: int, text: str, tokens: list[int], answer: Answer, stop: bool) -> dict[str, Any]:
        """Return the keys that every piece of an answer has."""
        return {
            "index": index,
            "content": text,
            "tokens": tokens,
            "stop": stop,
            "id_slot": -1 if answer.slot is None else answer.slot,
            "tokens_predicted": answer.completion_tokens,
            "tokens_evaluated": answer.prompt_tokens,
        }

    def probabilities(self, logprobs: Iterable[TokenLogprob]) -> dict[str, Any]:
        """Return the key for log-probabilities, if the request asks for them."""
        if not self._request.n_probs:
            return {}
        return {
            "completion_probabilities": [
                {
                    **_probability(entry.id, entry.piece, entry.logprob),
                    "top_logprobs": [_probability(*likely) for likely in entry.top],
                }
                for entry in logprobs
            ]
        }

    def ending(self, index: int, answer: Answer, generation: Generation) -> dict[str, Any]:
        """Return the keys that only the end of an answer has."""
        sampling = self._request.sampling
        return {
            "model": self._model,
            "prompt": self._prompts[index],
            "stop_type": "limit" if answer.reason == "length" else "word" if answer.stop_string else "eos",
            "stopping_word": answer.stop_string,
            "has_new_line": "\n" in answer.text,
            "truncated": False,
            "tokens_cached": answer.cached_tokens,
            "timings": timings([answer], generation.queue_ms),
            "generation_settings": {
                "n_ctx": self._context,
                "n_predict": self._request.n_predict,
                "seed": sampling.seed,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "repeat_penalty": sampling.repetition_penalty,
                "presence_penalty": sampling.presence_penalty,
                "frequency_penalty": sampling.frequency_penalty,
                "stop": list(self._request.stops),
                "ignore_eos": sampling.ignore_eos,
                "n_probs": self._request.n_probs,
                "stream": self._request.stream,
            },
        }


def _probability(id: int, piece: bytes, logprob: float) -> dict[str, Any]:
    text = piece.decode(errors="backslashreplace")
    return {"id": id, "token": text, "bytes": list(piece), "logprob": finite(logprob)}


class NativeStream:
    """The events of a streamed completion. The last one of each prompt has ``stop: true``; there is no ``[DONE]``."""

    def __init__(self, request: NativeRequest, renderer: Renderer, generation: Generation) -> None:
        self._renderer = renderer
        self._generation = generation
        self._counts = RunningCounts()
        self._timed = request.timings_per_token
        self._answers: list[Answer] = []

    def render(self, events: list[Event]) -> bytes:
        """Return the bytes for events that came together."""
        return b"".join(map(self._event, events))

    def end(self) -> bytes:
        """Return nothing: the last event says that it is the last."""
        return b""

    def fail(self, error: ApiError) -> bytes:
        """Return the error, which ends the stream."""
        return sse.data(error.body())

    def _event(self, event: Event) -> bytes:
        if isinstance(event, Started):
            self._answers.append(Answer())
        answer, index = self._answers[-1], len(self._answers) - 1
        self._counts.add(answer, event)
        answer.add(event)
        match event:
            case Text():
                piece = self._renderer.piece(index, event.text, event.ids, answer, False)
                timed = {"timings": timings([answer], self._generation.queue_ms)} if self._timed else {}
                return sse.data({**piece, **self._renderer.probabilities(event.logprobs), **timed})
            case Progress():
                return sse.data({**self._renderer.piece(index, "", [], answer, False), **progress(event)})
            case Finished():
                piece = self._renderer.piece(index, "", [], answer, True)
                return sse.data({**piece, **self._renderer.ending(index, answer, self._generation)})
            case _:
                return b""
