"""Write GGUF files: metadata and tensors, version 3."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scalar = str | bool | int | float
Metadata = Mapping[str, Scalar | Sequence[str] | Sequence[int] | Sequence[float]]
Tensors = Mapping[str, NDArray[Any]]

ALIGNMENT = 32

# GGUF's numbers for the types of values and of tensors.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_TYPES = {"<f4": 0, "<f2": 1}

# GGUF's numbers for the kinds of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def write_gguf(path: Path, metadata: Metadata, tensors: Tensors) -> Path:
    """Write ``metadata`` and ``tensors``, float32 or float16, to ``path``.

    A whole number becomes an unsigned one of 32 bits, in a list a signed one. A list has values of one type and is not
    empty. A tensor has its shape in PyTorch's order: the dimension that runs fastest is last.
    """
    values = [_text(key) + _value(value) for key, value in metadata.items()]
    header, data = bytearray(), bytearray()
    for name, tensor in tensors.items():
        data += bytes(-len(data) % ALIGNMENT)
        shape = tensor.shape[::-1]
        header += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        header += struct.pack("<IQ", _TENSOR_TYPES[tensor.dtype.newbyteorder("<").str], len(data))
        data += tensor.astype(tensor.dtype.newbyteorder("<")).tobytes()
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + header
    path.write_bytes(start + bytes(-len(start) % ALIGNMENT) + data)
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Scalar | Sequence[str] | Sequence[int] | Sequence[float]) -> bytes:
    match value:
        case str():
            return struct.pack("<I", _STRING) + _text(value)
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
    start = struct.pack("<I", _ARRAY)
    if isinstance(value[0], str):
        return start + struct.pack("<IQ", _STRING, len(value)) + b"".join(_text(str(text)) for text in value)
    of_type, number = (_FLOAT32, "f") if isinstance(value[0], float) else (_INT32, "i")
    return start + struct.pack(f"<IQ{len(value)}{number}", of_type, len(value), *value)


def zeros(*shape: int) -> NDArray[np.float32]:
    """Return a tensor of zeros."""
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> NDArray[np.float32]:
    """Return a tensor of ones."""
    return np.ones(shape, np.float32)
