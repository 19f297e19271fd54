"""What chat completions and text completions share: the keys of each body and each chunk, and their schemas."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema, fields

from glm_api.api.generate import Answer
from glm_api.api.usage import PromptProgressSchema, TimingsSchema, UsageSchema, timings, usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A completion that is being answered.

    ``choices`` is the number of answers to each prompt; ``logprobs`` tells the log-probabilities of their tokens.
    ``stop_in_text``: a text ends with the stop string that has ended it.
    ``continuous_usage`` and ``timings_per_token``: each chunk of a stream has the token counts and the timings so far.
    """

    id: str
    model: str
    fingerprint: str
    choices: int = 1
    logprobs: bool = False
    stop_in_text: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    timings_per_token: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def text(self, answer: Answer) -> str:
        """Return the text of ``answer`` as it is told."""
        return answer.text + answer.stop_string if self.stop_in_text else answer.text

    def head(self, object: str) -> dict[str, Any]:
        """Return the keys that come first in each body and chunk; ``object`` tells which of them it is."""
        return {
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def body(
        self, object: str, choices: Sequence[dict[str, Any]], answers: Sequence[Answer], queue_ms: float
    ) -> dict[str, Any]:
        """Return the body of a completion that is not streamed; ``choices`` are ``answers`` rendered."""
        return {
            **self.head(object),
            "choices": choices,
            "usage": usage(answers, self.choices),
            "timings": timings(answers, queue_ms),
        }


class HeadSchema(Schema):
    """The keys that each body and each chunk have."""

    id = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    system_fingerprint = fields.String(required=True)


class BodySchema(HeadSchema):
    """What all bodies share."""

    usage = fields.Nested(UsageSchema, required=True)
    timings = fields.Nested(TimingsSchema, required=True)


class ChunkSchema(HeadSchema):
    """What all chunks share."""

    usage = fields.Nested(UsageSchema, allow_none=True, metadata={"description": "Only with `include_usage`."})
    timings = fields.Nested(TimingsSchema, metadata={"description": "In the chunk with `finish_reason`, or in each."})
    prompt_progress = fields.Nested(PromptProgressSchema, metadata={"description": "With `return_progress`."})
