"""Request and response schemas of text completions."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.completion import BodySchema, ChunkSchema
from glm_api.api.fields import Boolean, Integer, RequestSchema, TokenLimit
from glm_api.api.openapi import ErrorSchema, EventData, EventSchema
from glm_api.api.parameter_table import COMPLETIONS, refused
from glm_api.api.parameters import CompletionParameters, CompletionParametersSchema
from glm_api.api.prompts import PromptInput, PromptsField
from glm_api.api.response_format import ANY_TEXT, ResponseFormat, response_format_field
from glm_api.completions.logprobs import LogprobsSchema
from glm_api.errors import invalid

MAX_PROMPTS = 16
MAX_LOGPROBS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(CompletionParameters):
    """A request for a text completion."""

    # The default of OpenAI's API; chat completions have another one.
    DEFAULT_LIMIT = 16

    prompt: tuple[PromptInput, ...]
    echo: bool = False
    logprobs: int | None = None
    response_format: ResponseFormat = ANY_TEXT

    @property
    def told_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def prompt_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are told, too."""
        return self.echo and self.logprobs is not None

    def check_echo(self) -> None:
        """Raise `ApiError` for a request that asks for no text at all."""
        if self.limit == 0 and not self.echo:
            raise invalid("Invalid 'max_tokens': 0 is only allowed with echo: true.", "max_tokens")


class CompletionRequestSchema(CompletionParametersSchema):
    """A request for a text completion. Unknown parameters are ignored."""

    loads = CompletionRequest

    class Meta(RequestSchema.Meta):
        include = refused(COMPLETIONS)

    prompt = PromptsField(most=MAX_PROMPTS, required=True)
    max_tokens = TokenLimit(
        min=0,
        load_default=None,
        metadata={
            "description": f"Maximum number of new tokens in each choice; {CompletionRequest.DEFAULT_LIMIT} by "
            "default, 0 only with `echo`."
        },
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
    response_format = response_format_field()


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
