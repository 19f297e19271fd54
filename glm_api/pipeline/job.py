"""A job for the pipeline: prompts, and how to answer them."""

from __future__ import annotations

from dataclasses import dataclass, field

from glm_api.pipeline.model_info import OutputSpec

# A temperature or top_p below this means greedy sampling. The engine calculates with 32-bit floats: dividing by much
# less overflows them, and the least numbers of JSON are 0 to them, which means something else.
GREEDY_BELOW = 1e-3


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. ``temperature`` 0 is greedy; ``top_k`` 0 means all tokens.

    - ``seed``: the same seed gives the same answer to the same request; None takes a new one each time.
    - ``logit_bias`` is added to the logits, by token id. ``allowed_token_ids``: no other token is ever chosen; None
      allows all.
    - ``min_tokens``: the answer does not end before it has so many. ``ignore_eos``: no end token ends it.
      ``stop_token_ids`` end it as the model's own end tokens do.
    - ``top_logprobs``: tell the log-probability of each token, and of so many of the likeliest in its place; None tells
      none. ``prompt_logprobs``: tell those of the prompt's tokens too, each by what stands before it.
    """

    temperature: float = 0.95
    top_p: float = 0.7
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] | None = None
    seed: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    top_logprobs: int | None = None
    prompt_logprobs: bool = False

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always chosen."""
        return self.temperature < GREEDY_BELOW or self.top_p < GREEDY_BELOW


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts to answer one after the other, with one place in the queue; for ``n`` choices the same prompt n times.

    ``max_tokens`` is the most new tokens of each answer, which ends at the end of the context in any case. ``image`` is
    the undecoded file that the prompt shows. ``progress`` asks for `Progress` events.
    """

    prompts: list[list[int]]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    output: OutputSpec = field(default_factory=OutputSpec)
    image: bytes | None = None
    progress: bool = False
