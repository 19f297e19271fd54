"""Check a GGML model file before chatglm_cpp opens it.

chatglm_cpp maps the file and trusts every number in it: a truncated download or a flipped bit ends the process with a
signal, or makes a model that talks nonsense. This module reads the header and the table of tensors (a few kilobytes),
says in one line what is wrong with a file, and computes how much memory the model and its cache slots take.

The layout is that of chatglm.cpp's `Pipeline::Pipeline` and `ModelLoader::read_state_dict` (version 0.4.2). The tensors
are those that its converter writes. Each must be there once, in the shape that the header gives and in the type that
chatglm_cpp expects, and no other tensor may be there.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from glm_api.pipeline.worker.service import LoadError


class ModelFileError(LoadError):
    """The file cannot be served; the message says in one line why, and what to do."""


CHATGLM: Final = 1
CHATGLM2: Final = 2
CHATGLM3: Final = 3
CHATGLM4: Final = 4
CHATGLM4V: Final = 1004

_TYPES: Final = (CHATGLM, CHATGLM2, CHATGLM3, CHATGLM4, CHATGLM4V)
_MOST_MAX_LENGTH: Final = 1 << 24
# chatglm_cpp has room for 2,048 tensors, and for a graph of 8,192 nodes. Real models have 28 to 40 layers, and GLM-4V
# has 63 more for images.
_MOST_LAYERS: Final = 100

# For each ggml_type that chatglm_cpp's converter writes: values in a block, and bytes of a block.
_F32, _F16 = 0, 1
_BLOCKS: Final = {_F32: (1, 4), _F16: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)}
_LFS_POINTER: Final = "a Git LFS pointer, not the file itself"
_OTHER_KINDS: Final = (
    (b"GGUF", "a GGUF file, made for llama.cpp; chatglm-cpp reads GGML files"),
    (b"PK\x03\x04", "a PyTorch or zip archive"),
    (b"\x80", "a pickle"),
    (b"<", "an HTML or XML page, perhaps the error page of a download"),
    (b"{", "a JSON file"),
    (b"version https://git-lfs", _LFS_POINTER),
)
_HOW_TO_GET_ONE: Final = "Convert the model with `python -m chatglm_cpp.convert` and set GLM_MODEL to its output."
_GET_AGAIN: Final = "Download or convert it again."
_LONGEST_NAME: Final = 128

Tensor = tuple[tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class Vision:
    """The vision record of a GLM-4V file. Sizes of images and patches are in pixels."""

    type: int
    hidden_size: int
    image_size: int
    channels: int
    intermediate_size: int
    epsilon: float
    heads: int
    layers: int
    positions: int
    patch_size: int
    scaling_factor: float

    @property
    def grid(self) -> int:
        """The width of an image in patches, which is also its height."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """The tokens that an image takes of the context beyond the ids that stand for it.

        Four patches share a place, and the first place has an id.
        """
        side: int = self.grid // 2
        return side * side - 1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the header says.

    ``model_type`` is chatglm_cpp's, and ``weight_type`` is ggml's. ``max_length`` is in tokens. The tokenizer is a
    slice of the file: a SentencePiece model, or base64 ranks for GLM-4.
    """

    path: Path
    model_type: int
    weight_type: int
    vocabulary_size: int
    hidden_size: int
    attention_heads: int
    key_value_heads: int
    layers: int
    intermediate_size: int
    epsilon: float
    virtual_tokens: int
    rope_theta: float
    max_length: int
    end_id: int
    vision: Vision | None
    tokenizer_offset: int
    tokenizer_bytes: int
    file_bytes: int

    @property
    def head_size(self) -> int:
        """The number of values in an attention head."""
        return self.hidden_size // self.attention_heads

    @property
    def image_tokens(self) -> int:
        """The tokens that an image takes of the context beyond its ids; 0 for a model that accepts none."""
        return 0 if self.vision is None else self.vision.image_tokens

    def slot_bytes(self, max_length: int) -> int:
        """Return the bytes of a cache slot: keys and values of 16 bits for ``max_length`` tokens, in every layer."""
        tokens = max_length + self.virtual_tokens
        return 2 * 2 * self.layers * self.key_value_heads * self.head_size * tokens


