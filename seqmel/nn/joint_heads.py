"""Heads that see the vector of a client together with facts about the client.

The outputs are the sum of two parts. The wide part is a linear head on the vector beside
piecewise-linear encodings of numbers and one-hot codes of categories; it is solved exactly. The
deep part begins at zero and learns what the wide part lacks: embeddings of all facts beside the
projected vector, a cross network (DCN-V2, Wang et al., WWW 2021, arXiv 2008.13535), and a layer of
rectified units. Fine-tuning trains both with the encoder (joint fusion: nuFormer, arXiv
2507.23267).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.data.tables.facts import Facts
from seqmel.nn.heads import Heads

__all__ = ["FactEmbedding", "JointHeads", "new_heads"]

_FACT_SIZE = 8
_VECTOR_SIZE = 32
_RANK = 32
_CROSSES = 2
_HIDDEN = 64


class FactEmbedding(nn.Module):
    """Encodings and embeddings of encoded facts, see `Facts.encode`.

    Args:
        facts: the facts of the model.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.numbers = len(facts.numbers)
        self.bins = facts.bins
        self.sizes = [fact.size for fact in facts.categories]
        self.wide_size = self.numbers * (self.bins + 1) + sum(self.sizes)
        self.output_size = _FACT_SIZE * (self.numbers + len(self.sizes))
        # A bin that a number lacks is always empty, so its weights have no effect.
        self.weight = nn.Parameter(torch.empty(self.numbers, self.bins + 1, _FACT_SIZE))
        self.bias = nn.Parameter(torch.empty(self.numbers, _FACT_SIZE))
        bound = (self.bins + 1) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        self.codes = nn.ModuleList(_small_embedding(size) for size in self.sizes)

    def encode_numbers(self, facts: Tensor) -> Tensor:
        """Return (B, numbers, bins + 1) piecewise-linear encodings; the last is 1 for a null.

        Args:
            facts: (B, facts) encoded facts.
        """
        positions = facts[:, : self.numbers, None]
        null = positions.isnan()
        steps = torch.arange(self.bins, device=facts.device, dtype=facts.dtype)
        filled = (positions.nan_to_num() - steps).clamp(0, 1)
        return torch.cat([filled, null.to(facts.dtype)], dim=2)

    def wide(self, facts: Tensor) -> Tensor:
        """Return (B, wide_size) encodings of numbers and one-hot codes of categories."""
        codes = facts[:, self.numbers :].long()
        parts = [self.encode_numbers(facts).flatten(1)]
        parts += [F.one_hot(codes[:, i], size).to(facts.dtype) for i, size in enumerate(self.sizes)]
        return torch.cat(parts, dim=1)

    def forward(self, facts: Tensor) -> Tensor:
        """Return (B, output_size) embeddings of all facts, side by side."""
        numbers = torch.einsum("bnk,nkd->bnd", self.encode_numbers(facts), self.weight)
        parts = [F.relu(numbers + self.bias).flatten(1)]
        codes = facts[:, self.numbers :].long()
        parts += [table(codes[:, i]) for i, table in enumerate(self.codes)]
        return torch.cat(parts, dim=1)


def _small_embedding(size: int) -> nn.Embedding:
    table = nn.Embedding(size, _FACT_SIZE)
    nn.init.normal_(table.weight, std=0.1)
    return table


class _Cross(nn.Module):
    """One layer of DCN-V2 with a matrix of low rank: x0 * (U V x + b) + x."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(size, min(_RANK, size), bias=False)
        self.up = nn.Linear(min(_RANK, size), size)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        return first * self.up(self.down(x)) + x


class JointHeads(nn.Module):
    """Outputs of each target from vectors and facts: (B, D), (B, facts) -> (B, size) each.

    Args:
        input_size: D, width of the vector.
        sizes: number of outputs of each target.
        facts: the facts of the model.
        dropout: dropout probability of the inputs of both parts.
    """

    def __init__(
        self, input_size: int, sizes: Sequence[int], facts: Facts, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.dropout = dropout
        self.facts = FactEmbedding(facts)
        self.linear = Heads(input_size + self.facts.wide_size, sizes, dropout=dropout)
        self.project = nn.Linear(input_size, _VECTOR_SIZE)
        size = _VECTOR_SIZE + self.facts.output_size
        self.crosses = nn.ModuleList(_Cross(size) for _ in range(_CROSSES))
        self.hidden = nn.Linear(size, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, sum(sizes))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def is_linear(self) -> bool:
        """Whether the deep part adds nothing."""
        return not bool(self.out.weight.any() or self.out.bias.any())

    def inputs(self, vectors: Tensor, facts: Tensor) -> Tensor:
        """Return (B, D + wide_size), what the linear part sees before it is standardised."""
        return torch.cat([vectors, self.facts.wide(facts)], dim=1)

    def deep(self, vectors: Tensor, facts: Tensor) -> Tensor:
        """Return (B, outputs) of the deep part."""
        centred = self.linear.standardise(self.inputs(vectors, facts))[:, : self.input_size]
        projected = self.project(F.dropout(centred, self.dropout, self.training))
        first = torch.cat([projected, self.facts(facts)], dim=1)
        x = first
        for cross in self.crosses:
            x = cross(first, x)
        hidden = F.dropout(F.relu(self.hidden(x)), self.dropout, self.training)
        found: Tensor = self.out(hidden)
        return found

    def forward(self, vectors: Tensor, facts: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs of each target: (B, D), (B, facts) -> tuple of (B, size)."""
        assert facts is not None, "the model has facts"
        deep = self.deep(vectors, facts).split(self.linear.sizes, dim=1)
        linear = self.linear(self.inputs(vectors, facts))
        return tuple(a + b for a, b in zip(linear, deep, strict=True))


def new_heads(
    input_size: int, sizes: Sequence[int], facts: Facts | None, *, dropout: float = 0.0
) -> Heads | JointHeads:
    """Return heads on the vector alone, or with facts.

    Args:
        input_size: width of the vector.
        sizes: number of outputs of each target.
        facts: the facts of the model; None without.
        dropout: dropout probability of the inputs.
    """
    if facts is None:
        return Heads(input_size, sizes, dropout=dropout)
    return JointHeads(input_size, sizes, facts, dropout=dropout)
