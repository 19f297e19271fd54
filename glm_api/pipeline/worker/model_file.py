"""Looks at a GGML model file before chatglm_cpp does.

chatglm_cpp maps the file and trusts every length in it: a truncated download ends the process with a signal, a file of
another kind with a line about magic numbers. This module walks the header and the table of tensors (a few kilobytes of
reading), says in one line what is wrong with a file, and computes what the model and its cache slots cost.

The layout is that of chatglm.cpp's `Pipeline::Pipeline` and `ModelLoader::read_state_dict` (version 0.4.2).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final


class ModelFileError(Exception):
    """The file cannot be served; the message is one line that says why and what to do."""


CHATGLM: Final = 1
CHATGLM2: Final = 2
CHATGLM3: Final = 3
CHATGLM4: Final = 4
CHATGLM4V: Final = 1004

_TYPES: Final = (CHATGLM, CHATGLM2, CHATGLM3, CHATGLM4, CHATGLM4V)
_VISION_BYTES: Final = 11 * 4
_MOST_HEADER_VALUE: Final = 1 << 24
_MOST_LAYERS: Final = 1024

# ggml_type -> (values in a block, bytes of a block): what chatglm_cpp's converter writes.
_BLOCKS: Final = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)}
_OTHER_KINDS: Final = (
    (b"GGUF", "a GGUF file, made for llama.cpp; chatglm-cpp reads GGML files"),
    (b"PK\x03\x04", "a PyTorch or zip archive"),
    (b"\x80", "a pickle"),
    (b"<", "an HTML or XML page, perhaps the error page of a download"),
    (b"{", "a JSON file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (run git lfs pull)"),
)
_HOW_TO_GET_ONE: Final = "Convert the model with `python -m chatglm_cpp.convert` and set GLM_MODEL to its output."


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the header says. ``model_type`` is chatglm_cpp's; ``max_length`` is in tokens; the tokenizer is a slice of
    the file (a SentencePiece model, or base64 ranks for GLM-4)."""

    path: Path
    model_type: int
    vocabulary_size: int
    hidden_size: int
    attention_heads: int
    key_value_heads: int
    layers: int
    virtual_tokens: int
    max_length: int
    tokenizer_offset: int
    tokenizer_bytes: int
    file_bytes: int

    def slot_bytes(self, max_length: int) -> int:
        """Memory of one cache slot: keys and values in 16 bits for ``max_length`` tokens, in every layer."""
        head_size = self.hidden_size // self.attention_heads
        tokens = max_length + self.virtual_tokens
        return 2 * 2 * self.layers * self.key_value_heads * head_size * tokens


