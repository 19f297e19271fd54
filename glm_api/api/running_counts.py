"""The token counts and timings of an answer so far, for clients that ask for them in each chunk of a stream."""

from __future__ import annotations

import time

from glm_api.api.generate import Answer
from glm_api.pipeline.frames import Event, Reasoning, Started, Text, ToolArguments, ToolCallStarted


class RunningCounts:
    """Counts tokens and takes times as the events of answers come. `Finished` has the exact numbers."""

    def __init__(self) -> None:
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
