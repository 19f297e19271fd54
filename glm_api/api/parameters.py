"""The parameters of all endpoints that generate: model, sampling, stop strings, streaming."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from glm_api.api.fields import (
    Array,
    Boolean,
    Integer,
    NestedObject,
    Number,
    RequestSchema,
    String,
    TokenBiases,
    TokenIds,
    TokenLimit,
    Union,
)
from glm_api.api.parameter_table import COMPLETION, GENERATION, refused
from glm_api.api.response_format import StructuredParameters, StructuredParametersSchema
from glm_api.errors import invalid
from glm_api.pipeline.job import Sampling

DEFAULTS = Sampling()
# Maximum number of new tokens in an answer to a conversation.
DEFAULT_MAX_TOKENS = 2048

MAX_CHOICES = 4
# What llama-server and vLLM take for no seed.
NEW_SEED = -1
MAX_STOPS = 16
MAX_STOP_LENGTH = 256
MAX_STOP_IDS = 1024
MAX_BIASES = 1024
LARGEST_BIAS = 100
LARGEST_PENALTY = 2

# The engine divides by it as a 32-bit float, so it must not round to 0.
MIN_PENALTY = 0.01


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """With ``include_usage`` a stream ends with a chunk that has the token counts.

    With ``continuous_usage_stats`` each chunk has those so far, too.
    """

    include_usage: bool = False
    continuous_usage_stats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters(StructuredParameters):
    """Base of all requests that generate."""

    model: str | None = None
    temperature: float = DEFAULTS.temperature
    top_p: float = DEFAULTS.top_p
    top_k: int = DEFAULTS.top_k
    repetition_penalty: float | None = None
    repeat_penalty: float = DEFAULTS.repetition_penalty
    min_p: float = DEFAULTS.min_p
    presence_penalty: float = DEFAULTS.presence_penalty
    frequency_penalty: float = DEFAULTS.frequency_penalty
    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed_token_ids: list[int] | None = None
    seed: int | None = DEFAULTS.seed
    min_tokens: int = DEFAULTS.min_tokens
    ignore_eos: bool = DEFAULTS.ignore_eos
    stop_token_ids: list[int] = field(default_factory=list)
    stop: str | tuple[str, ...] = ()
    stream: bool = False

    @property
    def told_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell with the log-probability of each token; None tells nothing."""
        return None

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen, and what to tell of them."""
        sampling = Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty or self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            allowed_token_ids=None if self.allowed_token_ids is None else tuple(self.allowed_token_ids),
            seed=None if self.seed == NEW_SEED else self.seed,
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            stop_token_ids=tuple(self.stop_token_ids),
            top_logprobs=self.told_logprobs,
        )
        return replace(sampling, temperature=0.0, top_p=1.0) if sampling.greedy else sampling

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop

    def check_sampling(self, vocabulary_size: int, max_tokens: int) -> None:
        """Raise `ApiError` for token ids that the vocabulary does not have, and for a contradiction.

        ``max_tokens`` is the most new tokens of an answer.
        """
        self._check_ids("logit_bias", self.logit_bias, vocabulary_size)
        self._check_ids("allowed_token_ids", self.allowed_token_ids or (), vocabulary_size)
        self._check_ids("stop_token_ids", self.stop_token_ids, vocabulary_size)
        if self.min_tokens > max_tokens:
            raise invalid(
                f"Invalid 'min_tokens': it must not exceed the maximum number of new tokens, which is {max_tokens}.",
                "min_tokens",
            )

    @staticmethod
    def _check_ids(param: str, ids: Iterable[int], vocabulary_size: int) -> None:
        largest = max(ids, default=0)
        if largest >= vocabulary_size:
            raise invalid(
                f"Invalid '{param}': the model has token ids up to {vocabulary_size - 1}, but one is {largest}.", param
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionParameters(Parameters):
    """Base of the requests that are answered with choices: chat and text completions.

    The most new tokens of a choice have three names: OpenAI's current one, its older one and llama-server's.
    """

    DEFAULT_LIMIT: ClassVar[int] = DEFAULT_MAX_TOKENS

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    n: int = 1
    include_stop_str_in_output: bool = False
    stream_options: StreamOptions | None = None
    return_progress: bool = False
    timings_per_token: bool = False

    @property
    def limit(self) -> int:
        """Maximum number of new tokens in each choice."""
        named = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        return next((limit for limit in named if limit is not None), self.DEFAULT_LIMIT)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk of a stream has the token counts so far."""
        return self.include_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats

    def check_streaming(self) -> None:
        """Raise `ApiError` if a request that does not stream has parameters of a stream."""
        if self.stream:
            return
        if self.stream_options is not None:
            raise invalid("Invalid 'stream_options': it is only allowed with stream: true.", "stream_options")
        for parameter in ("return_progress", "timings_per_token"):
            if getattr(self, parameter):
                raise invalid(f"Invalid '{parameter}': it is only allowed with stream: true.", parameter)


class StreamOptionsSchema(RequestSchema):
    """What a stream contains in addition to the answer."""

    loads = StreamOptions
    include_usage = Boolean(
        load_default=False, metadata={"description": "Send a last chunk with the token counts and no choices."}
    )
    continuous_usage_stats = Boolean(
        load_default=False,
        metadata={"description": "Send the token counts so far in each chunk, too; with `include_usage`, as in vLLM."},
    )


