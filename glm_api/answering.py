"""Puts work to the pipeline and makes an HTTP answer of its events: one body, or a stream of server-sent events.

All endpoints that generate go through here; `held` and `send` are for answers that come from elsewhere, too. Whatever
happens - end, error, client gone - the work is closed: by the view when nothing is streamed, else by the stream and by
``Response.call_on_close``, because a stream that never starts does not run its ``finally``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, TypeVar

from flask import Response, current_app, g, request

from glm_api.backend.errors import ClientGone, PipelineError
from glm_api.context import pipeline, settings
from glm_api.errors import ApiError, from_pipeline, unforeseen
from glm_api.middleware import disconnects
from glm_api.middleware.request_record import RequestRecord
from glm_api.pipeline.frames import Event, Finished, Started, Text, ToolArguments, ToolCallStarted
from glm_api.pipeline.generation import Generation
from glm_api.pipeline.job import Job

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"

SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # nginx holds a stream back until it is over unless told so.
    "X-Accel-Buffering": "no",
}


@dataclass(slots=True)
class Call:
    """A tool call that the model made; ``arguments`` is the text of a JSON object."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """One prompt's answer. Counts are in tokens, times in milliseconds."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    text: str = ""
    calls: list[Call] = field(default_factory=list)
    reason: str = "stop"
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0

    def start(self, event: Started) -> None:
        self.prompt_tokens = event.prompt_tokens
        self.cached_tokens = event.cached_tokens

    def finish(self, event: Finished) -> None:
        self.completion_tokens = event.completion_tokens
        self.reason = "stop" if event.reason == "cancelled" else event.reason
        self.prompt_ms = event.prompt_ms
        self.predicted_ms = event.predicted_ms


Batch = TypeVar("Batch", contravariant=True)


class Work(Protocol):
    """A request's hold on what answers it."""

    def cancel(self) -> None:
        """The client is gone; called from another thread."""

    def close(self) -> None:
        """Give it back. Idempotent."""


Held = TypeVar("Held", bound=Work)


class Stream(Protocol[Batch]):
    """Turns what arrives for one request into the bytes of its stream."""

    def render(self, batch: Batch) -> bytes:
        """The bytes for what came together; may be empty."""

    def end(self) -> bytes:
        """The last bytes when all has arrived."""

    def fail(self, error: ApiError) -> bytes:
        """The last bytes of a stream that failed under way."""


def collect(job: Job) -> tuple[list[Answer], Generation]:
    """Have ``job`` done; the answers to its prompts, in order. Raises `PipelineError`."""
    with _admitted(job) as generation:
        answers: list[Answer] = []
        for batch in _noted(generation.events(), generation, g.record):
            for event in batch:
                _add(answers, event)
        return answers, generation


def _add(answers: list[Answer], event: Event) -> None:
    match event:
        case Started():
            answers.append(Answer())
            answers[-1].start(event)
        case Text():
            answers[-1].text += event.text
        case ToolCallStarted():
            answers[-1].calls.append(Call(event.call_id, event.name))
        case ToolArguments():
            answers[-1].calls[event.index].arguments += event.text
        case Finished():
            answers[-1].finish(event)


def stream(job: Job, make_stream: Callable[[Generation], Stream[list[Event]]]) -> Response:
    """Have ``job`` done and send what becomes of it as it comes. Raises `PipelineError`.

    Waits for the first sign of the pipeline, or the first ping if that is earlier: what fails before has a status of
    its own, where the client's retries understand it, instead of an error inside a stream.
    """
    record: RequestRecord = g.record
    record.streamed = True
    with ExitStack() as stack:
        generation = stack.enter_context(_admitted(job))
        batches = _noted(generation.events(settings.ping_interval or None), generation, record)
        first = next(batches)
        # From here on the stream owns the place, and this view's end no longer gives it back.
        release = stack.pop_all().close
    return send(chain([first], batches), make_stream(generation), release)


def send(batches: Iterator[Any], stream: Stream[Any], release: Callable[[], None]) -> Response:
    """The stream of ``batches``, a ping for each empty one; ``release`` is called at its end, maybe several times."""
    response = Response(_chunks(batches, stream, release, g.record, current_app.logger), headers=SSE_HEADERS)
    response.call_on_close(release)
    return response


def _chunks(
    batches: Iterator[Any],
    stream: Stream[Any],
    release: Callable[[], None],
    record: RequestRecord,
    logger: logging.Logger,
) -> Iterator[bytes]:
    try:
        for batch in batches:
            chunk = stream.render(batch) if batch else PING
            if chunk:
                yield chunk
        yield stream.end()
    except ClientGone as error:
        record.error = from_pipeline(error)
    except GeneratorExit:
        # The server could not write: this is how it learns of a client that left if nothing else told it.
        record.error = from_pipeline(ClientGone("The client closed the connection."))
        raise
    except PipelineError as error:
        record.error = from_pipeline(error)
        yield stream.fail(record.error)
    except ApiError as error:
        record.error = error
        yield stream.fail(error)
    except Exception as error:
        logger.exception("a stream failed", exc_info=error)
        record.error = unforeseen()
        yield stream.fail(record.error)
    finally:
        release()


@contextmanager
def _admitted(job: Job) -> Iterator[Generation]:
    """A place in the queue for ``job``, given back at the end or when the client leaves."""
    g.record.model = settings.model_name
    with held(pipeline.generate(job)) as generation:
        yield generation


@contextmanager
def held(work: Held) -> Iterator[Held]:
    """``work``, cancelled when the client leaves and closed at the end."""
    stop_watching = disconnects.watch(request.environ, work.cancel)
    try:
        yield work
    finally:
        stop_watching()
        work.close()


def _noted(batches: Iterator[list[Event]], generation: Generation, record: RequestRecord) -> Iterator[list[Event]]:
    for batch in batches:
        record.note(batch)
        if record.started_at is not None and record.queue_ms is None:
            record.queue_ms = generation.queue_ms
        yield batch


def data(payload: object) -> bytes:
    """``payload`` as one server-sent event. ASCII: clients that split lines by Unicode's rules would cut it apart."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"
