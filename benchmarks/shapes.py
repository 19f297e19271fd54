"""The models that are measured: the bundled demo model, and synthetic ones of any size.

The cost of a token depends on the shapes and types of the weights, not on their values. So a synthetic file of
ChatGLM3-6B's shape is as slow as the real one. Its blocks add nothing to their input: the matrices at their ends are
zero, which costs the same. Its output weights are the embeddings of the next token in a fixed text, so every answer is
that text, over and over. Therefore each side's answer can be checked, no answer ends early, and the model never chooses
an id that the tokenizer does not have.

The cost of holding an answer to a grammar depends on the vocabulary. So the tokenizer has as many pieces as the real
one: words of random letters and characters fill it up.
"""

from __future__ import annotations

import itertools
import os
import random
import string
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from config import DEMO_MODEL
from tests.support.model_files import tokenizers

BLOCK_VALUES, BLOCK_BYTES = 32, 18  # q4_0: a float16 scale, then 32 values of 4 bits
MATRIX_SCALE = 0.0034  # keeps the product of a row of 4,096 random values near 1
EMBEDDING_SCALE = 0.05
POOL_BYTES = BLOCK_BYTES << 21  # random blocks, repeated to fill each matrix
_CHATGLM3, _LAYOUT, _F32, _Q4_0 = 3, 2, 0, 2
_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_END = 2
# Part of a file's name. Another number makes `model_file` write files anew that an older version has written.
_VERSION = 2

