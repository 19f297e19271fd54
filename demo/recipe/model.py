"""The ChatGLM3 architecture in PyTorch, as chatglm-cpp computes it (`ChatGLM2ForCausalLM` in its sources).

Shapes in comments: B dialogues, T tokens, H query heads, K key-value heads, D channels a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Geometry; the names follow the configuration of the official ChatGLM3 checkpoints where they differ in size only."""

    vocab_size: int = 3072
    hidden_size: int = 256
    num_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    ffn_hidden_size: int = 640
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_length: int = 2048

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads


class RMSNorm(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.eps = config.norm_eps

    def forward(self, hidden: Tensor) -> Tensor:
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the first half of each head's channels, neighbours paired.

    heads: [B, heads, T, D]; cos, sin: [T, D / 4].
    """
    rotary, rest = heads.chunk(2, dim=-1)
    even, odd = rotary[..., 0::2], rotary[..., 1::2]
    rotated = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((rotated, rest), dim=-1)


class Block(nn.Module):
    """Grouped-query attention and a SwiGLU feed-forward layer, each behind a norm and added to the residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.key_value_size = config.num_key_value_heads * config.head_size
        self.input_norm = RMSNorm(config)
        self.query_key_value = nn.Linear(config.hidden_size, config.hidden_size + 2 * self.key_value_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.post_attention_norm = RMSNorm(config)
        self.up = nn.Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=False)
        self.down = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
        """hidden: [B, T, hidden_size] -> the same shape, or [N, hidden_size] at `positions` [N] of the flattened B * T."""
        size, group = self.config.head_size, self.config.num_attention_heads // self.config.num_key_value_heads
        projected = self.query_key_value(self.input_norm(hidden))
        query, key, value = (
            part.unflatten(-1, (-1, size)).transpose(1, 2)  # [B, H or K, T, D]
            for part in projected.split((self.config.hidden_size, self.key_value_size, self.key_value_size), dim=-1)
        )
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended = attended.transpose(1, 2).flatten(-2)
        if positions is not None:
            hidden, attended = hidden.flatten(0, 1)[positions], attended.flatten(0, 1)[positions]
        hidden = hidden + self.dense(attended)
        gate, linear = self.up(self.post_attention_norm(hidden)).chunk(2, dim=-1)
        return hidden + self.down(F.silu(gate) * linear)


class ChatGLM3(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self._initialize()
        rotary_size = config.head_size // 2
        frequencies = config.rope_theta ** (-torch.arange(0, rotary_size, 2) / rotary_size)
        angles = torch.outer(torch.arange(config.max_length), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def _initialize(self) -> None:
        """Initialize random blocks, whose projections back into the residual are scaled down by their number."""
        residual_scale = (2 * self.config.num_layers) ** -0.5
        for block in self.blocks:
            nn.init.zeros_(block.query_key_value.bias)
            for layer, scale in (
                (block.query_key_value, 0.7),
                (block.up, 0.7),
                (block.dense, residual_scale),
                (block.down, residual_scale),
            ):
                nn.init.normal_(layer.weight, std=scale * layer.in_features**-0.5)

    def forward(self, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return logits [B * T, vocab_size] for ids [B, T], or only those at `positions` of the flattened B * T."""
        length = ids.shape[1]
        hidden = self.embedding(ids)
        for block in self.blocks[:-1]:
            hidden = block(hidden, self.cos[:length], self.sin[:length])
        hidden = self.blocks[-1](hidden, self.cos[:length], self.sin[:length], positions)
        return self.output(self.final_norm(hidden)).view(-1, self.config.vocab_size)

    @torch.no_grad()
    def install_copying(self, seed: int, sharpness: float = 4.0, strength: float = 2.0) -> None:
        """Set the weights of the first two layers so that they copy: they predict what followed the same tokens before.

        Small models learn these induction heads (Olsson et al., 2022) late if left alone; given them, this one copies
        values that it has never seen from its first steps on. The residual is laid out in four parts, `half` channels
        for the token itself, `size` each for the token before it and for the one before that:

        - layer 0: two heads look one and two tokens back and write what they see into their part;
        - layer 1: one head looks where the token before was the present one, another where also the one before that was;
          both write the token seen there, turned by a random rotation;
        - the output reads tokens through the same rotation, so that a token itself does not predict itself.
        """
        config = self.config
        width, size, half = config.hidden_size, config.head_size, config.hidden_size // 2
        before, two_before = slice(half, half + size), slice(half + size, half + 2 * size)
        generator = torch.Generator().manual_seed(seed)

        def orthonormal(rows: int, columns: int) -> Tensor:
            return torch.linalg.qr(torch.randn(columns, rows, generator=generator))[0].T

        def query_of(block: Block, head: int) -> Tensor:
            return block.query_key_value.weight[head * size : (head + 1) * size]

        def key_of(block: Block, head: int) -> Tensor:
            return block.query_key_value.weight[width + head * size : width + (head + 1) * size]

        def value_of(block: Block, head: int) -> Tensor:
            start = width + block.key_value_size + head * size
            return block.query_key_value.weight[start : start + size]

        def written_by(block: Block, head: int) -> Tensor:
            return block.dense.weight[:, head * size : (head + 1) * size]

        tokens = torch.randn(config.vocab_size, half, generator=generator)
        rotation = orthonormal(half, half)
        self.embedding.weight.zero_()
        self.embedding.weight[:, :half] = tokens
        self.output.weight.normal_(std=0.01, generator=generator)
        self.output.weight[:, :half] = 0.05 * tokens @ rotation.T

        first, second = self.blocks[0], self.blocks[1]
        summary, seen = orthonormal(size, half), orthonormal(size, half)
        self._install_offset_heads()
        value_of(first, 1).zero_()[:, :half] = summary
        for head, part in ((2, before), (3, two_before)):
            written_by(first, head).zero_()[part] = torch.eye(size)

        content = size // 2  # the channels of a head from here on are not rotated by position
        middle = content + size // 4
        for key_head, head in ((0, 0), (1, 2)):
            query, key = query_of(second, head).zero_(), key_of(second, key_head).zero_()
            if key_head == 0:
                match = orthonormal(size - content, size)
                query[content:, :half], key[content:, before] = sharpness * match @ summary, match
            else:
                match, earlier = orthonormal(middle - content, size), orthonormal(size - middle, size)
                query[content:middle, :half], key[content:middle, before] = sharpness * match @ summary, match
                query[middle:, before], key[middle:, two_before] = sharpness * earlier, earlier
            value_of(second, key_head).zero_()[:, :half] = seen
            written_by(second, head).zero_()[:half] = strength * rotation @ seen.T

    def _install_offset_heads(self, amplitude: float = 8.0, pairs: int = 8) -> None:
        """Make the last two query heads of the first layer attend one and two tokens back, whatever the tokens are.

        The rotary embedding turns a pair of channels by its frequency times the position; a constant key and, as the
        query, the same vector turned back by `offset` positions match best there.
        """
        config, layer = self.config, self.blocks[0].query_key_value
        size = config.head_size
        first_query = (config.num_attention_heads - 2) * size
        key = config.hidden_size + (config.num_key_value_heads - 1) * size
        layer.weight[first_query : config.hidden_size] = 0
        layer.weight[key : key + size] = 0
        layer.bias[key : key + 2 * pairs : 2] = amplitude
        for head, offset in enumerate((1, 2)):
            start = first_query + head * size
            layer.bias[start : start + 2 * pairs : 2] = amplitude * self.cos[offset, :pairs]
            layer.bias[start + 1 : start + 2 * pairs : 2] = -amplitude * self.sin[offset, :pairs]

    @torch.no_grad()
    def greedy(self, prompt: list[int], stop_ids: set[int], max_new_tokens: int) -> list[int]:
        """Return the most probable continuation of `prompt`, up to and including the first stop id."""
        ids = list(prompt)
        while len(ids) < len(prompt) + max_new_tokens:
            logits = self(torch.tensor([ids]), torch.tensor([len(ids) - 1]))
            ids.append(int(logits.argmax()))
            if ids[-1] in stop_ids:
                break
        return ids[len(prompt) :]
