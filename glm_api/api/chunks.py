"""The chunks of a streamed completion.

A chunk costs CPU time that the model's threads need. So most chunks are not dumped by a schema: what stays the same is
rendered once for each choice, and for a text only its JSON string is put in between. Texts that come together become
one chunk. Only chunks with log-probabilities, which are large anyway, are dumped as a whole.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from itertools import groupby
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, cast

from glm_api.api.completion import Completion
from glm_api.api.generate import Answer
from glm_api.api.running_counts import RunningCounts
from glm_api.api.sse import DONE, data
from glm_api.api.usage import progress, timings, usage
from glm_api.errors import ApiError
from glm_api.pipeline.frames import Event, Finished, Progress, Reasoning, Started, Text
from glm_api.pipeline.generation import Generation

# str.splitlines breaks lines at these characters, and so do clients that use it. JSON does not escape them.
_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")


def json_string(text: str) -> str:
    """Return ``text`` as a JSON string in which no client finds a line break."""
    if text.isascii() or not _LINE_BREAKS.search(text):
        return encode_basestring(text)
    return encode_basestring_ascii(text)


def joined(events: list[Event]) -> list[Event]:
    """Return ``events`` with consecutive texts joined into one event, and consecutive reasoning too."""
    if len(events) == 1:
        return events
    fewer: list[Event] = []
    for kind, group in groupby(events, type):
        if kind is Text:
            texts = cast("list[Text]", list(group))
            logprobs = [entry for event in texts for entry in event.logprobs]
            fewer.append(Text("".join([event.text for event in texts]), [], logprobs))
        elif kind is Reasoning:
            thoughts = cast("list[Reasoning]", list(group))
            ids = [id for event in thoughts for id in event.ids]
            fewer.append(Reasoning("".join([event.text for event in thoughts]), ids))
        else:
            fewer += group
    return fewer


class ChunkStream(ABC):
    """The chunks of a completion, one answer after the other; ``object`` tells what they are chunks of."""

    def __init__(self, completion: Completion, object: str, generation: Generation) -> None:
        self._generation = generation
        self._choices = completion.choices
        self._include_usage = completion.include_usage
        self._logprobs = completion.logprobs
        self._stop_in_text = completion.stop_in_text
        self._continuous_usage = completion.continuous_usage
        self._timings_per_token = completion.timings_per_token
        self._counts = RunningCounts() if self._continuous_usage or self._timings_per_token else None
        self._answers: list[Answer] = []
        rendered = json.dumps(completion.head(object), separators=(",", ":"))
        self._head = f"data: {rendered[:-1]},"
        no_usage = completion.include_usage and not completion.continuous_usage
        self._tail = self._usual_tail = ',"usage":null}\n\n' if no_usage else "}\n\n"
        self._before_text = self._after_text = ""

    @abstractmethod
    def text_choice(self) -> tuple[str, str]:
        """Return the JSON of a choice with a text: the part before the text and the part after it."""

    @abstractmethod
    def told_choice(self, event: Text) -> dict[str, Any]:
        """Return a choice with a text and the log-probabilities of its tokens."""

    @abstractmethod
    def opening(self) -> str:
        """Return the chunks that begin an answer."""

    @abstractmethod
    def last_choice(self, reason: str) -> dict[str, Any]:
        """Return the choice that ends an answer, with ``reason`` as its finish reason."""

    @abstractmethod
    def empty_choice(self) -> dict[str, Any]:
        """Return a choice without content, for chunks that carry something else."""

    def reasoning(self, text: str) -> str:
        """Return the chunk for a piece of what the model thinks; by default nothing."""
        return ""

    def rare(self, event: Event) -> str:
        """Return the chunk for an event that only some endpoints send; by default nothing."""
        return ""

    @property
    def index(self) -> int:
        """Index of the answer that is being sent."""
        return len(self._answers) - 1

    def render(self, events: list[Event]) -> bytes:
        """Return the chunks for events that came together."""
        if self._counts is not None:
            return "".join([self._counted(event, self._counts) for event in events]).encode()
        fewer = joined(events)
        if self._logprobs:
            chunks = [self._other(event) for event in fewer]
        else:
            chunks = [self.text(event.text) if type(event) is Text else self._other(event) for event in fewer]
        return "".join(chunks).encode()

    def _counted(self, event: Event, counts: RunningCounts) -> str:
        """Return the chunk for ``event``, with the counts and timings so far."""
        if isinstance(event, Started):
            self._start(event)
        counts.add(self._answers[-1], event)
        more: dict[str, Any] = {}
        if self._continuous_usage:
            more["usage"] = usage(self._answers, self._choices)
        # The last chunk of an answer has its timings anyway.
        if self._timings_per_token and not isinstance(event, Finished):
            more["timings"] = timings(self._answers[-1:], self._generation.queue_ms)
        # Without the first brace, and without the last one, which is that of the chunk.
        self._tail = f",{json.dumps(more, separators=(',', ':'))[1:-1]}{self._usual_tail}" if more else self._usual_tail
        return self._opened() if isinstance(event, Started) else self._other(event)

    def text(self, text: str) -> str:
        """Return the chunk for a text."""
        return f"{self._before_text}{json_string(text)}{self._after_text}"

    def _other(self, event: Event) -> str:
        match event:
            case Text():
                return self.chunk(self.told_choice(event))
            case Reasoning():
                self._answers[-1].reasoning_tokens += len(event.ids)
                return self.reasoning(event.text) if event.text else ""
            case Started():
                self._start(event)
                return self._opened()
            case Progress():
                return self.chunk(self.empty_choice(), progress(event))
            case Finished():
                return self._finish(event)
            case _:
                return self.rare(event)

    def _start(self, event: Started) -> None:
        self._answers.append(Answer())
        self._answers[-1].start(event)

    def _opened(self) -> str:
        before, after = self.text_choice()
        self._before_text = f'{self._head}"choices":[{before}'
        self._after_text = f"{after}]{self._tail}"
        return self.opening()

    def _finish(self, event: Finished) -> str:
        answer = self._answers[-1]
        answer.finish(event)
        timed = {"timings": timings([answer], self._generation.queue_ms)}
        last = self.chunk(self.last_choice(answer.reason), timed)
        if self._stop_in_text and answer.stop_string:
            return self.chunk(self.told_choice(Text(answer.stop_string, []))) + last
        return last

    def chunk(self, choice: dict[str, Any], more: dict[str, Any] | None = None) -> str:
        """Return a chunk with ``choice`` and the keys ``more``, in ASCII: no client finds a line break in it."""
        rest = json.dumps({"choices": [choice], **(more or {})}, separators=(",", ":"))
        return f"{self._head}{rest[1:-1]}{self._tail}"

    def end(self) -> bytes:
        """Return the end of the stream, after a chunk with the token counts if the client requested them."""
        if not self._include_usage:
            return DONE
        rest = json.dumps({"choices": [], "usage": usage(self._answers, self._choices)}, separators=(",", ":"))
        return f"{self._head}{rest[1:]}\n\n".encode() + DONE

    def fail(self, error: ApiError) -> bytes:
        """Return the error and the end of the stream."""
        return data(error.body()) + DONE