# The text of synthetic models. Each token occurs once, so that each has one successor.
WORDS = ("▁the", "▁weather", "▁is")
OPENING = 3  # ids before the text
CHARACTERS = (
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model of ChatGLM3's architecture in q4_0. ``vocabulary`` counts the rows of embeddings and output weights."""

    name: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    max_length: int = 8192

    @property
    def parameters(self) -> int:
        attention = self.hidden * (2 * self.hidden + 2 * self.key_value_size)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + 2 * self.hidden * self.vocabulary

    @property
    def key_value_size(self) -> int:
        return self.hidden // self.heads * self.key_value_heads


TINY = "tiny"
SYNTHETIC = {
    shape.name: shape
    for shape in (
        Shape("small", hidden=1024, layers=8, heads=8, key_value_heads=2, intermediate=2752, vocabulary=8192),
        Shape("medium", hidden=2048, layers=16, heads=16, key_value_heads=2, intermediate=6848, vocabulary=32_768),
        Shape("full", hidden=4096, layers=28, heads=32, key_value_heads=2, intermediate=13_696, vocabulary=65_024),
    )
}
NAMES = (TINY, *SYNTHETIC)
DESCRIPTIONS = {
    TINY: "the bundled demo model: 4 layers, hidden size 256, 4.3 million parameters, q8_0",
    **{
        shape.name: f"synthetic{' ChatGLM3-6B' if shape.name == 'full' else ''}: {shape.layers} layers, hidden size "
        f"{shape.hidden}, {shape.parameters / 1e6:,.0f} million parameters, q4_0"
        for shape in SYNTHETIC.values()
    },
}


def model_file(name: str, cache: Path) -> Path:
    """Return the file of shape ``name``. A synthetic one is written into ``cache`` unless it is there."""
    if name == TINY:
        return DEMO_MODEL
    path = cache / f"{name}-{_VERSION}.q4_0.bin"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        write_model(unfinished, SYNTHETIC[name])
        os.replace(unfinished, path)
    return path


def write_model(path: Path, shape: Shape) -> None:
    """Write a synthetic model in the file format of chatglm_cpp's converter."""
    pieces = vocabulary(shape)
    with path.open("wb") as file:
        file.write(b"ggml")
        _integers(file, _CHATGLM3, _LAYOUT)
        file.write(_configuration(shape))
        tokenizer = tokenizers.sentencepiece_model(pieces)
        _integers(file, len(tokenizer))
        file.write(tokenizer)
        _write_tensors(file, shape, script(pieces))


def vocabulary(shape: Shape) -> list[tokenizers.Piece]:
    """Return the pieces of the tokenizer, which with the special tokens give each row of ``shape`` its id.

    No prompt of the benchmark contains a piece that only fills up.
    """
    pieces = tokenizers.sentencepiece_pieces()
    taken = {text for text, _ in pieces}
    for text in _fillers():
        if len(pieces) + len(_SPECIALS) == shape.vocabulary:
            break
        if text not in taken:
            taken.add(text)
            pieces.append((text, tokenizers.NORMAL))
    return pieces


def _fillers() -> Iterator[str]:
    """Yield words without end: half of them Chinese, without the characters of the answers and prompts."""
    chance = random.Random(0)
    others = [character for character in map(chr, range(0x4E00, 0x9FA6)) if character not in tokenizers.CHARACTERS]
    while True:
        letters = "".join(chance.choices(string.ascii_lowercase, k=chance.randint(3, 10)))
        yield chance.choice(("", "▁")) + letters
        yield "".join(chance.choices(others, k=chance.randint(1, 4)))


def script(pieces: Sequence[tokenizers.Piece]) -> list[int]:
    """Return the ids of an answer: ``<|assistant|>``, the empty line of metadata, then the text."""
    ids = {text: id for id, (text, _) in enumerate(pieces)}
    # The line is encoded like every text, with a space in front.
    opening = [len(pieces) + _SPECIALS.index("<|assistant|>"), ids["▁"], ids["<0x0A>"]]
    return [*opening, *(ids[piece] for piece in (*WORDS, *CHARACTERS))]


def _configuration(shape: Shape) -> bytes:
    return struct.pack(
        "<7if1if3i",
        *(_Q4_0, shape.vocabulary, shape.hidden, shape.heads, shape.key_value_heads, shape.layers, shape.intermediate),
        *(1e-5, 0, 10_000.0, shape.max_length, _END, -1),
    )


def _write_tensors(file: BinaryIO, shape: Shape, answer: Sequence[int]) -> None:
    hidden, queries_keys_values = shape.hidden, shape.hidden + 2 * shape.key_value_size
    embeddings = bytearray(_repeated(_pool(EMBEDDING_SCALE), _bytes(shape.vocabulary, hidden)))
    row = _bytes(1, hidden)
    output = bytearray(len(embeddings))
    # The last id of the text has the embedding of the id in front of the text, so the text starts again.
    _copy_row(embeddings, answer[OPENING - 1], embeddings, answer[-1], row)
    for token, following in itertools.pairwise(answer):
        _copy_row(embeddings, token, output, following, row)
    _write_matrix(file, "transformer.embedding.word_embeddings.weight", embeddings, shape.vocabulary, hidden)
    noise, nothing = _pool(MATRIX_SCALE), bytes(POOL_BYTES)
    for layer in range(shape.layers):
        prefix = f"transformer.encoder.layers.{layer}."
        _write_vector(file, f"{prefix}input_layernorm.weight", 1, hidden)
        for name, outputs, inputs, pool in (
            ("self_attention.query_key_value", queries_keys_values, hidden, noise),
            ("self_attention.dense", hidden, hidden, nothing),
            ("mlp.dense_h_to_4h", 2 * shape.intermediate, hidden, noise),
            ("mlp.dense_4h_to_h", hidden, shape.intermediate, nothing),
        ):
            matrix = _repeated(pool, _bytes(outputs, inputs))
            _write_matrix(file, f"{prefix}{name}.weight", matrix, outputs, inputs)
        _write_vector(file, f"{prefix}self_attention.query_key_value.bias", 0, queries_keys_values)
        _write_vector(file, f"{prefix}post_attention_layernorm.weight", 1, hidden)
    _write_vector(file, "transformer.encoder.final_layernorm.weight", 1, hidden)
    _write_matrix(file, "transformer.output_layer.weight", output, shape.vocabulary, hidden)


def _pool(scale: float) -> bytes:
    """Return random blocks; the standard deviation of their values is 4.6 times ``scale``."""
    pool = bytearray(random.Random(0).randbytes(POOL_BYTES))
    low, high = struct.pack("<e", scale)
    pool[0::BLOCK_BYTES] = bytes([low]) * (POOL_BYTES // BLOCK_BYTES)
    pool[1::BLOCK_BYTES] = bytes([high]) * (POOL_BYTES // BLOCK_BYTES)
    return bytes(pool)


def _repeated(pool: bytes, length: int) -> bytes:
    return (pool * -(-length // len(pool)))[:length]


def _bytes(rows: int, columns: int) -> int:
    return rows * columns // BLOCK_VALUES * BLOCK_BYTES


def _copy_row(source: bytearray, at: int, target: bytearray, to: int, row: int) -> None:
    target[to * row : (to + 1) * row] = source[at * row : (at + 1) * row]


def _write_matrix(file: BinaryIO, name: str, blocks: bytes | bytearray, rows: int, columns: int) -> None:
    _write_head(file, name, (rows, columns), _Q4_0)
    file.write(blocks)


def _write_vector(file: BinaryIO, name: str, value: float, size: int) -> None:
    _write_head(file, name, (size,), _F32)
    file.write(struct.pack("<f", value) * size)


def _write_head(file: BinaryIO, name: str, extents: Sequence[int], kind: int) -> None:
    _integers(file, len(name))
    file.write(name.encode())
    _integers(file, len(extents), *extents, kind)
    file.write(bytes(-file.tell() % 16))


def _integers(file: BinaryIO, *values: int) -> None:
    file.write(struct.pack(f"<{len(values)}i", *values))
