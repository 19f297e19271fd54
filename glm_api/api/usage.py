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
    """Timings: milliseconds, and tokens per second."""

    queue_ms = fields.Float(required=True)
    prompt_ms = fields.Float(required=True)
    predicted_ms = fields.Float(required=True)
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
    """Return the ``timings`` object: milliseconds, and the decoding speed in tokens per second."""
    predicted_ms = sum(answer.predicted_ms for answer in answers)
    # The first token of each answer comes with the prompt's evaluation.
    decoded = sum(max(0, answer.completion_tokens - 1) for answer in answers)
    return {
        "queue_ms": round(queue_ms, 3),
        "prompt_ms": round(sum(answer.prompt_ms for answer in answers), 3),
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_second": round(decoded / predicted_ms * 1000, 3) if predicted_ms else 0.0,
    }


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
