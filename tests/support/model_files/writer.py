"""Write tiny GGML model files that chatglm_cpp 0.4.2 loads, with random weights or weights that follow a script.

The file format is that of chatglm_cpp's converter and of `Pipeline::Pipeline`: magic, type, version, configuration
record, tokenizer, tensors. Weights are seeded, so greedy answers are the same on each run of one machine.
"""

from __future__ import annotations

import itertools
import random
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from tests.support.model_files import tokenizers

Family = Literal["chatglm", "chatglm2", "chatglm3", "glm4", "glm4v"]
FAMILIES: tuple[Family, ...] = ("chatglm", "chatglm2", "chatglm3", "glm4", "glm4v")

HIDDEN, HEADS, KEY_VALUE_HEADS, LAYERS, INTERMEDIATE = 64, 4, 2, 2, 128
VISION_HIDDEN, PATCH_SIZE = 64, 4

_MODEL_TYPES = {"chatglm": 1, "chatglm2": 2, "chatglm3": 3, "glm4": 4, "glm4v": 1004}
_SPECIALS_BEHIND = {"chatglm": 0, "chatglm2": 5, "chatglm3": 9, "glm4": 14, "glm4v": 14}
_F32, _F16 = 0, 1
# The ggml types of quantized weights: the bytes of a block's 32 values, the deviation of values that are random, in
# units of the scale, and whether the block has a minimum.
_QUANTIZED = {
    2: (16, 4.6, False),  # q4_0
    3: (16, 4.6, True),  # q4_1
    6: (20, 9.2, False),  # q5_0
    7: (20, 9.2, True),  # q5_1
    8: (32, 73.9, False),  # q8_0
}


@dataclass(frozen=True, slots=True)
class TinyModel:
    """What to write. ``extra_rows``: vocabulary rows that the tokenizer has no ids for, as real files have.

    ``script``: chains of ids; each id is followed by the next one in its chain, whatever stands before, so a greedy
    answer says what the chain says. An id may have one successor only. Not for ChatGLM-6B, whose output weights are
    its embeddings. ``tokenizer``: the file's tokenizer section in place of the family's tiny one, with as many ids.
    ``virtual_tokens``: of P-Tuning, for ChatGLM2 and later text
    models. ``image_size``: of what GLM-4V sees, in pixels; four patches of ``PATCH_SIZE`` take the place of one token.
    ``weight_type``: ggml's type of the matrices of ChatGLM2 and later text models without a script.
    """

    family: Family
    version: int = 2
    max_length: int = 512
    extra_rows: int = 0
    script: tuple[tuple[int, ...], ...] = ()
    tokenizer: bytes | None = None
    image_size: int = 16
    virtual_tokens: int = 0
    weight_type: int = 0
    seed: int = 0


def vocabulary_size(family: Family) -> int:
    """Return the number of ids of the family's tiny tokenizer, special ones included."""
    if family == "chatglm":
        ordinary = len(tokenizers.chatglm_pieces())
    elif family in ("glm4", "glm4v"):
        ordinary = len(tokenizers.tiktoken_tokens())
    else:
        ordinary = len(tokenizers.sentencepiece_pieces())
    return ordinary + _SPECIALS_BEHIND[family]


def write_model(path: Path, model: TinyModel) -> Path:
    """Write ``model`` to ``path``. Raises ValueError for a script that gives an id two successors."""
    with path.open("wb") as file:
        file.write(b"ggml")
        _integers(file, _MODEL_TYPES[model.family])
        _write_configuration(file, model)
        tokenizer = model.tokenizer or _tokenizer(model.family)
        _integers(file, len(tokenizer))
        file.write(tokenizer)
        if model.family == "chatglm":
            _write_chatglm(file, model)
        else:
            if model.family == "glm4v":
                _write_vision(file, model)
            _write_chatglm2(file, model)
    return path


def _write_configuration(file: BinaryIO, model: TinyModel) -> None:
    rows = vocabulary_size(model.family) + model.extra_rows
    end = _end_id(model.family)
    heads = HEADS if model.family == "chatglm" else KEY_VALUE_HEADS
    intermediate = 4 * HIDDEN if model.family == "chatglm" else INTERMEDIATE
    _integers(file, model.version)
    if model.version == 1:
        _integers(file, _F32, rows, HIDDEN, HEADS, LAYERS, intermediate, model.max_length, -1, end, -1, -1)
        if model.family != "chatglm":
            _integers(file, heads)
        return
    record = struct.Struct("<7if1if3i")
    values = (
        model.weight_type,
        rows,
        HIDDEN,
        HEADS,
        heads,
        LAYERS,
        intermediate,
        1e-5,
        model.virtual_tokens,
        10000.0,
        model.max_length,
        end,
        -1,
    )
    file.write(record.pack(*values))
    if model.family == "glm4v":
        vision = (
            _F32,
            VISION_HIDDEN,
            model.image_size,
            3,
            INTERMEDIATE,
            1e-6,
            HEADS,
            LAYERS,
            _vision_positions(model),
            PATCH_SIZE,
            1.0,
        )
        file.write(struct.pack("<5if4if", *vision))


