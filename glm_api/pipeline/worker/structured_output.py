"""Structured output: check that an answer is JSON and matches the requested schema.

chatglm_cpp has no grammars and gives no logits, so the demand is put into the prompt, the answer is checked here, and
the pipeline tries again a bounded number of times.
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

# A schema may hold patterns that take exponential time; the pipeline must not hang for one.
CHECK_SECONDS = 2.0
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*?)\n?```\Z", re.DOTALL)


class DemandNotMet(Exception):
    """The answer is not what was demanded; the message says how."""


def json_answer(text: str, schema: dict[str, Any]) -> str:
    """The JSON object in ``text``, out of a Markdown fence if it stands in one. Raises `DemandNotMet`."""
    # Here, because it takes a tenth of a second, which a restart must not, and few answers need it. And this one, not
    # jsonschema-rs: only Python code can be interrupted when a schema is made to take for ever.
    import jsonschema
    from referencing import Registry

    stripped = text.strip()
    if fenced := _FENCED.match(stripped):
        stripped = fenced.group(1).strip()
    try:
        value = json.loads(stripped, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise DemandNotMet("the answer is not valid JSON") from None
    if not isinstance(value, dict) and not schema:
        raise DemandNotMet("the answer is not a JSON object")
    fault = None
    try:
        # Among others, re warns of patterns that a later Python may read otherwise.
        with warnings.catch_warnings(), _time_limit(CHECK_SECONDS):
            warnings.simplefilter("ignore")
            Validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
            # Without this registry it would fetch whatever address a schema names.
            fault = next(Validator(schema, registry=Registry()).iter_errors(value), None)
    except Exception as error:
        # A schema can be made to raise anything: glm_api.api.json_schema refuses what is known to.
        print(f"An answer could not be checked: {describe(error)}", flush=True)
        raise DemandNotMet("the answer could not be checked against the JSON schema") from None
    if fault is not None:
        raise DemandNotMet(f"the answer does not fit the JSON schema at {fault.json_path}")
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
