"""Request and response schemas of llama-server's own completions."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import Schema, fields, validate

from glm_api.api.fields import Boolean, Integer, RequestSchema
from glm_api.api.logprobs import MAX_TOP_LOGPROBS
from glm_api.api.openapi import ErrorSchema, EventData, EventSchema
from glm_api.api.parameter_table import NATIVE, refused
from glm_api.api.parameters import Parameters, ParametersSchema
from glm_api.api.prompts import PromptInput, PromptsField
from glm_api.api.usage import PromptProgressSchema, TimingsSchema
from glm_api.errors import invalid

MAX_PROMPTS = 16
# The context ends an answer before it has so many tokens.
UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRequest(Parameters):
    """A request for completions of one or several prompts. An ``n_predict`` below 0: as many as the context holds."""

    prompt: tuple[PromptInput, ...]
    n_predict: int = -1
    n_probs: int = 0
    return_tokens: bool = False
    return_progress: bool = False
    timings_per_token: bool = False

    @property
    def told_logprobs(self) -> int | None:
        return self.n_probs or None

    @property
    def limit(self) -> int:
        """Maximum number of new tokens."""
        return UNLIMITED if self.n_predict < 0 else self.n_predict

    def check_streaming(self) -> None:
        """Raise `ApiError` if a request that does not stream has parameters of a stream."""
        for parameter in ("return_progress", "timings_per_token"):
            if getattr(self, parameter) and not self.stream:
                raise invalid(f"Invalid '{parameter}': it is only allowed with stream: true.", parameter)


class NativeRequestSchema(ParametersSchema):
    """A request for a completion, as llama-server takes it. Unknown parameters are ignored."""

    loads = NativeRequest

    class Meta(RequestSchema.Meta):
        include = refused(NATIVE)

    prompt = PromptsField(most=MAX_PROMPTS, required=True)
    n_predict = Integer(
        min=-2,
        load_default=-1,
        metadata={"description": "Maximum number of new tokens; -1 and -2: as many as the context holds."},
    )
    n_probs = Integer(
        min=0,
        max=MAX_TOP_LOGPROBS,
        load_default=0,
        metadata={"description": "Return the log-probability of each token, and so many of the likeliest tokens."},
    )
    return_tokens = Boolean(
        load_default=False, metadata={"description": "Return the token ids of the answer; a stream always has them."}
    )
    return_progress = Boolean(
        load_default=False, metadata={"description": "Send `prompt_progress` while the prompt is evaluated."}
    )
    timings_per_token = Boolean(
        load_default=False, metadata={"description": "Send `timings` so far in each event of a stream."}
    )


class ProbabilitySchema(Schema):
    """The log-probability of a token."""

    id = fields.Integer(required=True)
    token = fields.String(required=True)
    bytes = fields.List(fields.Integer(), required=True)
    logprob = fields.Float(required=True)


class TokenProbabilitySchema(ProbabilitySchema):
    """The log-probability of a token of the answer, and the likeliest tokens in its place."""

    top_logprobs = fields.List(fields.Nested(ProbabilitySchema), required=True)


class PieceSchema(Schema):
    """A piece of the answer; of the last one, or of an answer that is not streamed, `stop` is true."""

    index = fields.Integer(required=True, metadata={"description": "Which of the prompts is answered."})
    content = fields.String(required=True)
    tokens = fields.List(fields.Integer(), required=True)
    stop = fields.Boolean(required=True)
    id_slot = fields.Integer(required=True, metadata={"description": "The cache slot; -1 if it is not known."})
    tokens_predicted = fields.Integer(required=True)
    tokens_evaluated = fields.Integer(required=True)
    completion_probabilities = fields.List(fields.Nested(TokenProbabilitySchema))
    timings = fields.Nested(TimingsSchema)
    prompt_progress = fields.Nested(PromptProgressSchema)
    model = fields.String()
    prompt = fields.String()
    stop_type = fields.String(validate=validate.OneOf(("eos", "limit", "word")))
    stopping_word = fields.String()
    has_new_line = fields.Boolean()
    truncated = fields.Boolean(validate=validate.Equal(False))
    tokens_cached = fields.Integer()
    generation_settings = fields.Dict()


class NativeEventSchema(EventSchema):
    """A server-sent event of a streamed completion."""

    data = EventData(PieceSchema, ErrorSchema)
