"""Read the ids of one answer up to its limit."""

from __future__ import annotations

from glm_api.pipeline.formats.base import AnswerReader
from glm_api.pipeline.frames import Event, FinishReason


class BoundedReader:
    """Reads the ids of one answer, ``limit`` at most. ``tokens`` counts them, the one that ends the answer included.

    One of ``stop_ids`` ends the answer as the model's own ``end_id`` does, except in a tool call.
    """

    def __init__(self, reader: AnswerReader, limit: int, stop_ids: tuple[int, ...], end_id: int) -> None:
        self._reader = reader
        self._limit = limit
        self._stop_ids = stop_ids
        self._end_id = end_id
        self.tokens = 0
        self.reason: FinishReason | None = None

    @property
    def stop_string(self) -> str:
        """The stop string that ended the answer; empty if none did."""
        return self._reader.stop_string

    def feed(self, token: int) -> list[Event]:
        """Return the events that ``token`` completes; ``reason`` is set when it ends the answer."""
        self.tokens += 1
        stops = token in self._stop_ids and not self._reader.in_call
        events = self._reader.feed(self._end_id if stops else token)
        self.reason = self._reader.reason
        if self.reason is None and self.tokens >= self._limit:
            self.reason = "length"
        return events

    def end(self) -> list[Event]:
        """End the answer as the model's own end does; return what completes it."""
        events = self._reader.feed(self._end_id)
        self.reason = self._reader.reason or "stop"
        return events

    def finish(self) -> list[Event]:
        """Return what the reader still holds back, which may end with a stop string or complete a call."""
        events = self._reader.finish()
        self.reason = self._reader.reason or self.reason
        return events
