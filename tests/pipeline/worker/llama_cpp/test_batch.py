"""A batch is small where it would take long, and large where a token needs few of the weights."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from glm_api.pipeline.worker.gguf_file import GgufFile, GgufTensor
from glm_api.pipeline.worker.llama_cpp.batch import cpu_batch_tokens


def model(weights: int, experts: bool = False) -> GgufFile:
    """Return a file with two tensors that hold ``weights`` numbers in all."""
    tensor = GgufTensor((1000, weights // 2000), 2, Path("x.gguf"), 0, 0)
    metadata = {"glm4.block_count": 40, **({"glm4.expert_count": 128} if experts else {})}
    return Mock(GgufFile, architecture="glm4", metadata=metadata, tensors={"a": tensor, "b": tensor})


@pytest.mark.parametrize(
    ("weights", "threads", "tokens"),
    [
        (4_000_000, 1, 128),
        (1_500_000_000, 1, 64),
        (6_200_000_000, 1, 16),
        (6_200_000_000, 4, 64),
        (6_200_000_000, 16, 128),
        (32_000_000_000, 1, 16),
    ],
)
def test_the_batch_fits_model_and_threads(weights: int, threads: int, tokens: int) -> None:
    assert cpu_batch_tokens(model(weights), threads) == tokens


def test_the_batch_of_a_model_of_experts_is_large() -> None:
    assert cpu_batch_tokens(model(106_000_000_000, experts=True), 1) == 128
