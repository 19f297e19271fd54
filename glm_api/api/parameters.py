"""The parameters of all endpoints that generate: model, sampling, stop strings, streaming."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from glm_api.api.fields import Array, Boolean, Integer, NestedObject, Number, RequestSchema, String, Union, Unsupported
from glm_api.errors import invalid
from glm_api.pipeline.job import Sampling

DEFAULTS = Sampling()
# Maximum number of new tokens in an answer to a conversation.
DEFAULT_MAX_TOKENS = 2048

MAX_CHOICES = 4
MAX_STOPS = 4
MAX_STOP_LENGTH = 256

# The engine divides by it as a 32-bit float, so it must not round to 0.
MIN_PENALTY = 0.01


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """With ``include_usage`` a stream ends with a chunk that has the token counts."""

    include_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Base of all requests that generate."""

    model: str | None = None
    temperature: float = DEFAULTS.temperature
    top_p: float = DEFAULTS.top_p
    top_k: int = DEFAULTS.top_k
    repetition_penalty: float | None = None
    repeat_penalty: float = DEFAULTS.repetition_penalty
    stop: str | tuple[str, ...] = ()
    stream: bool = False

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        sampling = Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(0, self.top_k),
            repetition_penalty=self.repetition_penalty or self.repeat_penalty,
        )
        return replace(sampling, temperature=0.0, top_p=1.0) if sampling.greedy else sampling

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionParameters(Parameters):
    """Base of the requests that are answered with choices: chat and text completions."""

    n: int = 1
    stream_options: StreamOptions | None = None
    return_progress: bool = False

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check_streaming(self) -> None:
        """Raise `ApiError` if a request that does not stream has parameters of a stream."""
        if self.stream:
            return
        if self.stream_options is not None:
            raise invalid("Invalid 'stream_options': it is only allowed with stream: true.", "stream_options")
        if self.return_progress:
            raise invalid("Invalid 'return_progress': it is only allowed with stream: true.", "return_progress")


class StreamOptionsSchema(RequestSchema):
    """What a stream contains in addition to the answer."""

    loads = StreamOptions
    include_usage = Boolean(
        load_default=False, metadata={"description": "Send a last chunk with the token counts and no choices."}
    )


class ParametersSchema(RequestSchema):
    """The parameters of all endpoints that generate."""

    loads: ClassVar[type[Any]] = Parameters
    model = String(
        max=256,
        load_default=None,
        metadata={
            "description": "An id of /v1/models. Any other name selects the served model too, unless the server "
            "is strict about names."
        },
    )
    temperature = Number(
        min=0,
        max=2,
        load_default=DEFAULTS.temperature,
        metadata={"description": "Sampling temperature; 0 is greedy and reproducible."},
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
    stop = Union(
        string=String(min=1, max=MAX_STOP_LENGTH),
        array=Array(String(min=1, max=MAX_STOP_LENGTH), max=MAX_STOPS),
        load_default=(),
        metadata={"description": "Up to 4 strings that end the answer; the answer does not contain them."},
    )
    stream = Boolean(
        load_default=False, metadata={"description": "Send the answer as server-sent events while it is generated."}
    )

    top_logprobs = Unsupported(0)
    logit_bias = Unsupported({})
    presence_penalty = Unsupported(0)
    frequency_penalty = Unsupported(0)
    min_p = Unsupported(0)
    typical_p = Unsupported(1)
    mirostat = Unsupported(0)
    min_tokens = Unsupported(0)
    ignore_eos = Unsupported(False)
    use_beam_search = Unsupported(False)
    grammar = Unsupported("")
    guided_json = Unsupported(reason="this server has response_format instead")
    guided_regex = Unsupported()
    guided_choice = Unsupported()
    guided_grammar = Unsupported()
    structured_outputs = Unsupported(reason="this server has response_format instead")
    seed = Integer(
        min=-(2**63),
        max=2**64 - 1,
        load_default=None,
        metadata={"description": "Accepted without effect: only temperature 0 is reproducible."},
    )


class CompletionParametersSchema(ParametersSchema):
    """The parameters of the endpoints that answer with choices."""

    loads: ClassVar[type[Any]] = CompletionParameters
    n = Integer(
        min=1,
        max=MAX_CHOICES,
        load_default=1,
        metadata={"description": "Number of choices, generated one after the other."},
    )
    stream_options = NestedObject(StreamOptionsSchema, load_default=None)
    return_progress = Boolean(
        load_default=False,
        metadata={
            "description": "Send chunks with `prompt_progress` while the prompt is evaluated, as llama-server does."
        },
    )
