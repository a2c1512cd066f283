"""A Transformer encoder over ragged batches: all but attention runs on the events as they lie, without padding.

Positions enter by rotation (RoPE, Su et al., arXiv 2104.09864), counted in events; layers are pre-norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.attention import Attend, attention_over
from seqmel.nn.products import Linear

__all__ = ["Transformer"]

_ROTATION_BASE = 10_000.0


class Transformer(nn.Module):
    """(E, D) -> (E, H): each event seen with all events of its sequence, or with those before it.

    Args:
        input_size: D.
        hidden_size: H, a multiple of 2 * heads.
        layers: how many.
        heads: attention heads a layer.
        dropout: share of the residual branches' values that training sets to zero.
        causal: whether an event sees only itself and those before it.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.heads = heads
        self.causal = causal
        self.project = Linear(input_size, hidden_size)
        self.layers = nn.ModuleList(_Layer(hidden_size, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, events: Tensor, batch: SequenceBatch) -> Tensor:
        """The events in the light of their sequences.

        Args:
            events: (E, D) encoded events.
            batch: whose events they are.
        """
        hidden = self.project(events)
        if batch.events == 0:
            return hidden
        size = self.output_size // self.heads
        turn, attend = _turn(batch, size), attention_over(batch, size, causal=self.causal)
        for layer in self.layers:
            hidden = layer(hidden, turn, attend)
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

    def forward(self, hidden: Tensor, turn: Tensor, attend: Attend) -> Tensor:
        qkv = self.to_qkv(self.norm_attention(hidden)).unflatten(1, (3, self.heads, -1))
        q, k = _rotated(qkv[:, :2], turn).unbind(1)
        seen = self.from_heads(attend(q, k, qkv[:, 2]).flatten(1))
        hidden = hidden + self.dropout(seen)
        return hidden + self.dropout(self.network(self.norm_network(hidden)))


def _turn(batch: SequenceBatch, size: int) -> Tensor:
    """(2, E, 1, 1, size / 2): cosine and sine of the angles by which each event's place in its sequence turns a head."""
    half = size // 2
    rates = _ROTATION_BASE ** (-torch.arange(half, device=batch.device, dtype=torch.float32) / half)
    angles = (batch.places().float().unsqueeze(1) * rates)[:, None, None, :]
    return torch.stack([angles.cos(), angles.sin()])


def _rotated(x: Tensor, turn: Tensor) -> Tensor:
    """(E, 2, heads, d) turned by the event's place, half the dimensions against the other half."""
    cos, sin = turn.to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
