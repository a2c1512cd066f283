"""A Transformer encoder over ragged batches. All but attention works on the events without padding.

Positions are rotary (RoPE, Su et al., arXiv 2104.09864) and count events. Layers are pre-norm.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from seqmel.config.options.base import Layers, MultipleOf, Positive, Share
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.attention import Attend, attention_over
from seqmel.nn.products import Linear

__all__ = ["Transformer"]

_ROTATION_BASE = 10_000.0


class Transformer(nn.Module):
    """Pre-norm Transformer with rotary positions.

    (E, D) -> (E, H): each event attends to all events of its sequence, or to the earlier ones.

    Args:
        input_size: D.
        causal: Whether an event attends only to itself and earlier events.
        hidden_size: Width H of the model, a multiple of 2 * heads.
        layers: Number of layers.
        heads: Number of attention heads per layer.
        dropout: Dropout of the residual branches.
    """

    how: ClassVar[str] = (
        "pre-norm blocks of softmax(Q K^T / sqrt(d)) V and a feed-forward layer, with rotary "
        "positions; `causal: true` looks back only"
    )
    source: ClassVar[str] = "Vaswani et al., 1706.03762; rotary positions: Su et al., 2104.09864"
    when: ClassVar[str] = (
        "events far apart explain each other, histories are long, and there is a GPU. It "
        "cannot continue from a `--state`"
    )

    def __init__(
        self,
        input_size: int,
        *,
        causal: bool = False,
        hidden_size: Annotated[Positive, MultipleOf(2, "heads")] = 256,
        layers: Layers = 2,
        heads: Positive = 4,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.heads = heads
        self.causal = causal
        self.project = Linear(input_size, hidden_size)
        self.layers = nn.ModuleList(_Layer(hidden_size, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, events: Tensor, batch: SequenceBatch) -> Tensor:
        """Compute contextualised event representations.

        Args:
            events: (E, D) encoded events.
            batch: The sequences of the events.

        Returns:
            (E, H).
        """
        hidden = self.project(events)
        if batch.events == 0:
            return hidden
        size = self.output_size // self.heads
        rotation = _rotation(batch, size)
        attend = attention_over(batch, size, causal=self.causal)
        for layer in self.layers:
            hidden = layer(hidden, rotation, attend)
        return self.norm(hidden)


class _Layer(nn.Module):
    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(size)
        self.to_qkv = Linear(size, 3 * size)
        self.from_heads = Linear(size, size)
        self.norm_network = nn.LayerNorm(size)
        self.network = nn.Sequential(Linear(size, 4 * size), nn.GELU(), Linear(4 * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, rotation: Tensor, attend: Attend) -> Tensor:
        qkv = self.to_qkv(self.norm_attention(hidden)).unflatten(1, (3, self.heads, -1))
        q, k = _rotated(qkv[:, :2], rotation).unbind(1)
        seen = self.from_heads(attend(q, k, qkv[:, 2]).flatten(1))
        hidden = hidden + self.dropout(seen)
        return hidden + self.dropout(self.network(self.norm_network(hidden)))


def _rotation(batch: SequenceBatch, size: int) -> Tensor:
    """Return (2, E, 1, 1, size / 2): cosine and sine of each event's rotary angles."""
    half = size // 2
    rates = _ROTATION_BASE ** (-torch.arange(half, device=batch.device, dtype=torch.float32) / half)
    angles = (batch.positions().float().unsqueeze(1) * rates)[:, None, None, :]
    return torch.stack([angles.cos(), angles.sin()])


def _rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate (E, 2, heads, d) queries and keys by position, one half of d with the other."""
    cos, sin = rotation.to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
