"""Convert the sampling parameters of a request into chatglm_cpp's."""

from __future__ import annotations

from glm_api.pipeline.job import Sampling
from glm_api.pipeline.worker.bridge import chatglm_cpp


def generation_config(sampling: Sampling) -> chatglm_cpp._C.GenerationConfig:
    """Return chatglm_cpp's configuration."""
    return chatglm_cpp._C.GenerationConfig(
        do_sample=not sampling.greedy,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        repetition_penalty=sampling.repetition_penalty,
    )
