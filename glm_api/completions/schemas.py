"""Request and response schemas of text completions."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.completion import BodySchema, ChunkSchema
from glm_api.api.fields import Boolean, Integer, Unsupported
from glm_api.api.openapi import ErrorSchema, EventData, EventSchema
from glm_api.api.parameters import CompletionParameters, CompletionParametersSchema
from glm_api.api.prompts import PromptInput, PromptsField
from glm_api.completions.logprobs import LogprobsSchema
from glm_api.errors import invalid

MAX_PROMPTS = 16
MAX_LOGPROBS = 5
# The default of OpenAI's API; chat completions have another one.
DEFAULT_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(CompletionParameters):
    """A request for a text completion."""

    prompt: tuple[PromptInput, ...]
    max_tokens: int = DEFAULT_MAX_TOKENS
    echo: bool = False
    logprobs: int | None = None

    @property
    def told_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def prompt_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are told, too."""
        return self.echo and self.logprobs is not None

    def check_echo(self) -> None:
        """Raise `ApiError` for a request that asks for no text at all."""
        if self.max_tokens == 0 and not self.echo:
            raise invalid("Invalid 'max_tokens': 0 is only allowed with echo: true.", "max_tokens")


class CompletionRequestSchema(CompletionParametersSchema):
    """A request for a text completion. Unknown parameters are ignored."""

    loads = CompletionRequest
    prompt = PromptsField(most=MAX_PROMPTS, required=True)
    max_tokens = Integer(
        min=0,
        load_default=DEFAULT_MAX_TOKENS,
        metadata={"description": "Maximum number of new tokens in each choice; 0 only with `echo`."},
    )
    echo = Boolean(load_default=False, metadata={"description": "Return the prompt in front of the answer."})
    logprobs = Integer(
        min=0,
        max=MAX_LOGPROBS,
        load_default=None,
        metadata={
            "description": "Return the log-probability of each token, and so many of the likeliest tokens in its "
            "place; with `echo` for the prompt's tokens, too."
        },
    )

    suffix = Unsupported("", reason="GLM models cannot fill in text before a suffix")
    best_of = Unsupported(1)
    top_logprobs = Unsupported(0, reason="`logprobs` is the number of tokens here")


class CompletionChoiceSchema(Schema):
    """One of the answers."""

    index = fields.Integer(required=True)
    text = fields.String(required=True)
    logprobs = fields.Nested(LogprobsSchema, required=True, allow_none=True)
    finish_reason = fields.String(required=True, validate=validate.OneOf(("stop", "length")))


class CompletionSchema(BodySchema):
    """A text completion."""

    object = fields.String(required=True, validate=validate.Equal("text_completion"))
    choices = fields.List(fields.Nested(CompletionChoiceSchema), required=True)


class CompletionChunkChoiceSchema(Schema):
    """What a chunk adds to one of the answers."""

    index = fields.Integer(required=True)
    text = fields.String(required=True)
    logprobs = fields.Nested(LogprobsSchema, required=True, allow_none=True)
    finish_reason = fields.String(required=True, allow_none=True, validate=validate.OneOf(("stop", "length", None)))


class CompletionChunkSchema(ChunkSchema):
    """A chunk of a streamed text completion."""

    object = fields.String(required=True, validate=validate.Equal("text_completion"))
    choices = fields.List(fields.Nested(CompletionChunkChoiceSchema), required=True)


class CompletionEventSchema(EventSchema):
    """A server-sent event of a streamed text completion."""

    data = EventData(CompletionChunkSchema, ErrorSchema, end="[DONE]")
