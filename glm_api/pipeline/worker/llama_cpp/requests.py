"""The bodies of llama.cpp's ``/completion``: our sampling parameters by its names."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Any

from glm_api.pipeline.job import Sampling

# One more bit would include the number that stands for a random seed.
_LARGEST_SEED = 2**31 - 1
# The order is vLLM's, as with chatglm-cpp.
_SAMPLERS = ("penalties", "temperature", "min_p", "top_k", "top_p")
_GREEDY_SAMPLERS = ("penalties", "top_k")
# The last event repeats the prompt and all parameters unless only these fields are asked for.
_FIELDS = ("tokens", "tokens_predicted", "completion_probabilities", "stop", "timings")


def completion_body(
    sampling: Sampling,
    prompt: list[int],
    *,
    limit: int,
    index: int,
    slot: int | None,
    size: int,
    context: int,
    whole: bool = True,
    grammar: str | None,
    forbidden: Collection[int] = (),
) -> dict[str, Any]:
    """Return the request for at most ``limit`` ids behind ``prompt``: one event an id, or one for all.

    It is one for all where none may be missing: with log-probabilities, and if they are not the ``whole`` rest.

    ``index`` tells answers of one request apart. ``forbidden`` ids never come; ids are below ``size``. ``context`` is
    the length of a slot's context.
    """
    body: dict[str, Any] = {
        "prompt": prompt,
        "n_predict": limit,
        # A stream lacks the log-probabilities of the ids in the middle of a character, and the ids at its end, see
        # `LostIds`.
        "stream": whole and sampling.top_logprobs is None,
        "return_tokens": True,
        "return_progress": True,
        "cache_prompt": True,
        "response_fields": _FIELDS,
        **sampling_body(sampling, index, context),
        **bias_body(sampling, size, forbidden),
    }
    if slot is not None:
        body["id_slot"] = slot
    if grammar is not None:
        body["grammar"] = f"%llguidance {{}}\n{grammar}"
    if sampling.top_logprobs is not None:
        # With 0 it would tell nothing of the chosen id either.
        body["n_probs"] = max(1, sampling.top_logprobs)
    return body


def sampling_body(sampling: Sampling, index: int, context: int) -> dict[str, Any]:
    """Return how to choose among the ids, for any of llama.cpp's endpoints."""
    body: dict[str, Any] = {
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        # All ids of prompt and answer count. llama.cpp takes memory for as many as are named here.
        "repeat_last_n": context,
    }
    if sampling.greedy:
        return {**body, "samplers": _GREEDY_SAMPLERS, "temperature": 1.0, "top_k": 1}
    return {
        **body,
        "samplers": _SAMPLERS,
        "temperature": sampling.temperature,
        "min_p": sampling.min_p,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        **({} if sampling.seed is None else {"seed": zlib.crc32(f"{sampling.seed}/{index}".encode()) & _LARGEST_SEED}),
    }


def bias_body(sampling: Sampling, size: int, forbidden: Collection[int] = ()) -> dict[str, Any]:
    """Return the biases of the ids below ``size``; ``forbidden`` ids and those that are not allowed never come."""
    biases = {token: bias for token, bias in sampling.logit_bias.items() if token < size}
    bans = set(forbidden)
    if sampling.allowed_token_ids is not None:
        bans |= set(range(size)).difference(sampling.allowed_token_ids)
    if not biases and not bans:
        return {}
    kept = [[token, bias] for token, bias in biases.items() if token not in bans]
    return {"logit_bias": [*kept, *([token, False] for token in bans)]}
