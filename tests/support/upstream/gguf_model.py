"""Write a tiny GGUF model file, which llama.cpp loads: architecture "llama", random weights, half a megabyte.

Greedy answers consist of the words below. They differ with the prompt, are the same on each run of one machine, and do
not end by themselves. In a prompt, each printable ASCII character is a token, and each byte of any other character.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.gguf.file import BYTE, CONTROL, NORMAL, UNKNOWN, Metadata, floats, ones, write_gguf

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


def write_model(path: Path) -> Path:
    """Write the model to ``path``."""
    pieces, kinds = _vocabulary()
    metadata: Metadata = {
        "general.architecture": "llama",
        "general.name": NAME,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": INTERMEDIATE,
        "llama.attention.head_count": HEADS,
        "llama.rope.dimension_count": HIDDEN // HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": floats(*[0.0] * len(pieces)),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": END,
        # Otherwise each prompt would begin with a token for a space.
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    return write_gguf(path, metadata, _tensors(len(pieces)))


def _vocabulary() -> tuple[list[str], list[int]]:
    """Return the tokens' texts and their kinds, in the order of the ids; the words are last."""
    special = ["<unk>", "<s>", "</s>"]
    numbers = [f"<0x{byte:02X}>" for byte in range(256)]
    # SentencePiece writes a space as "▁".
    characters = ["▁", *map(chr, range(0x21, 0x7F))]
    words = [f"▁{word}" if word.isascii() else word for word in WORDS]
    ordinary = [*characters, *words]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * len(numbers), *[NORMAL] * len(ordinary)]
    return [*special, *numbers, *ordinary], kinds


def _tensors(rows: int) -> dict[str, NDArray[np.float32]]:
    """Return the tensors, for a vocabulary of ``rows``.

    Element 0 of the hidden state is always the same positive number: the embeddings have it, and no layer adds to it.
    With it, the output weights make everything improbable that is not a word.
    """
    noise = random.Random(0)

    def matrix(height: int, width: int, scale: float) -> NDArray[np.float32]:
        values = [noise.gauss(0, scale) for _ in range(height * width)]
        return np.array(values, np.float32).reshape(height, width)

    def first_row_zero(height: int, width: int, scale: float) -> NDArray[np.float32]:
        return np.pad(matrix(height - 1, width, scale), ((1, 0), (0, 0)))

    embeddings = matrix(rows, HIDDEN, 1.0)
    embeddings[:, 0] = 1.0
    kept_down = np.zeros((rows - len(WORDS), HIDDEN), np.float32)
    kept_down[:, 0] = -30.0
    tensors = {
        "token_embd.weight": embeddings,
        "output_norm.weight": ones(HIDDEN),
        "output.weight": np.concatenate([kept_down, matrix(len(WORDS), HIDDEN, 0.5)]),
    }
    for layer in range(LAYERS):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones(HIDDEN),
            f"blk.{layer}.attn_q.weight": matrix(HIDDEN, HIDDEN, 0.3),
            f"blk.{layer}.attn_k.weight": matrix(HIDDEN, HIDDEN, 0.3),
            f"blk.{layer}.attn_v.weight": matrix(HIDDEN, HIDDEN, 0.3),
            f"blk.{layer}.attn_output.weight": first_row_zero(HIDDEN, HIDDEN, 0.3),
            f"blk.{layer}.ffn_norm.weight": ones(HIDDEN),
            f"blk.{layer}.ffn_gate.weight": matrix(INTERMEDIATE, HIDDEN, 0.2),
            f"blk.{layer}.ffn_up.weight": matrix(INTERMEDIATE, HIDDEN, 0.2),
            f"blk.{layer}.ffn_down.weight": first_row_zero(HIDDEN, INTERMEDIATE, 0.2),
        }
    return tensors
