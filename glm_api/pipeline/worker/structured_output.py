"""Structured output: check that an answer calls a tool, or that it is JSON and matches the requested schema.

chatglm_cpp has no grammars and gives no logits. So the prompt tells the model what is wanted, the answer is checked
here, and the engine tries again a bounded number of times.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import warnings
from collections.abc import Iterator
from typing import Any

from glm_api.log.faults import describe
from glm_api.pipeline.frames import Event, Text, ToolCallStarted
from glm_api.pipeline.model_info import OutputSpec

# A schema may have patterns that take exponential time, which must not hang the pipeline process.
CHECK_SECONDS = 2.0
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class ConstraintNotMet(Exception):
    """The answer misses a constraint; the message says which."""


class OutputGuard:
    """Holds the events of an answer back until it meets the constraints of ``output``; without any, holds none back."""

    def __init__(self, output: OutputSpec) -> None:
        self._needs_call = output.required
        self._schema: dict[str, Any] | None = None if output.json_schema is None else json.loads(output.json_schema)
        self._met = not output.required and output.json_schema is None
        self._waiting: list[Event] = []

    def filter(self, events: list[Event]) -> list[Event]:
        """Take ``events`` and return those that may be sent now."""
        if self._met:
            return events
        self._waiting += events
        # A call that the model chose to make meets a JSON schema too: its arguments are JSON.
        if any(isinstance(event, ToolCallStarted) for event in events):
            self._met = True
            released, self._waiting = self._waiting, []
            return released
        return []

    def finish(self) -> list[Event]:
        """Return the events that are still held back; the answer is complete. Raises `ConstraintNotMet`."""
        if self._met:
            return []
        if self._needs_call or self._schema is None:
            raise ConstraintNotMet("it did not call a tool")
        texts = [event for event in self._waiting if isinstance(event, Text)]
        text = json_answer("".join(event.text for event in texts), self._schema)
        return [Text(text, [token for event in texts for token in event.ids])]


def json_answer(text: str, schema: dict[str, Any]) -> str:
    """Return the JSON object in ``text``, without a Markdown fence around it. Raises `ConstraintNotMet`."""
    # Imported here, because it takes a tenth of a second, few answers need it, and a restart must be quick. jsonschema,
    # not jsonschema-rs, because only Python code can be interrupted when a schema is made to take for ever.
    import jsonschema
    from referencing import Registry

    stripped = text.strip()
    if fenced := _FENCED.match(stripped):
        stripped = fenced.group(1).strip()
    try:
        value = json.loads(stripped, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ConstraintNotMet("the answer is not valid JSON") from None
    if not isinstance(value, dict) and not schema:
        raise ConstraintNotMet("the answer is not a JSON object")
    fault = None
    try:
        # The re module, for one, warns of patterns that a later Python may read otherwise.
        with warnings.catch_warnings(), _time_limit(CHECK_SECONDS):
            warnings.simplefilter("ignore")
            Validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
            # Without this registry it would fetch whatever address a schema names.
            fault = next(Validator(schema, registry=Registry()).iter_errors(value), None)
    except Exception as error:
        # A schema can be made to raise anything. glm_api.api.json_schema refuses those that are known to.
        print(f"An answer could not be checked: {describe(error)}", flush=True)
        raise ConstraintNotMet("the answer could not be checked against the JSON schema") from None
    if fault is not None:
        raise ConstraintNotMet(f"the answer does not fit the JSON schema at {fault.json_path}")
    return stripped


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after ``seconds``; the re module checks for signals while it matches."""

    def expire(signum: int, frame: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
