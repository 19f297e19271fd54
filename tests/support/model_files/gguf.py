"""Write GGUF files: any metadata, and tensors of any bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# GGUF's numbers for the types of values.
UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
_FORMATS = {UINT8: "B", INT8: "b", UINT16: "H", INT16: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?"}
_FORMATS |= {UINT64: "Q", INT64: "q", FLOAT64: "d"}
F32 = 0


@dataclass(frozen=True)
class Typed:
    """A value with its type; a list is an array of values of this type."""

    type: int
    value: float | str | bytes | Sequence[float] | Sequence[str] | Sequence[bytes]


Value = str | bytes | float | list[str] | list[bytes] | list[int] | Typed


@dataclass(frozen=True)
class Tensor:
    """``shape`` is in GGUF's order: the extent of a row comes first. ``offset`` in place of the right one."""

    shape: Sequence[int]
    data: bytes
    type: int = F32
    offset: int | None = None


def zeros(*shape: int) -> Tensor:
    """Return a tensor of 32-bit zeros, in GGUF's order of extents."""
    count = 1
    for extent in shape:
        count *= extent
    return Tensor(shape, bytes(4 * count))


def gguf(
    metadata: Mapping[str, Value], tensors: Mapping[str, Tensor], *, version: int = 3, alignment: int = 32
) -> bytes:
    """Return a file with this content."""
    return gguf_of(list(metadata.items()), list(tensors.items()), version=version, alignment=alignment)


def gguf_of(
    metadata: Sequence[tuple[str, Value]],
    tensors: Sequence[tuple[str, Tensor]],
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Return a file with this content, in which names may be there twice."""
    table, data = bytearray(), bytearray()
    for name, tensor in tensors:
        data += bytes(-len(data) % alignment)
        offset = len(data) if tensor.offset is None else tensor.offset
        table += string(name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        table += struct.pack("<IQ", tensor.type, offset)
        data += tensor.data
    start = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    start += b"".join(string(key) + value(written) for key, written in metadata) + table
    return start + bytes(-len(start) % alignment) + data


def string(text: str | bytes) -> bytes:
    """Return a string with its length."""
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(encoded)) + encoded


def value(written: Value) -> bytes:
    """Return a value with its type."""
    match written:
        case Typed(type, list(values)):
            return struct.pack("<IIQ", ARRAY, type, len(values)) + b"".join(_item(type, item) for item in values)
        case Typed(type, single):
            return struct.pack("<I", type) + _item(type, single)
        case str() | bytes():
            return value(Typed(STRING, written))
        case bool():
            return value(Typed(BOOL, written))
        case int():
            return value(Typed(UINT32, written))
        case float():
            return value(Typed(FLOAT32, written))
        case _:
            numbers = any(isinstance(item, int) for item in written)
            return value(Typed(INT32 if numbers else STRING, written))


def _item(type: int, item: object) -> bytes:
    if isinstance(item, str | bytes):
        return string(item)
    return struct.pack(f"<{_FORMATS[type]}", item)
