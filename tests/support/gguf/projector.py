"""Write a tiny projector (mmproj) of GLM-4.1V: it reads an image, and gives the model zeros for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.gguf.file import Metadata, floats, ones, write_gguf, zeros

PATCH, IMAGE, WIDTH, HEADS, LAYERS, FEED_FORWARD = 14, 112, 32, 2, 1, 32
MERGED = 2


def write_projector(path: Path, *, hidden: int = 64) -> Path:
    """Write it to ``path``, for a model whose hidden state is ``hidden`` wide."""
    vector = ones(WIDTH)
    tensors: dict[str, NDArray[Any]] = {
        "v.patch_embd.weight": zeros(WIDTH, 3, PATCH, PATCH),
        "v.patch_embd.weight.1": zeros(WIDTH, 3, PATCH, PATCH),
        "v.patch_embd.bias": vector,
        "v.norm_embd.weight": vector,
        "v.position_embd.weight": zeros((IMAGE // PATCH) ** 2, WIDTH),
        "v.post_ln.weight": vector,
        "mm.patch_merger.weight": zeros(hidden, WIDTH, MERGED, MERGED).astype(np.float16),
        "mm.patch_merger.bias": zeros(hidden),
        "mm.model.fc.weight": zeros(hidden, hidden),
        "mm.post_norm.weight": ones(hidden),
        "mm.post_norm.bias": zeros(hidden),
        "mm.up.weight": zeros(FEED_FORWARD, hidden),
        "mm.gate.weight": zeros(FEED_FORWARD, hidden),
        "mm.down.weight": zeros(hidden, FEED_FORWARD),
    }
    for layer in range(LAYERS):
        tensors |= {
            f"v.blk.{layer}.ln1.weight": vector,
            f"v.blk.{layer}.attn_qkv.weight": zeros(3 * WIDTH, WIDTH),
            f"v.blk.{layer}.attn_out.weight": zeros(WIDTH, WIDTH),
            f"v.blk.{layer}.ln2.weight": vector,
            f"v.blk.{layer}.ffn_gate.weight": zeros(FEED_FORWARD, WIDTH),
            f"v.blk.{layer}.ffn_up.weight": zeros(FEED_FORWARD, WIDTH),
            f"v.blk.{layer}.ffn_down.weight": zeros(WIDTH, FEED_FORWARD),
        }
    metadata: Metadata = {
        "general.architecture": "clip",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "glm4v",
        "clip.use_silu": True,
        "clip.vision.image_size": IMAGE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.spatial_merge_size": MERGED,
        "clip.vision.embedding_length": WIDTH,
        "clip.vision.feed_forward_length": FEED_FORWARD,
        "clip.vision.block_count": LAYERS,
        "clip.vision.projection_dim": hidden,
        "clip.vision.attention.head_count": HEADS,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": floats(0.5, 0.5, 0.5),
        "clip.vision.image_std": floats(0.5, 0.5, 0.5),
    }
    return write_gguf(path, metadata, tensors)
