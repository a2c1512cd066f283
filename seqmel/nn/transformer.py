"""A Transformer encoder over ragged batches: all but attention runs on the events as they lie, without padding.

Attention needs sequences side by side. They are taken in groups of like length, so that little is padded, and what is
padded is masked; on a GPU one group is the whole batch. Positions enter by rotation (RoPE, Su et al., arXiv
2104.09864), counted in events; layers are pre-norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.data.batch import SequenceBatch

__all__ = ["Transformer"]

_GROUP_WASTE = 0.85  # a group's shortest sequence has at least this share of its longest
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
        self.causal = causal
        self.project = nn.Linear(input_size, hidden_size)
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
        groups = [
            _Group(batch, rows, causal=self.causal)
            for rows in _groups(batch.lengths, on_cpu=events.device.type == "cpu")
        ]
        for layer in self.layers:
            hidden = layer(hidden, groups)
        return self.norm(hidden)


def _groups(lengths: Tensor, *, on_cpu: bool) -> list[Tensor]:
    """Sequences of like length together, shortest first; empty ones in none."""
    order = torch.argsort(lengths, stable=True)
    order = order[lengths[order] > 0]
    if not on_cpu:
        return [order]
    groups: list[Tensor] = []
    end = len(order)
    while end > 0:
        longest = int(lengths[order[end - 1]])
        begin = int(torch.searchsorted(lengths[order], int(_GROUP_WASTE * longest)))
        groups.append(order[begin:end])
        end = begin
    return groups


class _Group:
    """Some sequences of a batch side by side, worked out on the host.

    (S, L) event numbers and which of them are real, None where all are; (F,) the numbers of the real ones, and their places
    among the S L.
    """

    def __init__(self, batch: SequenceBatch, rows: Tensor, *, causal: bool) -> None:
        lengths = batch.lengths[rows]
        longest = int(lengths.max())
        begins = (batch.lengths.cumsum(0) - batch.lengths)[rows]
        place = torch.arange(longest)
        real = place < lengths.unsqueeze(1)
        events = torch.where(real, begins.unsqueeze(1) + place, 0)
        places = real.flatten().nonzero()[:, 0]

        def sent(values: Tensor) -> Tensor:
            return values.to(batch.device, non_blocking=True)

        self.events, self.flat = sent(events), sent(events.flatten()[places])
        whole = len(places) == real.numel()
        self.real, self.places = (None if whole else sent(x) for x in (real, places))
        self.causal = causal  # what is not real comes last, so that looking back never meets it


class _Layer(nn.Module):
    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(size)
        self.to_qkv = nn.Linear(size, 3 * size)
        self.from_heads = nn.Linear(size, size)
        self.norm_network = nn.LayerNorm(size)
        self.network = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, groups: list[_Group]) -> Tensor:
        hidden = hidden + self.dropout(self._attend(self.norm_attention(hidden), groups))
        return hidden + self.dropout(self.network(self.norm_network(hidden)))

    def _attend(self, hidden: Tensor, groups: list[_Group]) -> Tensor:
        qkv = self.to_qkv(hidden)
        seen = [self._attend_group(qkv, group) for group in groups]
        where = torch.cat([group.flat for group in groups])
        together = torch.cat(seen)
        return self.from_heads(torch.zeros_like(together).index_copy(0, where, together))

    def _attend_group(self, qkv: Tensor, group: _Group) -> Tensor:
        """(F, H) for the F real events of the group, in its order."""
        sequences, longest = group.events.shape
        padded = qkv[group.events].view(sequences, longest, 3, self.heads, -1)
        q, k, v = (x.transpose(1, 2) for x in padded.unbind(2))
        mask = None if group.real is None or group.causal else group.real[:, None, None, :]
        seen = F.scaled_dot_product_attention(_rotated(q), _rotated(k), v, attn_mask=mask, is_causal=group.causal)
        seen = seen.transpose(1, 2).reshape(sequences * longest, -1)
        return seen if group.places is None else seen.index_select(0, group.places)


def _rotated(x: Tensor) -> Tensor:
    """(S, heads, L, d) turned by the event's place, half the dimensions against the other half."""
    half = x.shape[-1] // 2
    rates = _ROTATION_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    turn = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32).unsqueeze(1) * rates
    cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
