"""Losses over many pairs, some at a time.

A small batch is one block. Of a large one every block is computed again for its gradient (Chen et al.: Training deep nets with
sublinear memory cost, arXiv 1604.06174), so that no matrix of all pairs is ever held: twice the products of the forward pass,
and memory that grows with the batch and not with its square.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["mean_over_rows", "over_rows", "summed_over_rows"]

_CELLS = 2**22  # rows times columns that are looked at together: 16 MB a matrix, of which a loss needs some ten


def over_rows(
    part: Callable[[Tensor, slice], tuple[Tensor, ...]], embeddings: Tensor, rows: int, *, columns: int | None = None
) -> list[tuple[Tensor, ...]]:
    """What `part(embeddings, rows)` gives for each block of rows.

    Args:
        part: tensors from all embeddings and some rows; without randomness, since it may be called twice.
        embeddings: (N, D).
        rows: how many there are in all.
        columns: numbers that a row needs; N where None.
    """
    size = max(1, _CELLS // max(1, len(embeddings) if columns is None else columns))
    if rows <= size:
        return [part(embeddings, slice(0, rows))]
    blocks = [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]
    return [checkpoint(part, embeddings, block, use_reentrant=False, preserve_rng_state=False) for block in blocks]


def summed_over_rows(
    part: Callable[[Tensor, slice], tuple[Tensor, ...]], embeddings: Tensor, rows: int
) -> tuple[Tensor, ...]:
    """The tensors that `part` gives, each summed over all blocks; see `over_rows`."""
    first, *others = over_rows(part, embeddings, rows)
    for other in others:
        first = tuple(one + more for one, more in zip(first, other, strict=True))
    return first


def mean_over_rows(part: Callable[[Tensor, slice], tuple[Tensor, Tensor]], embeddings: Tensor, rows: int) -> Tensor:
    """Of the sums and counts that `part` gives, all sums over all counts; zero where nothing is counted; see `over_rows`."""
    total, count = summed_over_rows(part, embeddings, rows)
    return total / count.clamp(min=1)