def model_field() -> String:
    """Return the field ``model``."""
    description = (
        "An id of /v1/models. Any other name selects the served model too, unless the server is strict about names."
    )
    return String(max=256, load_default=None, metadata={"description": description})


class ParametersSchema(StructuredParametersSchema):
    """The parameters of all endpoints that generate."""

    loads: ClassVar[type[Any]] = Parameters

    class Meta(RequestSchema.Meta):
        include = refused(GENERATION)

    model = model_field()
    temperature = Number(
        min=0,
        max=2,
        load_default=DEFAULTS.temperature,
        metadata={"description": "Sampling temperature; 0 is greedy."},
    )
    top_p = Number(min=0, max=1, load_default=DEFAULTS.top_p)
    top_k = Integer(
        min=-1,
        max=1_000_000,
        load_default=DEFAULTS.top_k,
        metadata={"description": "Sample from the `top_k` most likely tokens; 0 or -1: from all tokens."},
    )
    repetition_penalty = Number(
        min=MIN_PENALTY,
        max=2,
        load_default=None,
        metadata={
            "description": f"Above 1, the model repeats itself less; {DEFAULTS.repetition_penalty:g}: no penalty."
        },
    )
    repeat_penalty = Number(
        min=MIN_PENALTY,
        max=2,
        load_default=DEFAULTS.repetition_penalty,
        metadata={"description": "llama-server's name of `repetition_penalty`, which takes precedence."},
    )
    min_p = Number(
        min=0,
        max=1,
        load_default=DEFAULTS.min_p,
        metadata={
            "description": "Sample only from tokens that are at least this probable, compared with the likeliest one."
        },
    )
    presence_penalty = Number(
        min=-LARGEST_PENALTY,
        max=LARGEST_PENALTY,
        load_default=DEFAULTS.presence_penalty,
        metadata={"description": "Subtracted once from the logit of each token that the answer has already."},
    )
    frequency_penalty = Number(
        min=-LARGEST_PENALTY,
        max=LARGEST_PENALTY,
        load_default=DEFAULTS.frequency_penalty,
        metadata={"description": "Subtracted from the logit of a token each time that it comes in the answer."},
    )
    logit_bias = TokenBiases(
        bound=LARGEST_BIAS,
        max=MAX_BIASES,
        load_default=dict,
        metadata={
            "description": "Added to the logits, by token id: -100 keeps a token out of the answer, 100 forces it. "
            "`false` is the same as -100."
        },
    )
    allowed_token_ids = TokenIds(
        min=1,
        load_default=None,
        metadata={
            "description": "The answer contains no other tokens. The model ends it only if they include an end token."
        },
    )
    seed = Integer(
        min=-(2**63),
        max=2**64 - 1,
        load_default=DEFAULTS.seed,
        metadata={
            "description": "The same request with the same seed gets the same answer on the same machine. Without a "
            "seed, and with -1, each answer has a new one."
        },
    )
    min_tokens = Integer(
        min=0,
        load_default=DEFAULTS.min_tokens,
        metadata={"description": "The model does not end its answer before it has so many tokens."},
    )
    ignore_eos = Boolean(
        load_default=DEFAULTS.ignore_eos,
        metadata={"description": "The model does not end its answer; only its maximum length or a stop string does."},
    )
    stop_token_ids = TokenIds(
        max=MAX_STOP_IDS, load_default=list, metadata={"description": "Token ids that end the answer, too."}
    )
    stop = Union(
        string=String(min=1, max=MAX_STOP_LENGTH),
        array=Array(String(min=1, max=MAX_STOP_LENGTH), max=MAX_STOPS),
        load_default=(),
        metadata={"description": f"Up to {MAX_STOPS} strings that end the answer, which does not contain them."},
    )
    stream = Boolean(
        load_default=False, metadata={"description": "Send the answer as server-sent events while it is generated."}
    )


class CompletionParametersSchema(ParametersSchema):
    """The parameters of the endpoints that answer with choices."""

    loads: ClassVar[type[Any]] = CompletionParameters

    class Meta(RequestSchema.Meta):
        include = refused(COMPLETION)

    max_completion_tokens = TokenLimit(
        min=1, load_default=None, metadata={"description": "Current name of `max_tokens`; it takes precedence."}
    )
    n_predict = TokenLimit(
        min=1,
        load_default=None,
        metadata={"description": "llama-server's name of `max_tokens`, which takes precedence."},
    )
    n = Integer(
        min=1,
        max=MAX_CHOICES,
        load_default=1,
        metadata={"description": "Number of choices, generated one after the other."},
    )
    include_stop_str_in_output = Boolean(
        load_default=False,
        metadata={"description": "The text ends with the stop string that has ended it, as in vLLM."},
    )
    stream_options = NestedObject(StreamOptionsSchema, load_default=None)
    return_progress = Boolean(
        load_default=False,
        metadata={
            "description": "Send chunks with `prompt_progress` while the prompt is evaluated, as llama-server does."
        },
    )
    timings_per_token = Boolean(
        load_default=False,
        metadata={"description": "Send `timings` so far in each chunk of a stream, as llama-server does."},
    )
