"""Run a generation job and return its events as one JSON body or as a stream of server-sent events.

All endpoints that generate with the pipeline go through here. Whatever happens - end, error, client gone - the request
is closed: by the view when nothing is streamed, else by the stream (`sse.send`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain

from flask import Response, g

from glm_api.api.sse import PING, Stream, send
from glm_api.context import pipeline, settings
from glm_api.middleware.disconnects import closed_with_client
from glm_api.middleware.request_record import RequestRecord
from glm_api.pipeline.frames import (
    Event,
    Finished,
    PromptLogprobs,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolArguments,
    ToolCallStarted,
)
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job


@dataclass(slots=True)
class Call:
    """A tool call that the model made; ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """One prompt's answer. Counts are in tokens, times in milliseconds.

    ``completion_tokens`` includes ``reasoning_tokens``, those that the model has thought. ``ids`` are the tokens of the
    text, as far as they are known. ``embedding`` is that of `Finished`, ``slot`` that of `Started`.
    ``stop_string`` is the one that ended the answer; empty if none did.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    text: str = ""
    ids: list[int] = field(default_factory=list)
    reasoning: str = ""
    reasoning_tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    reason: str = "stop"
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0
    embedding: bytes = b""
    slot: int | None = None
    stop_string: str = ""

    def start(self, event: Started) -> None:
        self.prompt_tokens = event.prompt_tokens
        self.cached_tokens = event.cached_tokens
        self.slot = event.slot

    def think(self, event: Reasoning) -> None:
        self.reasoning += event.text
        self.reasoning_tokens += len(event.ids)

    def add(self, event: Event) -> None:
        """Take the next event of this answer."""
        match event:
            case Started():
                self.start(event)
            case Text():
                self.text += event.text
                self.ids += event.ids
                self.logprobs += event.logprobs
            case Reasoning():
                self.think(event)
            case ToolCallStarted():
                self.calls.append(Call(event.call_id, event.name))
            case ToolArguments():
                self.calls[event.index].arguments += event.text
            case PromptLogprobs():
                self.prompt_logprobs = event.logprobs
            case Finished():
                self.finish(event)

    def finish(self, event: Finished) -> None:
        self.completion_tokens = event.completion_tokens
        self.reason = "stop" if event.reason == "cancelled" else event.reason
        self.prompt_ms = event.prompt_ms
        self.predicted_ms = event.predicted_ms
        self.embedding = event.embedding
        self.stop_string = event.stop_string


def collect(job: Job) -> tuple[list[Answer], Generation]:
    """Run ``job`` to the end; return one answer a prompt, in order. Raises `BackendError`."""
    record: RequestRecord = g.record
    record.model = settings.model_name
    with closed_with_client(pipeline.generate(job)) as generation:
        answers: list[Answer] = []
        for events in _events(generation, None, record):
            for event in events:
                if isinstance(event, Started):
                    answers.append(Answer())
                answers[-1].add(event)
        return answers, generation


def stream(job: Job, make_stream: Callable[[Generation], Stream[list[Event]]], ping: bytes = PING) -> Response:
    """Run ``job`` and stream its events, with a ``ping`` in silences. Raises `BackendError`.

    Waits for the first event, or for the first ping if that is due earlier. A failure before that gets its own HTTP
    status, which the client's retries understand, instead of an error inside a stream.
    """
    record: RequestRecord = g.record
    record.model = settings.model_name
    record.streamed = True
    with ExitStack() as stack:
        generation = stack.enter_context(closed_with_client(pipeline.generate(job)))
        source = _events(generation, settings.ping_interval or None, record)
        first = next(source)
        # The stream owns the queue place from here on; leaving this block must not release it.
        release = stack.pop_all().close
    return send(chain([first], source), make_stream(generation), release, ping)


def _events(generation: Generation, silence: float | None, record: RequestRecord) -> Iterator[list[Event]]:
    """Yield what ``generation.events`` yields, and note the events in ``record`` on their way."""
    for events in generation.events(silence):
        record.note(events)
        if record.started_at is not None and record.queue_ms is None:
            record.queue_ms = generation.queue_ms
        yield events
