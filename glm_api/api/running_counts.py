"""The token counts and timings of a stream so far, for clients that ask for them in each chunk."""

from __future__ import annotations

import json
import time
from typing import Any

from glm_api.api.completion import Completion
from glm_api.api.generate import Answer
from glm_api.api.usage import timings, usage
from glm_api.pipeline.frames import Event, Finished, Reasoning, Started, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.generation import Generation


class RunningCounts:
    """Counts the tokens of each answer as its events come. `Finished` has the exact numbers."""

    def __init__(self, completion: Completion, generation: Generation) -> None:
        self._completion = completion
        self._generation = generation
        self._started_at = self._first_token_at = 0.0

    def add(self, answer: Answer, event: Event) -> None:
        """Count ``event``, which belongs to ``answer``."""
        match event:
            case Started():
                self._started_at = time.perf_counter()
            case Text() | Reasoning() | ToolCallStarted() | ToolArguments():
                now = time.perf_counter()
                if answer.completion_tokens == 0:
                    self._first_token_at = now
                    answer.prompt_ms = 1000 * (now - self._started_at)
                answer.completion_tokens += len(event.ids)
                answer.predicted_ms = 1000 * (now - self._first_token_at)

    def keys(self, answers: list[Answer], event: Event) -> str:
        """Return the JSON of the keys that the chunk for ``event`` has in addition, each behind a comma."""
        found: dict[str, Any] = {}
        if self._completion.continuous_usage:
            found["usage"] = usage(answers, self._completion.choices)
        # That chunk has its timings anyway.
        if self._completion.timings_per_token and not isinstance(event, Finished):
            found["timings"] = timings(answers[-1:], self._generation.queue_ms)
        return "".join(f',"{key}":{json.dumps(value, separators=(",", ":"))}' for key, value in found.items())
