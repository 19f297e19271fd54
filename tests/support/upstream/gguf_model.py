"""Write a tiny GGUF model file, which llama.cpp loads: architecture "llama", random weights, half a megabyte.

Greedy answers consist of the words below. They differ with the prompt, are the same on each run of one machine, and do
not end by themselves. In a prompt, each printable ASCII character is a token, and each byte of any other character.
"""

from __future__ import annotations

import itertools
import random
import struct
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

NAME = "tiny-llama"
WORDS = [
    *(first + vowel + last for first in "bdfgklmnprstvz" for vowel in "aeiou" for last in "lmn"),
    *"天地山水日月风雨花鸟春夏秋冬东南西北中国",
]
END = 2  # The id of </s>.

LAYERS, HIDDEN, HEADS, INTERMEDIATE, CONTEXT = 2, 64, 4, 128, 4096
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

# GGUF's numbers for the types of values and of tensors, and for the kinds of tokens.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_F32 = 0
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_ALIGNMENT = 32


def write_model(path: Path) -> Path:
    """Write the model to ``path``."""
    pieces, kinds = _vocabulary()
    metadata = [
        _string("general.architecture", "llama"),
        _string("general.name", NAME),
        _number("llama.context_length", CONTEXT),
        _number("llama.embedding_length", HIDDEN),
        _number("llama.block_count", LAYERS),
        _number("llama.feed_forward_length", INTERMEDIATE),
        _number("llama.attention.head_count", HEADS),
        _number("llama.rope.dimension_count", HIDDEN // HEADS),
        _key("llama.attention.layer_norm_rms_epsilon", _FLOAT32) + struct.pack("<f", 1e-5),
        _string("tokenizer.ggml.model", "llama"),
        _list("tokenizer.ggml.tokens", _STRING, map(_text, pieces), len(pieces)),
        _list("tokenizer.ggml.scores", _FLOAT32, itertools.repeat(bytes(4), len(pieces)), len(pieces)),
        _list("tokenizer.ggml.token_type", _INT32, (struct.pack("<i", kind) for kind in kinds), len(pieces)),
        _number("tokenizer.ggml.unknown_token_id", 0),
        _number("tokenizer.ggml.bos_token_id", 1),
        _number("tokenizer.ggml.eos_token_id", END),
        # Otherwise each prompt would begin with a token for a space.
        _key("tokenizer.ggml.add_space_prefix", _BOOL) + b"\0",
        _string("tokenizer.chat_template", TEMPLATE),
    ]
    tensors = _tensors(len(pieces))
    header, data = bytearray(), bytearray()
    for name, shape, values in tensors:
        data += bytes(-len(data) % _ALIGNMENT)
        # The dimension that runs fastest comes first.
        header += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        header += struct.pack("<IQ", _F32, len(data))
        data += values.tobytes()
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata) + header
    path.write_bytes(start + bytes(-len(start) % _ALIGNMENT) + data)
    return path


def _vocabulary() -> tuple[list[str], list[int]]:
    """Return the tokens' texts and their kinds, in the order of the ids; the words are last."""
    special = ["<unk>", "<s>", "</s>"]
    numbers = [f"<0x{byte:02X}>" for byte in range(256)]
    # SentencePiece writes a space as "▁".
    characters = ["▁", *map(chr, range(0x21, 0x7F))]
    words = [f"▁{word}" if word.isascii() else word for word in WORDS]
    ordinary = [*characters, *words]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * len(numbers), *[_NORMAL] * len(ordinary)]
    return [*special, *numbers, *ordinary], kinds


def _tensors(rows: int) -> list[tuple[str, Sequence[int], array[float]]]:
    """Return the name, the shape in PyTorch's order, and the values of each tensor, for a vocabulary of ``rows``.

    Element 0 of the hidden state is always the same positive number: the embeddings have it, and no layer adds to it.
    With it, the output weights make everything improbable that is not a word.
    """
    noise = random.Random(0)

    def matrix(height: int, width: int, scale: float) -> array[float]:
        return array("f", [noise.gauss(0, scale) for _ in range(height * width)])

    def first_row_zero(height: int, width: int, scale: float) -> array[float]:
        return array("f", [0.0]) * width + matrix(height - 1, width, scale)

    ones = array("f", [1.0]) * HIDDEN
    embeddings = matrix(rows, HIDDEN, 1.0)
    for row in range(rows):
        embeddings[row * HIDDEN] = 1.0
    kept_down = array("f", [-30.0] + [0.0] * (HIDDEN - 1)) * (rows - len(WORDS))
    tensors: list[tuple[str, Sequence[int], array[float]]] = [
        ("token_embd.weight", (rows, HIDDEN), embeddings),
        ("output_norm.weight", (HIDDEN,), ones),
        ("output.weight", (rows, HIDDEN), kept_down + matrix(len(WORDS), HIDDEN, 0.5)),
    ]
    for layer in range(LAYERS):
        tensors += [
            (f"blk.{layer}.attn_norm.weight", (HIDDEN,), ones),
            (f"blk.{layer}.attn_q.weight", (HIDDEN, HIDDEN), matrix(HIDDEN, HIDDEN, 0.3)),
            (f"blk.{layer}.attn_k.weight", (HIDDEN, HIDDEN), matrix(HIDDEN, HIDDEN, 0.3)),
            (f"blk.{layer}.attn_v.weight", (HIDDEN, HIDDEN), matrix(HIDDEN, HIDDEN, 0.3)),
            (f"blk.{layer}.attn_output.weight", (HIDDEN, HIDDEN), first_row_zero(HIDDEN, HIDDEN, 0.3)),
            (f"blk.{layer}.ffn_norm.weight", (HIDDEN,), ones),
            (f"blk.{layer}.ffn_gate.weight", (INTERMEDIATE, HIDDEN), matrix(INTERMEDIATE, HIDDEN, 0.2)),
            (f"blk.{layer}.ffn_up.weight", (INTERMEDIATE, HIDDEN), matrix(INTERMEDIATE, HIDDEN, 0.2)),
            (f"blk.{layer}.ffn_down.weight", (HIDDEN, INTERMEDIATE), first_row_zero(HIDDEN, INTERMEDIATE, 0.2)),
        ]
    return tensors


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _key(key: str, type: int) -> bytes:
    return _text(key) + struct.pack("<I", type)


def _string(key: str, value: str) -> bytes:
    return _key(key, _STRING) + _text(value)


def _number(key: str, value: int) -> bytes:
    return _key(key, _UINT32) + struct.pack("<I", value)


def _list(key: str, type: int, values: Iterable[bytes], length: int) -> bytes:
    return _key(key, _ARRAY) + struct.pack("<IQ", type, length) + b"".join(values)
