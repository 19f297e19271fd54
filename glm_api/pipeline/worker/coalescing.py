"""Send events to the web process; join the texts of a few milliseconds into one event.

A small model makes thousands of tokens a second. A frame for each, and a wake-up of the web process, would cost more
than the tokens. A large model's tokens are further apart than `HOLD_SECONDS`, so each is sent at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, cast

import msgspec

from glm_api.pipeline.frames import (
    Event,
    Frame,
    GenerationEvent,
    PipelineEvent,
    Reasoning,
    Text,
    TokenLogprob,
    ToolArguments,
    ToolCallStarted,
)

HOLD_SECONDS = 0.005


class Sender(Protocol):
    """The part of `Connection` that events go through."""

    def send(self, frame: Frame) -> None:
        """Send ``frame``. Raises `ParentGone`."""


class EventWriter:
    """Sends the events of the generation ``id``.

    `put` joins the `Text` events of the `HOLD_SECONDS` after a frame into one event, and keeps the order of events.
    """

    def __init__(self, connection: Sender, id: int) -> None:
        self._connection = connection
        self._id = id
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._sent_at = 0.0
        # What has been generated since the last event that told so.
        self._fed: list[int] = []

    def send(self, event: Event) -> None:
        """Send ``event`` at once, before text that is held. Raises `ParentGone`."""
        self._connection.send(GenerationEvent(self._id, cast("PipelineEvent", event)))

    def feed(self, token: int) -> None:
        """Take note that ``token`` has been generated; `put` gets what it completes."""
        self._fed.append(token)

    def begin(self) -> None:
        """An answer begins."""
        self._fed = []

    def put(self, events: Sequence[Event]) -> None:
        """Send ``events``, or hold their text for a moment. Raises `ParentGone`."""
        last = events[-1] if events else None
        for event in events:
            if isinstance(event, Text):
                self._texts.append(event.text)
                self._ids += event.ids
                self._logprobs += event.logprobs
            else:
                self._flush([])
                if event is last and isinstance(event, Reasoning | ToolCallStarted | ToolArguments):
                    event = msgspec.structs.replace(event, fed=self._taken())
                self.send(event)
        if self._texts and time.perf_counter() - self._sent_at >= HOLD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the text that was held. Raises `ParentGone`."""
        if self._texts:
            self._flush(self._taken())

    def _taken(self) -> list[int]:
        fed, self._fed = self._fed, []
        return fed

    def _flush(self, fed: list[int]) -> None:
        if self._texts:
            joined = Text("".join(self._texts), self._ids, self._logprobs, fed)
            # Cleared before it is sent, so that text that cannot be sent is not sent again.
            self._texts = []
            self._ids = []
            self._logprobs = []
            self.send(joined)
            self._sent_at = time.perf_counter()
