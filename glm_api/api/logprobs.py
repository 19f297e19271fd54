"""The log-probabilities of tokens, in the shape of chat completions and of the Responses API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from marshmallow import Schema, fields

from glm_api.pipeline.frames import TokenLogprob

# The most of the likeliest tokens that can be told in the place of each token.
MAX_TOP_LOGPROBS = 20
# OpenAI's number for a token that is hardly possible; JSON has no infinity.
LEAST_LOGPROB = -9999.0


class TopLogprobSchema(Schema):
    """One of the likeliest tokens in a place."""

    token = fields.String(required=True)
    logprob = fields.Float(required=True)
    bytes = fields.List(fields.Integer(), required=True)


class TokenLogprobSchema(Schema):
    """The log-probability of a token."""

    token = fields.String(
        required=True, metadata={"description": "Its text; bytes that are no whole character as `\\xNN`."}
    )
    logprob = fields.Float(required=True, metadata={"description": "Natural logarithm; -9999 for probability 0."})
    bytes = fields.List(fields.Integer(), required=True, metadata={"description": "Its UTF-8 bytes."})
    top_logprobs = fields.List(
        fields.Nested(TopLogprobSchema),
        required=True,
        metadata={"description": "The likeliest tokens in its place, the likeliest first."},
    )


def finite(logprob: float) -> float:
    """Return ``logprob`` as a number that JSON has."""
    return logprob if logprob > LEAST_LOGPROB else LEAST_LOGPROB


def token_logprobs(logprobs: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Return the objects that tell ``logprobs``."""
    return [
        {
            **_token(entry.piece, entry.logprob),
            "top_logprobs": [_token(piece, logprob) for _, piece, logprob in entry.top],
        }
        for entry in logprobs
    ]


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    text = piece.decode(errors="backslashreplace")
    return {"token": text, "logprob": finite(logprob), "bytes": list(piece)}
