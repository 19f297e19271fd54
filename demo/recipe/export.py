"""Write the GGML file that chatglm-cpp loads, as its `convert.py` does for ChatGLM3, and read it back."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .model import ChatGLM3, Config

_MODEL_CHATGLM3 = 3
_TYPE_F32, _TYPE_Q8_0 = 0, 8  # ggml's type codes
_BLOCK = 32  # values that share a scale in q8_0
_ALIGNMENT = 16
_CONFIG = struct.Struct("iiiiiiiififiii")
_UNUSED, _EOS = 0, 2


def quantize_q8_0(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return blocks of 32 values as float16 scales [N / 32, 1] and int8 [N / 32, 32]."""
    blocks = values.detach().float().reshape(-1, _BLOCK)
    scales = blocks.abs().amax(dim=1, keepdim=True) / 127
    inverse = torch.where(scales == 0, 0, 1 / scales)
    return scales.half(), (blocks * inverse).round().to(torch.int8)


def rounded_to_q8_0(values: Tensor) -> Tensor:
    """Return the float values that q8_0 makes of `values`, in the same shape."""
    scales, integers = quantize_q8_0(values)
    return (scales.float() * integers.float()).reshape(values.shape)


def _write_tensor(file: BinaryIO, name: str, values: Tensor) -> None:
    """Write one tensor: name, shape, type and, aligned, the data; matrices in q8_0, vectors in float32."""
    kind = _TYPE_Q8_0 if values.ndim == 2 else _TYPE_F32
    encoded = name.encode()
    file.write(struct.pack("i", len(encoded)) + encoded)
    file.write(struct.pack(f"{values.ndim + 2}i", values.ndim, *values.shape, kind))
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    if kind == _TYPE_F32:
        file.write(values.detach().float().numpy().tobytes())
    else:
        scales, integers = quantize_q8_0(values)
        file.write(torch.cat((scales.view(torch.int8), integers), dim=1).numpy().tobytes())


def _tensors(model: ChatGLM3) -> Iterator[tuple[str, Tensor]]:
    """Return names and tensors in the order of the file."""
    yield "transformer.embedding.word_embeddings.weight", model.embedding.weight
    for index, block in enumerate(model.blocks):
        for name, values in (
            ("input_layernorm.weight", block.input_norm.weight),
            ("self_attention.query_key_value.weight", block.query_key_value.weight),
            ("self_attention.query_key_value.bias", block.query_key_value.bias),
            ("self_attention.dense.weight", block.dense.weight),
            ("post_attention_layernorm.weight", block.post_attention_norm.weight),
            ("mlp.dense_h_to_4h.weight", block.up.weight),
            ("mlp.dense_4h_to_h.weight", block.down.weight),
        ):
            yield f"transformer.encoder.layers.{index}.{name}", values
    yield "transformer.encoder.final_layernorm.weight", model.final_norm.weight
    yield "transformer.output_layer.weight", model.output.weight


def write_ggml(path: Path, model: ChatGLM3, tokenizer: bytes) -> None:
    """Write configuration, tokenizer and weights, in the file format of chatglm-cpp 0.4."""
    config = model.config
    with path.open("wb") as file:
        file.write(b"ggml" + struct.pack("i", _MODEL_CHATGLM3))
        file.write(
            _CONFIG.pack(
                2,
                _TYPE_Q8_0,
                config.vocab_size,
                config.hidden_size,
                config.num_attention_heads,
                config.num_key_value_heads,
                config.num_layers,
                config.ffn_hidden_size,
                config.norm_eps,
                _UNUSED,
                config.rope_theta,
                config.max_length,
                _EOS,
                _UNUSED,
            )
        )
        file.write(struct.pack("i", len(tokenizer)) + tokenizer)
        for name, values in _tensors(model):
            _write_tensor(file, name, values)


def read_ggml(path: Path) -> tuple[ChatGLM3, bytes]:
    """Return the model, with the float values of its q8_0 matrices, and the tokenizer from a file of `write_ggml`."""
    with path.open("rb") as file:
        file.seek(8)  # magic and model type
        fields = _CONFIG.unpack(file.read(_CONFIG.size))
        config = Config(
            vocab_size=fields[2],
            hidden_size=fields[3],
            num_layers=fields[6],
            num_attention_heads=fields[4],
            num_key_value_heads=fields[5],
            ffn_hidden_size=fields[7],
            norm_eps=round(fields[8], 9),
            rope_theta=fields[10],
            max_length=fields[11],
        )
        tokenizer = file.read(*struct.unpack("i", file.read(4)))
        model = ChatGLM3(config)
        for name, values in _tensors(model):
            file.seek(4 + len(name.encode()), os.SEEK_CUR)
            file.seek(4 * (values.ndim + 2), os.SEEK_CUR)  # the shape and type, which follow from the configuration
            file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
            if values.ndim == 1:
                stored = torch.frombuffer(bytearray(file.read(4 * values.numel())), dtype=torch.float32)
            else:
                bytes_per_block = 2 + _BLOCK
                raw = torch.frombuffer(
                    bytearray(file.read(values.numel() // _BLOCK * bytes_per_block)), dtype=torch.int8
                )
                blocks = raw.reshape(-1, bytes_per_block)
                stored = blocks[:, :2].contiguous().view(torch.float16).float() * blocks[:, 2:].float()
            values.data.copy_(stored.reshape(values.shape))
    return model, tokenizer
