"""Compute losses over many pairs in blocks of rows.

A small batch is one block. For a large batch, every block is recomputed in the backward pass (Chen
et al.: Training deep nets with sublinear memory cost, arXiv 1604.06174). The matrix of all pairs is
never held in memory. This doubles the forward computation; memory grows linearly with the batch
instead of quadratically.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["mean_over_rows", "over_rows", "summed_over_rows"]

# Cells (rows times columns) per block: 16 MB per matrix. A loss needs about ten matrices.
_CELLS = 2**22


def over_rows(
    part: Callable[[Tensor, slice], tuple[Tensor, ...]],
    embeddings: Tensor,
    rows: int,
    *,
    columns: int | None = None,
) -> list[tuple[Tensor, ...]]:
    """Return `part(embeddings, rows)` for each block of rows.

    Args:
        part: computes tensors from all embeddings and a block of rows. It must be deterministic,
            since it may be called twice.
        embeddings: (N, D).
        rows: total number of rows.
        columns: numbers needed per row; N if None.
    """
    size = max(1, _CELLS // max(1, len(embeddings) if columns is None else columns))
    if rows <= size:
        return [part(embeddings, slice(0, rows))]
    blocks = [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]
    return [
        checkpoint(part, embeddings, block, use_reentrant=False, preserve_rng_state=False)
        for block in blocks
    ]


def summed_over_rows(
    part: Callable[[Tensor, slice], tuple[Tensor, ...]], embeddings: Tensor, rows: int
) -> tuple[Tensor, ...]:
    """Return the tensors of `part`, each summed over all blocks; see `over_rows`.

    Args:
        part: as in `over_rows`; returns tensors of fixed shapes.
        embeddings: (N, D).
        rows: total number of rows.
    """
    first, *others = over_rows(part, embeddings, rows)
    for other in others:
        first = tuple(one + more for one, more in zip(first, other, strict=True))
    return first


def mean_over_rows(
    part: Callable[[Tensor, slice], tuple[Tensor, Tensor]], embeddings: Tensor, rows: int
) -> Tensor:
    """Return the mean over all blocks, for a `part` that returns sums and counts.

    It is zero if nothing is counted; see `over_rows`.

    Args:
        part: as in `over_rows`; returns a sum and a count, both scalars.
        embeddings: (N, D).
        rows: total number of rows.

    Returns:
        A scalar.
    """
    total, count = summed_over_rows(part, embeddings, rows)
    return total / count.clamp(min=1)