def inspect(path: Path) -> ModelFile:
    """Read the header; check that it makes sense and that each tensor is in the file as the header says.

    Raises `ModelFileError`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            model = _read_header(path, file, size)
            if (fault := _header_fault(model)) is not None:
                raise ModelFileError(f"{path.name} is damaged: its header makes no sense ({fault}). {_GET_AGAIN}")
            if not 0 < model.tokenizer_bytes <= size - model.tokenizer_offset:
                raise ModelFileError(f"{path.name} ends too early: the download or copy is incomplete.")
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
        kind = kind_of(magic) or "not a model file that this server reads"
        # Nobody has converted a file of llama.cpp's: they come as they are.
        otherwise = "Download it again." if path.suffix.lower() == ".gguf" else _HOW_TO_GET_ONE
        raise ModelFileError(f"{path.name} is {kind}. {how_to_mend(kind, otherwise)}")
    file.seek(4)
    model_type, version = _integers(file, 2)
    if model_type not in _TYPES:
        raise ModelFileError(f"{path.name} holds a model of unknown type {model_type}. {_HOW_TO_GET_ONE}")
    if version == 2:
        values = struct.unpack("<7if1if3i", file.read(52))
        weight_type, vocabulary, hidden, heads, kv_heads, layers, intermediate = values[:7]
        epsilon, virtual, theta, max_length, end, _ = values[7:]
    elif version == 1 and model_type in (CHATGLM, CHATGLM2, CHATGLM3):
        weight_type, vocabulary, hidden, heads, layers, intermediate, max_length, _, end, _, _ = _integers(file, 11)
        kv_heads = heads if model_type == CHATGLM else _integers(file, 1)[0]
        # These are chatglm_cpp's values for files of this version.
        epsilon, virtual, theta = 1e-5, 0, 10000.0
    else:
        raise ModelFileError(f"{path.name} has layout version {version}, which chatglm-cpp 0.4.2 does not read.")
    vision = Vision(*struct.unpack("<5if4if", file.read(44))) if model_type == CHATGLM4V else None
    (tokenizer_bytes,) = _integers(file, 1)
    return ModelFile(
        path=path,
        model_type=model_type,
        weight_type=weight_type,
        vocabulary_size=vocabulary,
        hidden_size=hidden,
        attention_heads=heads,
        key_value_heads=kv_heads,
        layers=layers,
        intermediate_size=intermediate,
        epsilon=epsilon,
        virtual_tokens=virtual,
        rope_theta=theta,
        max_length=max_length,
        end_id=end,
        vision=vision,
        tokenizer_offset=file.tell(),
        tokenizer_bytes=tokenizer_bytes,
        file_bytes=size,
    )


def _header_fault(model: ModelFile) -> str | None:
    """Return what the header says that is true of no model, or None.

    The check of the tensors bounds each size that a tensor's shape shows.
    """
    sizes = {
        "vocabulary size": model.vocabulary_size,
        "hidden size": model.hidden_size,
        "intermediate size": model.intermediate_size,
        "attention heads": model.attention_heads,
        "key-value heads": model.key_value_heads,
        "layers": model.layers,
        "maximum length": model.max_length,
    }
    for name, size in sizes.items():
        if size <= 0:
            return f"{name}: {size}"
    if model.weight_type not in _BLOCKS:
        return f"weights of type {model.weight_type}"
    if model.layers > _MOST_LAYERS or model.max_length > _MOST_MAX_LENGTH:
        return f"{model.layers} layers for {model.max_length} tokens"
    # Positions become rotations of pairs of numbers, in half of each head.
    if model.hidden_size % model.attention_heads or model.head_size % 4:
        return f"{model.attention_heads} attention heads for a hidden size of {model.hidden_size}"
    if model.attention_heads % model.key_value_heads or (
        model.model_type == CHATGLM and model.attention_heads != model.key_value_heads
    ):
        return f"{model.key_value_heads} key-value heads for {model.attention_heads} attention heads"
    if not 0 < model.epsilon < 1:
        return f"norm epsilon: {model.epsilon:g}"
    if not 1 <= model.rope_theta < math.inf:
        return f"rope theta: {model.rope_theta:g}"
    # In these two families chatglm_cpp does not fill the places of virtual tokens (P-Tuning).
    if model.virtual_tokens < 0 or (model.virtual_tokens and model.model_type in (CHATGLM, CHATGLM4V)):
        return f"virtual tokens: {model.virtual_tokens}"
    if not -1 <= model.end_id < model.vocabulary_size:
        return f"end-of-text id: {model.end_id}"
    return None if model.vision is None else _vision_fault(model.vision)


def _vision_fault(vision: Vision) -> str | None:
    sizes = {
        "hidden size": vision.hidden_size,
        "intermediate size": vision.intermediate_size,
        "attention heads": vision.heads,
        "layers": vision.layers,
        "patch size": vision.patch_size,
    }
    for name, size in sizes.items():
        if size <= 0:
            return f"vision {name}: {size}"
    if vision.type not in _BLOCKS:
        return f"vision weights of type {vision.type}"
    if vision.layers > _MOST_LAYERS:
        return f"{vision.layers} vision layers"
    if vision.hidden_size % vision.heads:
        return f"{vision.heads} vision attention heads for a hidden size of {vision.hidden_size}"
    if vision.channels != 3:
        return f"images of {vision.channels} channels"
    # There is one position for each patch and one for the whole image. Four patches become one place in the context.
    if vision.grid < 2 or vision.image_size % vision.patch_size or vision.positions != vision.grid**2 + 1:
        return (
            f"{vision.positions} positions for images of {vision.image_size} pixels in patches of {vision.patch_size}"
        )
    if not 0 < vision.epsilon < 1:
        return f"vision norm epsilon: {vision.epsilon:g}"
    if not 0 < vision.scaling_factor < math.inf:
        return f"vision scaling factor: {vision.scaling_factor:g}"
    return None


def _check_tensors(path: Path, file: BinaryIO, model: ModelFile) -> None:
    position = model.tokenizer_offset + model.tokenizer_bytes
    missing = _tensors(model)
    if position >= model.file_bytes:
        raise ModelFileError(f"{path.name} ends too early: it holds a tokenizer but no weights.")
    while position < model.file_bytes:
        file.seek(position)
        (name_bytes,) = _integers(file, 1)
        # A name that is too long is not one of ours, so it is not read.
        name = file.read(name_bytes) if 0 < name_bytes <= _LONGEST_NAME else b""
        if (expected := missing.pop(name, None)) is None:
            raise ModelFileError(f"{path.name} is damaged: its table of tensors makes no sense. {_GET_AGAIN}")
        (dimensions,) = _integers(file, 1)
        shape_and_type = _integers(file, dimensions + 1) if 0 < dimensions <= 4 else ()
        if (_without_ones(shape_and_type[:-1]), *shape_and_type[-1:]) != expected:
            raise ModelFileError(f"{path.name} is damaged: {name.decode()} is not what the header says. {_GET_AGAIN}")
        shape, type = expected
        block_values, block_bytes = _BLOCKS[type]
        if shape[-1] % block_values:
            raise ModelFileError(f"{path.name} is damaged: {name.decode()} is not whole blocks. {_GET_AGAIN}")
        start = (file.tell() + 15) & ~15
        position = start + math.prod(shape) // block_values * block_bytes
        if position > model.file_bytes:
            raise ModelFileError(f"{path.name} ends too early: the download or copy is incomplete.")
    if missing:
        raise ModelFileError(f"{path.name} ends too early: {len(missing)} tensors are missing.")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape without its leading ones: some vectors are written as matrices of one row."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _tensors(model: ModelFile) -> dict[bytes, Tensor]:
    """Return the shape (without leading ones) and type of each tensor that chatglm_cpp expects, by name."""
    tensors = _chatglm_tensors(model) if model.model_type == CHATGLM else _chatglm2_tensors(model)
    if model.vision is not None:
        tensors |= _vision_tensors(model, model.vision)
    return {name.encode(): (_without_ones(shape), type) for name, (shape, type) in tensors.items()}


def _chatglm_tensors(model: ModelFile) -> dict[str, Tensor]:
    type, hidden, intermediate = model.weight_type, model.hidden_size, model.intermediate_size
    tensors: dict[str, Tensor] = {"transformer.word_embeddings.weight": ((model.vocabulary_size, hidden), type)}
    for layer in range(model.layers):
        prefix = f"transformer.layers.{layer}."
        tensors |= _norm(f"{prefix}input_layernorm", hidden)
        tensors |= _linear(f"{prefix}attention.query_key_value", 3 * hidden, hidden, type)
        tensors |= _linear(f"{prefix}attention.dense", hidden, hidden, type)
        tensors |= _norm(f"{prefix}post_attention_layernorm", hidden)
        tensors |= _linear(f"{prefix}mlp.dense_h_to_4h", intermediate, hidden, type)
        tensors |= _linear(f"{prefix}mlp.dense_4h_to_h", hidden, intermediate, type)
    return tensors | _norm("transformer.final_layernorm", hidden)


def _chatglm2_tensors(model: ModelFile) -> dict[str, Tensor]:
    type, hidden, intermediate = model.weight_type, model.hidden_size, model.intermediate_size
    rows = (model.vocabulary_size, hidden)
    keys = model.key_value_heads * model.head_size
    tensors: dict[str, Tensor] = {"transformer.embedding.word_embeddings.weight": (rows, type)}
    if model.virtual_tokens:
        shape = (2 * model.layers, model.key_value_heads, model.virtual_tokens, model.head_size)
        tensors["past_key_values"] = (shape, _F16)
    for layer in range(model.layers):
        prefix = f"transformer.encoder.layers.{layer}."
        tensors |= {
            f"{prefix}input_layernorm.weight": ((hidden,), _F32),
            **_linear(f"{prefix}self_attention.query_key_value", hidden + 2 * keys, hidden, type),
            f"{prefix}self_attention.dense.weight": ((hidden, hidden), type),
            f"{prefix}post_attention_layernorm.weight": ((hidden,), _F32),
            f"{prefix}mlp.dense_h_to_4h.weight": ((2 * intermediate, hidden), type),
            f"{prefix}mlp.dense_4h_to_h.weight": ((hidden, intermediate), type),
        }
    tensors["transformer.encoder.final_layernorm.weight"] = ((hidden,), _F32)
    tensors["transformer.output_layer.weight"] = (rows, type)
    return tensors


def _vision_tensors(model: ModelFile, vision: Vision) -> dict[str, Tensor]:
    type, inner, outer, patch = vision.type, vision.hidden_size, model.hidden_size, vision.patch_size
    prefix = "transformer.vision."
    tensors: dict[str, Tensor] = {
        f"{prefix}patch_embedding.cls_embedding": ((inner,), _F16),
        f"{prefix}patch_embedding.proj.weight": ((inner, vision.channels, patch, patch), _F16),
        f"{prefix}patch_embedding.proj.bias": ((inner,), _F32),
        f"{prefix}patch_embedding.position_embedding.weight": ((vision.positions, inner), _F32),
        f"{prefix}conv.weight": ((outer, inner, 2, 2), _F16),
        f"{prefix}conv.bias": ((outer,), _F32),
        f"{prefix}linear_proj.linear_proj.weight": ((outer, outer), type),
        **_norm(f"{prefix}linear_proj.norm1", outer),
        f"{prefix}linear_proj.gate_proj.weight": ((model.intermediate_size, outer), type),
        f"{prefix}linear_proj.dense_h_to_4h.weight": ((model.intermediate_size, outer), type),
        f"{prefix}linear_proj.dense_4h_to_h.weight": ((outer, model.intermediate_size), type),
        f"{prefix}boi": ((outer,), _F16),
        f"{prefix}eoi": ((outer,), _F16),
    }
    for layer in range(vision.layers):
        part = f"{prefix}transformer.layers.{layer}."
        tensors |= _norm(f"{part}input_layernorm", inner)
        tensors |= _linear(f"{part}attention.query_key_value", 3 * inner, inner, type)
        tensors |= _linear(f"{part}attention.dense", inner, inner, type)
        tensors |= _linear(f"{part}mlp.fc1", vision.intermediate_size, inner, type)
        tensors |= _linear(f"{part}mlp.fc2", inner, vision.intermediate_size, type)
        tensors |= _norm(f"{part}post_attention_layernorm", inner)
    return tensors


def _linear(name: str, outputs: int, inputs: int, type: int) -> dict[str, Tensor]:
    return {f"{name}.weight": ((outputs, inputs), type), f"{name}.bias": ((outputs,), _F32)}


def _norm(name: str, size: int) -> dict[str, Tensor]:
    return {f"{name}.weight": ((size,), _F32), f"{name}.bias": ((size,), _F32)}


def _integers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))


def how_to_mend(kind: str, otherwise: str) -> str:
    """Return what to do with a file of this `kind_of`; ``otherwise`` is what to do with most of them."""
    return "Run `git lfs pull` in the repository that it comes from." if kind == _LFS_POINTER else otherwise


def kind_of(magic: bytes) -> str | None:
    """Return what a file is that begins with these 24 bytes, or None for a GGML file and an unknown one."""
    if not magic:
        return "empty"
    # A safetensors file begins with the length of its JSON header in 8 bytes.
    if magic[8:9] == b"{" and magic[5:8] == b"\0\0\0":
        return "a safetensors file"
    for start, kind in _OTHER_KINDS:
        if magic.startswith(start):
            return kind
    return None
