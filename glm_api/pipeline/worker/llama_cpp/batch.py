"""How many tokens llama.cpp computes in one go on a CPU.

A cancelled prompt ends behind them, and the other answers wait as long for their next token. So the batch of a large
model on few threads is small. It costs hardly anything there: such a CPU is busy with multiplying, not with reading the
weights.
"""

from __future__ import annotations

import math

from glm_api.pipeline.worker.gguf_file import GgufFile

LEAST_TOKENS = 16
MOST_TOKENS = 128

# A batch should take no longer.
_SECONDS = 2.5
# What a thread computes of quantized weights, roughly: multiplications a second.
_SPEED = 40e9


def cpu_batch_tokens(file: GgufFile, threads: int) -> int:
    """Return the number of tokens, a power of two from `LEAST_TOKENS` to `MOST_TOKENS`."""
    # Each token needs other experts. A small batch would read nearly all of the weights for few tokens.
    if f"{file.architecture}.expert_count" in file.metadata:
        return MOST_TOKENS
    weights = sum(math.prod(tensor.shape) for tensor in file.tensors.values())
    tokens = int(_SECONDS * _SPEED * threads / max(1, weights))
    return 1 << max(LEAST_TOKENS, min(tokens, MOST_TOKENS)).bit_length() - 1
