"""Write numpy's arrays to a GGUF file, and what the models say of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.model_files.gguf import F32, FLOAT32, Tensor, Typed, Value, gguf

Metadata = Mapping[str, Value]

F16 = 1
_TENSOR_TYPES = {np.dtype("<f4"): F32, np.dtype("<f2"): F16}

# GGUF's numbers for the kinds of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def write_gguf(path: Path, metadata: Metadata, tensors: Mapping[str, NDArray[Any]]) -> Path:
    """Write ``metadata`` and ``tensors``, float32 or float16, to ``path``.

    A tensor has its shape in PyTorch's order: the extent of a row is last.
    """
    written = {
        name: Tensor(tensor.shape[::-1], tensor.tobytes(), _TENSOR_TYPES[tensor.dtype])
        for name, tensor in tensors.items()
    }
    path.write_bytes(gguf(metadata, written))
    return path


def floats(*values: float) -> Typed:
    """Return a list of 32-bit floats."""
    return Typed(FLOAT32, list(values))


def zeros(*shape: int) -> NDArray[np.float32]:
    """Return a tensor of zeros."""
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> NDArray[np.float32]:
    """Return a tensor of ones."""
    return np.ones(shape, np.float32)
