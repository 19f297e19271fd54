"""A llama.cpp whose answers are scripted: for failures that it does not produce on demand, in pytest's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from glm_api.pipeline.frames import Event, Finished, Frame, GenerationEvent
from glm_api.pipeline.worker.llama_cpp.client import Stopped

Chunk = dict[str, Any] | Exception


class ScriptedStream:
    def __init__(self, chunks: Sequence[Chunk], before: Callable[[int], None]) -> None:
        self._chunks = chunks
        self._before = before
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def events(self, endpoint: str) -> Iterator[bytes]:
        for number, chunk in enumerate(self._chunks):
            self._before(number)
            if self.closed:
                raise Stopped
            if isinstance(chunk, Exception):
                raise chunk
            yield msgspec.json.encode(chunk)


class ScriptedClient:
    """Answers one request after the other with ``scripts``; keeps the ``bodies``.

    ``before`` is called with the number of each chunk before it is given out. ``posts`` answers other questions.
    """

    def __init__(self, *scripts: Sequence[Chunk], posts: Callable[[str, Any], Any] | None = None) -> None:
        self._scripts = list(scripts)
        self._posts = posts
        self.bodies: list[dict[str, Any]] = []
        self.streams: list[ScriptedStream] = []
        self.before: Callable[[int], None] = lambda number: None

    def stream(self, body: dict[str, Any]) -> ScriptedStream:
        self.bodies.append(body)
        self.streams.append(ScriptedStream(self._scripts.pop(0), lambda number: self.before(number)))
        return self.streams[-1]

    def get(self, endpoint: str) -> Any:
        return self.post(endpoint, None)

    def post(self, endpoint: str, body: Any) -> Any:
        assert self._posts is not None
        return self._posts(endpoint, body)


class Recorder:
    """A connection that keeps the events of the generations that are sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Event]] = []

    def send(self, frame: Frame) -> None:
        assert isinstance(frame, GenerationEvent)
        self.sent.append((frame.id, frame.event))

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.sent]

    @property
    def finished(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last
