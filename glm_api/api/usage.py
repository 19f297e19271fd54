"""Token counts, timings and prompt progress of an answer, in the shapes that clients know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marshmallow import Schema, fields

from glm_api.api.generate import Answer
from glm_api.pipeline.frames import Progress


class PromptTokensDetailsSchema(Schema):
    """Details of the prompt's tokens."""

    cached_tokens = fields.Integer(
        required=True, metadata={"description": "Prompt tokens that were taken from the cache."}
    )


class CompletionTokensDetailsSchema(Schema):
    """Details of the answer's tokens."""

    reasoning_tokens = fields.Integer(
        required=True, metadata={"description": "Tokens that the model thought before it answered."}
    )


class UsageSchema(Schema):
    """Token counts."""

    prompt_tokens = fields.Integer(required=True)
    completion_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)
    prompt_tokens_details = fields.Nested(PromptTokensDetailsSchema, required=True)
    completion_tokens_details = fields.Nested(
        CompletionTokensDetailsSchema, metadata={"description": "If the model has thought."}
    )


class TimingsSchema(Schema):
    """Timings, as llama-server tells them: tokens, milliseconds, and tokens per second. `queue_ms` is this server's."""

    queue_ms = fields.Float(required=True)
    cache_n = fields.Integer(required=True, metadata={"description": "Prompt tokens that were in the cache."})
    prompt_n = fields.Integer(required=True, metadata={"description": "Prompt tokens that were evaluated."})
    prompt_ms = fields.Float(required=True)
    prompt_per_token_ms = fields.Float(required=True)
    prompt_per_second = fields.Float(required=True)
    predicted_n = fields.Integer(required=True, metadata={"description": "Tokens of the answer."})
    predicted_ms = fields.Float(required=True)
    predicted_per_token_ms = fields.Float(required=True)
    predicted_per_second = fields.Float(required=True)


class PromptProgressSchema(Schema):
    """Progress of the prompt's evaluation: tokens, and milliseconds so far."""

    total = fields.Integer(required=True)
    cache = fields.Integer(required=True)
    processed = fields.Integer(required=True)
    time_ms = fields.Integer(required=True)


def usage(answers: Sequence[Answer], choices: int = 1) -> dict[str, Any]:
    """Return the ``usage`` object; each run of ``choices`` answers shares a prompt, which counts once."""
    prompt = sum(answer.prompt_tokens for answer in answers[::choices])
    completion = sum(answer.completion_tokens for answer in answers)
    reasoning = sum(answer.reasoning_tokens for answer in answers)
    thought = {"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning else {}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(answer.cached_tokens for answer in answers[::choices])},
        **thought,
    }


def timings(answers: Sequence[Answer], queue_ms: float) -> dict[str, float]:
    """Return the ``timings`` object. The rate of decoding does not count the first token of each answer."""
    cached = sum(answer.cached_tokens for answer in answers)
    read = sum(answer.prompt_tokens for answer in answers) - cached
    prompt_ms = sum(answer.prompt_ms for answer in answers)
    predicted_ms = sum(answer.predicted_ms for answer in answers)
    # The first token of each answer comes with the prompt's evaluation.
    decoded = sum(max(0, answer.completion_tokens - 1) for answer in answers)
    return {
        "queue_ms": round(queue_ms, 3),
        "cache_n": cached,
        "prompt_n": read,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": _ratio(prompt_ms, read),
        "prompt_per_second": _ratio(1000 * read, prompt_ms),
        "predicted_n": sum(answer.completion_tokens for answer in answers),
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_token_ms": _ratio(predicted_ms, decoded),
        "predicted_per_second": _ratio(1000 * decoded, predicted_ms),
    }


def _ratio(number: float, of: float) -> float:
    return round(number / of, 3) if of else 0.0


def progress(event: Progress) -> dict[str, Any]:
    """Return the ``prompt_progress`` object of a chunk, as llama-server sends it."""
    return {
        "prompt_progress": {
            "total": event.total,
            "cache": event.cached,
            "processed": event.processed,
            "time_ms": round(event.milliseconds),
        }
    }