def inspect(path: Path) -> ModelFile:
    """Read the header and check that every tensor lies inside the file. Raises `ModelFileError`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            model = _read_header(path, file, size)
            _check_tensors(path, file, model)
            return model
    except IsADirectoryError:
        raise ModelFileError(f"{path.name} is a directory, not a GGML file. {_HOW_TO_GET_ONE}") from None
    except OSError as error:
        raise ModelFileError(f"{path.name} cannot be read: {error.strerror}. Check GLM_MODEL.") from None
    except struct.error:
        raise ModelFileError(f"{path.name} ends too early: the download or copy is incomplete.") from None


def _read_header(path: Path, file: BinaryIO, size: int) -> ModelFile:
    magic = file.read(24)
    if not magic.startswith(b"ggml"):
        raise ModelFileError(f"{path.name} is {_kind_of(magic)}. {_HOW_TO_GET_ONE}")
    file.seek(4)
    model_type, version = _integers(file, 2)
    if model_type not in _TYPES:
        raise ModelFileError(f"{path.name} holds a model of unknown type {model_type}. {_HOW_TO_GET_ONE}")
    if version == 2:
        values = struct.unpack("<7if1if3i", file.read(52))
        _, vocabulary, hidden, heads, kv_heads, layers, _, _, virtual, _, max_length, _, _ = values
    elif version == 1 and model_type in (CHATGLM, CHATGLM2, CHATGLM3):
        _, vocabulary, hidden, heads, layers, _, max_length, *_ = _integers(file, 11)
        kv_heads = heads if model_type == CHATGLM else _integers(file, 1)[0]
        virtual = 0
    else:
        raise ModelFileError(f"{path.name} has layout version {version}, which chatglm-cpp 0.4.2 does not read.")
    if model_type == CHATGLM:
        kv_heads = heads
    if model_type == CHATGLM4V:
        file.seek(_VISION_BYTES, os.SEEK_CUR)
    (tokenizer_bytes,) = _integers(file, 1)
    numbers = (vocabulary, hidden, heads, kv_heads, layers, max_length)
    if not all(0 < number <= _MOST_HEADER_VALUE for number in numbers) or hidden % heads or layers > _MOST_LAYERS:
        raise ModelFileError(f"{path.name} is damaged: its header makes no sense.")
    if not 0 < tokenizer_bytes <= size - file.tell():
        raise ModelFileError(f"{path.name} ends too early: the download or copy is incomplete.")
    return ModelFile(
        path=path,
        model_type=model_type,
        vocabulary_size=vocabulary,
        hidden_size=hidden,
        attention_heads=heads,
        key_value_heads=kv_heads,
        layers=layers,
        virtual_tokens=virtual,
        max_length=max_length,
        tokenizer_offset=file.tell(),
        tokenizer_bytes=tokenizer_bytes,
        file_bytes=size,
    )


def _check_tensors(path: Path, file: BinaryIO, model: ModelFile) -> None:
    position = model.tokenizer_offset + model.tokenizer_bytes
    missing = _needed_tensors(model)
    if position >= model.file_bytes:
        raise ModelFileError(f"{path.name} ends too early: it holds a tokenizer but no weights.")
    while position < model.file_bytes:
        file.seek(position)
        (name_bytes,) = _integers(file, 1)
        if not 0 < name_bytes <= 1024:
            raise ModelFileError(f"{path.name} is damaged: its table of tensors makes no sense.")
        missing.discard(file.read(name_bytes))
        (dimensions,) = _integers(file, 1)
        if not 0 < dimensions <= 4:
            raise ModelFileError(f"{path.name} is damaged: its table of tensors makes no sense.")
        *shape, kind = _integers(file, dimensions + 1)
        if kind not in _BLOCKS or min(shape) <= 0:
            raise ModelFileError(f"{path.name} is damaged, or its tensors are of a type that is not known ({kind}).")
        values = 1
        for extent in shape:
            values *= extent
        block_values, block_bytes = _BLOCKS[kind]
        start = (file.tell() + 15) & ~15
        position = start + values // block_values * block_bytes
        if position > model.file_bytes:
            raise ModelFileError(f"{path.name} ends too early: the download or copy is incomplete.")
    if missing:
        raise ModelFileError(f"{path.name} ends too early: {len(missing)} tensors are missing.")


def _needed_tensors(model: ModelFile) -> set[bytes]:
    """Tensors without which chatglm_cpp would load the file and crash at the first token."""
    if model.model_type == CHATGLM:
        return set()  # here it notices by itself
    needed = {b"transformer.output_layer.weight", b"transformer.encoder.final_layernorm.weight"}
    parts = (b"self_attention.query_key_value.weight", b"mlp.dense_h_to_4h.weight", b"mlp.dense_4h_to_h.weight")
    needed.update(b"transformer.encoder.layers.%d.%b" % (i, part) for i in range(model.layers) for part in parts)
    return needed


def _integers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))


def _kind_of(magic: bytes) -> str:
    if not magic:
        return "empty"
    # A safetensors file begins with the length of its JSON header, in 8 bytes.
    if magic[8:9] == b"{" and magic[5:8] == b"\0\0\0":
        return "a safetensors file"
    for start, kind in _OTHER_KINDS:
        if magic.startswith(start):
            return kind
    return "no GGML model file"