def _vision_positions(model: TinyModel) -> int:
    return (model.image_size // PATCH_SIZE) ** 2 + 1


def _end_id(family: Family) -> int:
    if family == "chatglm":
        return tokenizers.chatglm_pieces().index(("<eop>", tokenizers.CONTROL))
    return len(tokenizers.tiktoken_tokens()) if family in ("glm4", "glm4v") else 2


def _tokenizer(family: Family) -> bytes:
    if family == "chatglm":
        return tokenizers.sentencepiece_model(tokenizers.chatglm_pieces())
    if family in ("glm4", "glm4v"):
        return tokenizers.tiktoken_ranks(tokenizers.tiktoken_tokens())
    return tokenizers.sentencepiece_model(tokenizers.sentencepiece_pieces())


class _Tensors:
    """Writes tensors one after the other; shapes are in PyTorch's order."""

    def __init__(self, file: BinaryIO, seed: int) -> None:
        self._file = file
        self._random = random.Random(seed)

    def noise(self, name: str, *shape: int, scale: float = 0.2, kind: int = _F32) -> array[float]:
        return self.write(
            name, array("f", [self._random.gauss(0, scale) for _ in range(_size(shape))]), *shape, kind=kind
        )

    def matrix(self, name: str, *shape: int, kind: int, scale: float = 0.2) -> array[float]:
        """Write noise as weights of any type; return the values of f32 and f16, nothing for others."""
        if kind not in _QUANTIZED:
            return self.noise(name, *shape, scale=scale, kind=kind)
        size, deviation, has_minimum = _QUANTIZED[kind]
        unit = scale / deviation
        # A block without a minimum has values on both sides of zero already.
        minimum = [-unit * (15.5 if size == 20 else 7.5)] if has_minimum else []
        head = struct.pack(f"<{1 + len(minimum)}e", unit, *minimum)
        self._begin(name, shape, kind)
        for _ in range(_size(shape) // 32):
            self._file.write(head + self._random.randbytes(size))
        return array("f")

    def constant(self, name: str, value: float, *shape: int) -> array[float]:
        return self.write(name, array("f", [value]) * _size(shape), *shape)

    def write(self, name: str, values: array[float], *shape: int, kind: int = _F32) -> array[float]:
        self._begin(name, shape, kind)
        self._file.write(values.tobytes() if kind == _F32 else struct.pack(f"<{len(values)}e", *values))
        return values

    def _begin(self, name: str, shape: Sequence[int], kind: int) -> None:
        _integers(self._file, len(name))
        self._file.write(name.encode())
        _integers(self._file, len(shape), *shape, kind)
        self._file.write(bytes(-self._file.tell() % 16))


def _write_chatglm(file: BinaryIO, model: TinyModel) -> None:
    tensors = _Tensors(file, model.seed)
    if model.script:
        raise ValueError("ChatGLM-6B has no output weights of its own to follow a script")
    rows = vocabulary_size(model.family) + model.extra_rows
    tensors.noise("transformer.word_embeddings.weight", rows, HIDDEN, scale=1)
    for layer in range(LAYERS):
        prefix = f"transformer.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors.constant(f"{prefix}{norm}.weight", 1, HIDDEN)
            tensors.constant(f"{prefix}{norm}.bias", 0, HIDDEN)
        for part, outputs, inputs in (
            ("attention.query_key_value", 3 * HIDDEN, HIDDEN),
            ("attention.dense", HIDDEN, HIDDEN),
            ("mlp.dense_h_to_4h", 4 * HIDDEN, HIDDEN),
            ("mlp.dense_4h_to_h", HIDDEN, 4 * HIDDEN),
        ):
            # Large enough that the answer does not repeat the last token: the output weights are the embeddings.
            tensors.noise(f"{prefix}{part}.weight", outputs, inputs, scale=2)
            tensors.noise(f"{prefix}{part}.bias", outputs)
    tensors.constant("transformer.final_layernorm.weight", 1, HIDDEN)
    tensors.constant("transformer.final_layernorm.bias", 0, HIDDEN)


def _write_chatglm2(file: BinaryIO, model: TinyModel) -> None:
    tensors = _Tensors(file, model.seed)
    rows = vocabulary_size(model.family) + model.extra_rows
    # With a script the blocks add nothing, so the next id depends on the last id only.
    scale = 0.0 if model.script else 0.2
    kind = model.weight_type
    embeddings = tensors.matrix("transformer.embedding.word_embeddings.weight", rows, HIDDEN, kind=kind, scale=1)
    keys_and_values = 2 * HIDDEN // HEADS * KEY_VALUE_HEADS
    if model.virtual_tokens:
        shape = (2 * LAYERS, KEY_VALUE_HEADS, model.virtual_tokens, HIDDEN // HEADS)
        tensors.noise("past_key_values", *shape, kind=_F16)
    for layer in range(LAYERS):
        prefix = f"transformer.encoder.layers.{layer}."
        tensors.constant(f"{prefix}input_layernorm.weight", 1, HIDDEN)
        tensors.matrix(f"{prefix}self_attention.query_key_value.weight", HIDDEN + keys_and_values, HIDDEN, kind=kind)
        tensors.noise(f"{prefix}self_attention.query_key_value.bias", HIDDEN + keys_and_values)
        tensors.matrix(f"{prefix}self_attention.dense.weight", HIDDEN, HIDDEN, kind=kind, scale=scale)
        tensors.constant(f"{prefix}post_attention_layernorm.weight", 1, HIDDEN)
        tensors.matrix(f"{prefix}mlp.dense_h_to_4h.weight", 2 * INTERMEDIATE, HIDDEN, kind=kind)
        tensors.matrix(f"{prefix}mlp.dense_4h_to_h.weight", HIDDEN, INTERMEDIATE, kind=kind, scale=scale)
    tensors.constant("transformer.encoder.final_layernorm.weight", 1, HIDDEN)
    if model.script:
        tensors.write("transformer.output_layer.weight", _successors(embeddings, model.script, rows), rows, HIDDEN)
    else:
        tensors.matrix("transformer.output_layer.weight", rows, HIDDEN, kind=kind)


def _successors(embeddings: array[float], script: Iterable[Sequence[int]], rows: int) -> array[float]:
    """Return output weights that follow ``script``: the row of each successor is the embedding of the id before it."""
    successor: dict[int, int] = {}
    for chain in script:
        for token, following in itertools.pairwise(chain):
            if successor.setdefault(token, following) != following:
                raise ValueError(f"the script lets {token} be followed by {successor[token]} and by {following}")
    weights = array("f", bytes(4 * rows * HIDDEN))
    for token, following in successor.items():
        for column in range(HIDDEN):
            weights[following * HIDDEN + column] += embeddings[token * HIDDEN + column]
    return weights


def _write_vision(file: BinaryIO, model: TinyModel) -> None:
    tensors = _Tensors(file, model.seed + 1)
    prefix = "transformer.vision."
    tensors.noise(f"{prefix}patch_embedding.cls_embedding", 1, VISION_HIDDEN, kind=_F16)
    tensors.noise(f"{prefix}patch_embedding.proj.weight", VISION_HIDDEN, 3, PATCH_SIZE, PATCH_SIZE, kind=_F16)
    tensors.noise(f"{prefix}patch_embedding.proj.bias", VISION_HIDDEN)
    tensors.noise(f"{prefix}patch_embedding.position_embedding.weight", _vision_positions(model), VISION_HIDDEN)
    for layer in range(LAYERS):
        part = f"{prefix}transformer.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors.constant(f"{part}{norm}.weight", 1, VISION_HIDDEN)
            tensors.constant(f"{part}{norm}.bias", 0, VISION_HIDDEN)
        for matrix, outputs, inputs in (
            ("attention.query_key_value", 3 * VISION_HIDDEN, VISION_HIDDEN),
            ("attention.dense", VISION_HIDDEN, VISION_HIDDEN),
            ("mlp.fc1", INTERMEDIATE, VISION_HIDDEN),
            ("mlp.fc2", VISION_HIDDEN, INTERMEDIATE),
        ):
            tensors.noise(f"{part}{matrix}.weight", outputs, inputs)
            tensors.noise(f"{part}{matrix}.bias", outputs)
    tensors.noise(f"{prefix}conv.weight", HIDDEN, VISION_HIDDEN, 2, 2, kind=_F16)
    tensors.noise(f"{prefix}conv.bias", HIDDEN)
    tensors.noise(f"{prefix}linear_proj.linear_proj.weight", HIDDEN, HIDDEN)
    tensors.constant(f"{prefix}linear_proj.norm1.weight", 1, HIDDEN)
    tensors.constant(f"{prefix}linear_proj.norm1.bias", 0, HIDDEN)
    tensors.noise(f"{prefix}linear_proj.gate_proj.weight", INTERMEDIATE, HIDDEN)
    tensors.noise(f"{prefix}linear_proj.dense_h_to_4h.weight", INTERMEDIATE, HIDDEN)
    tensors.noise(f"{prefix}linear_proj.dense_4h_to_h.weight", HIDDEN, INTERMEDIATE)
    tensors.noise(f"{prefix}boi", HIDDEN, kind=_F16)
    tensors.noise(f"{prefix}eoi", HIDDEN, kind=_F16)


def _size(shape: Iterable[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _integers(file: BinaryIO, *values: int) -> None:
    file.write(struct.pack(f"<{len(values)}i", *values))
