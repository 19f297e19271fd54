"""Send events to the web process; join the texts of a few milliseconds into one event.

A small model makes thousands of tokens a second; a frame and a wake-up of the web process for each would cost more than
the tokens. A large model's tokens each go out at once, since they are further apart than `HOLD_SECONDS`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from glm_api.pipeline.frames import Event, Text
from glm_api.pipeline.worker.connection import Connection

HOLD_SECONDS = 0.005


class Outbox:
    """Joins the `Text` events that come within `HOLD_SECONDS` of the last frame into one; order is kept."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._sent_at = 0.0

    def put(self, events: Iterable[Event]) -> None:
        """Send ``events``, or hold them for a moment. Raises `ParentGone`."""
        for event in events:
            if isinstance(event, Text):
                self._texts.append(event.text)
                self._ids += event.ids
            else:
                self.flush()
                self._connection.send(event)
        if self._texts and time.perf_counter() - self._sent_at >= HOLD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what is held. Raises `ParentGone`."""
        if self._texts:
            held = Text("".join(self._texts), self._ids)
            # First, so that what cannot be sent is not sent again.
            self._texts = []
            self._ids = []
            self._connection.send(held)
            self._sent_at = time.perf_counter()
