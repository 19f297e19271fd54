"""The architectures of GLM models for llama.cpp: names and shapes, with weights that play scripts (``script.py``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.gguf.file import ones, zeros
from tests.support.gguf.script import Weights
from tests.support.model_files.gguf import Value

HEADS, KEY_HEADS, EXPERTS = 4, 2, 2

# How strongly the attention looks at triggers: the first one's score beats that of all other tokens together, and each
# one's beats the one's before it. The numbers are before the norms and the attention's scale, which leave more of them.
_WEAKEST, _STRONGER = 4.0, 2.0

Values = dict[str, Value]
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Size:
    """``hidden`` is the least width of the hidden state; ``context``: in tokens."""

    hidden: int = 64
    layers: int = 2
    feed_forward: int = 64
    context: int = 4096


SMALL = Size()

Architecture = Callable[[Weights, Size], tuple[Values, Tensors]]


def chatglm(weights: Weights, size: Size) -> tuple[Values, Tensors]:
    """ChatGLM2, ChatGLM3, GLM-4-9b-chat: query, key and value in one matrix."""
    tensors = _ends(weights)
    for layer in range(size.layers):
        query, key, value, out = _attention(weights, plays=layer == 0)
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones(weights.hidden),
            f"blk.{layer}.attn_qkv.weight": np.concatenate([query, key, value]),
            f"blk.{layer}.attn_qkv.bias": zeros(len(query) + len(key) + len(value)),
            f"blk.{layer}.attn_output.weight": out,
            f"blk.{layer}.ffn_norm.weight": ones(weights.hidden),
            f"blk.{layer}.ffn_up.weight": zeros(2 * size.feed_forward, weights.hidden),
            f"blk.{layer}.ffn_down.weight": zeros(weights.hidden, size.feed_forward),
        }
    return _metadata("chatglm", weights, size, KEY_HEADS), tensors


def glm4(weights: Weights, size: Size) -> tuple[Values, Tensors]:
    """GLM-4-0414 and GLM-Z1: norms behind the attention and the feed-forward part too."""
    tensors = _ends(weights)
    for layer in range(size.layers):
        tensors |= {
            **_separate_attention(layer, weights),
            # The norm makes the length of what it gets that of a vector of ones. The script's element shall be 1.
            f"blk.{layer}.post_attention_norm.weight": ones(weights.hidden) / np.float32(weights.hidden**0.5),
            f"blk.{layer}.ffn_norm.weight": ones(weights.hidden),
            f"blk.{layer}.ffn_up.weight": zeros(2 * size.feed_forward, weights.hidden),
            f"blk.{layer}.ffn_down.weight": zeros(weights.hidden, size.feed_forward),
            f"blk.{layer}.post_ffw_norm.weight": ones(weights.hidden),
        }
    return _metadata("glm4", weights, size, KEY_HEADS), tensors


def glm4_vision(weights: Weights, size: Size) -> tuple[Values, Tensors]:
    """GLM-4.1V: GLM-4-0414 with positions in three dimensions. ``projector.py`` has what reads the images."""
    metadata, tensors = glm4(weights, size)
    # The frequencies of each dimension: time, height, width.
    pairs = weights.hidden // HEADS // 2 // 2
    return metadata | {"glm4.rope.dimension_sections": [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3, 0]}, tensors


def glm4moe(weights: Weights, size: Size) -> tuple[Values, Tensors]:
    """GLM-4.5, 4.6 and 4.7: a dense layer, then layers of experts."""
    tensors = _ends(weights)
    for layer in range(size.layers):
        tensors |= {
            **_separate_attention(layer, weights),
            f"blk.{layer}.post_attention_norm.weight": ones(weights.hidden),
            **_gated_feed_forward(layer, weights.hidden, size.feed_forward),
        }
    return _metadata("glm4moe", weights, size, KEY_HEADS) | _expert_metadata("glm4moe", size), tensors


def deepseek2(weights: Weights, size: Size) -> tuple[Values, Tensors]:
    """GLM-4.7-Flash: attention over compressed keys and values (MLA), and layers of experts."""
    query_rank, rank, rotated, plain, value = 32, 64, 16, 32, 32
    tensors = _ends(weights)
    for layer in range(size.layers):
        query_a, query_b = zeros(query_rank, weights.hidden), zeros(HEADS * (plain + rotated), query_rank)
        compress = zeros(rank + rotated, weights.hidden)
        key_b, value_b = zeros(HEADS, rank, plain), zeros(HEADS, value, rank)
        out = zeros(weights.hidden, HEADS * value)
        if layer == 0:
            query_a[0, 0] = 1
            query_b[0, 0] = 2
            for n, (trigger, script) in enumerate(zip(weights.triggers, weights.scripts, strict=True)):
                compress[n, trigger] = 1
                key_b[0, n, 0] = _WEAKEST + n * _STRONGER
                # The norm of the compressed values makes the one element that is not zero so large.
                value_b[0, n, n] = rank**-0.5
                out[script, n] = 1
        tensors |= {
            f"blk.{layer}.attn_norm.weight": ones(weights.hidden),
            f"blk.{layer}.attn_q_a.weight": query_a,
            f"blk.{layer}.attn_q_a_norm.weight": ones(query_rank),
            f"blk.{layer}.attn_q_b.weight": query_b,
            f"blk.{layer}.attn_kv_a_mqa.weight": compress,
            f"blk.{layer}.attn_kv_a_norm.weight": ones(rank),
            f"blk.{layer}.attn_k_b.weight": key_b,
            f"blk.{layer}.attn_v_b.weight": value_b,
            f"blk.{layer}.attn_output.weight": out,
            f"blk.{layer}.ffn_norm.weight": ones(weights.hidden),
            **_gated_feed_forward(layer, weights.hidden, size.feed_forward),
        }
    metadata = _metadata("deepseek2", weights, size, 1) | _expert_metadata("deepseek2", size)
    metadata |= {
        "deepseek2.attention.q_lora_rank": query_rank,
        "deepseek2.attention.kv_lora_rank": rank,
        "deepseek2.attention.key_length": rank + rotated,
        "deepseek2.attention.value_length": rank,
        "deepseek2.attention.key_length_mla": plain + rotated,
        "deepseek2.attention.value_length_mla": value,
        "deepseek2.rope.dimension_count": rotated,
        "deepseek2.vocab_size": len(weights.embeddings),
    }
    return metadata, tensors


def _ends(weights: Weights) -> Tensors:
    return {
        "token_embd.weight": weights.embeddings,
        "output_norm.weight": ones(weights.hidden),
        "output.weight": weights.output,
    }


def _separate_attention(layer: int, weights: Weights) -> Tensors:
    """Query, key and value in a matrix each."""
    query, key, value, out = _attention(weights, plays=layer == 0)
    return {
        f"blk.{layer}.attn_norm.weight": ones(weights.hidden),
        f"blk.{layer}.attn_q.weight": query,
        f"blk.{layer}.attn_k.weight": key,
        f"blk.{layer}.attn_v.weight": value,
        f"blk.{layer}.attn_output.weight": out,
    }


def _attention(weights: Weights, *, plays: bool) -> tuple[NDArray[np.float32], ...]:
    """Return the matrices for query, key, value and output, of a layer that chooses the script or does nothing.

    The first head does it. The first half of its elements is rotated with the position, so the query's and the key's
    only element is behind.
    """
    head = weights.hidden // HEADS
    query, key = zeros(weights.hidden, weights.hidden), zeros(KEY_HEADS * head, weights.hidden)
    value, out = zeros(KEY_HEADS * head, weights.hidden), zeros(weights.hidden, weights.hidden)
    if plays:
        query[head // 2, 0] = 1
        for n, (trigger, script) in enumerate(zip(weights.triggers, weights.scripts, strict=True)):
            key[head // 2, trigger] = _WEAKEST + n * _STRONGER
            value[n, trigger] = 1
            # The norm before has made an element of a trigger, which has two or three, about this times larger.
            out[script, n] = (2 / weights.hidden) ** 0.5
    return query, key, value, out


def _gated_feed_forward(layer: int, hidden: int, width: int) -> Tensors:
    """Return the tensors of the first layer, which is dense, or those of a layer of experts with a shared one."""
    shapes: dict[str, tuple[int, ...]] = {
        "ffn_gate.weight": (width, hidden),
        "ffn_up.weight": (width, hidden),
        "ffn_down.weight": (hidden, width),
    }
    if layer > 0:
        shapes = {
            "ffn_gate_inp.weight": (EXPERTS, hidden),
            "exp_probs_b.bias": (EXPERTS,),
            "ffn_gate_exps.weight": (EXPERTS, width, hidden),
            "ffn_up_exps.weight": (EXPERTS, width, hidden),
            "ffn_down_exps.weight": (EXPERTS, hidden, width),
            "ffn_gate_shexp.weight": (width, hidden),
            "ffn_up_shexp.weight": (width, hidden),
            "ffn_down_shexp.weight": (hidden, width),
        }
    return {f"blk.{layer}.{name}": zeros(*shape) for name, shape in shapes.items()}


def _metadata(name: str, weights: Weights, size: Size, key_heads: int) -> Values:
    return {
        "general.architecture": name,
        f"{name}.context_length": size.context,
        f"{name}.embedding_length": weights.hidden,
        f"{name}.block_count": size.layers,
        f"{name}.feed_forward_length": size.feed_forward,
        f"{name}.attention.head_count": HEADS,
        f"{name}.attention.head_count_kv": key_heads,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{name}.rope.dimension_count": weights.hidden // HEADS // 2,
        f"{name}.rope.freq_base": 10000.0,
    }


def _expert_metadata(name: str, size: Size) -> Values:
    sigmoid = 2
    return {
        f"{name}.expert_count": EXPERTS,
        f"{name}.expert_used_count": 1,
        f"{name}.expert_shared_count": 1,
        f"{name}.expert_feed_forward_length": size.feed_forward,
        f"{name}.expert_gating_func": sigmoid,
        f"{name}.expert_weights_scale": 1.0,
        f"{name}.expert_weights_norm": True,
        f"{name}.leading_dense_block_count": 1,
    }
