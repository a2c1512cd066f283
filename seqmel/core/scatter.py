"""Deterministic scatter-add: sums of rows by index, in a fixed order on every run and device.

torch adds such rows with atomic operations, in the order of its threads: `index_add` and the
gradient of `index_select` on a GPU, and the gradient of `x[index]` on the CPU from 32,768 numbers
on. Then the last bits differ between runs, and so do models trained with the same seed. Here rows
are first sorted by index.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["gather_2d", "sort_by_index", "sum_rows", "take_rows"]


def take_rows(table: Tensor, index: Tensor) -> Tensor:
    """Select rows of a table. In the gradient, rows of equal index are added deterministically.

    Args:
        table: (R, ...).
        index: (E,) int64, row indices.

    Returns:
        (E, ...).
    """
    return (
        table.index_select(0, index)
        if table.device.type == "cpu"
        else _TakeRows.apply(table, index)
    )


def gather_2d(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return (E,) table[row, column] of a table (R, C). The gradient is as in `take_rows`."""
    return take_rows(table.reshape(-1), row * table.shape[1] + column)


def sum_rows(values: Tensor, index: Tensor, count: int, *, begins: Tensor | None = None) -> Tensor:
    """Sum rows by index. An index without rows gives zeros.

    Args:
        values: (E, ...).
        index: (E,) int64, indices.
        count: The number of indices.
        begins: (count,) int64, where the rows of each index begin, if they are sorted by index.
            None sorts them.

    Returns:
        (count, ...).
    """
    if values.device.type == "cpu":
        return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)
    return _SumRows.apply(values, index, count, begins)


def sort_by_index(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return (E,) a stable sort of the rows by index, and (count,) where each index begins."""
    sorted_index, order = torch.sort(index, stable=True)
    # bincount would wait for the GPU
    return order, torch.searchsorted(sorted_index, torch.arange(count, device=index.device))


def _sorted_sum(values: Tensor, index: Tensor, count: int, begins: Tensor | None = None) -> Tensor:
    if begins is None:
        order, begins = sort_by_index(index, count)
    else:
        order = torch.arange(len(values), device=values.device)
    summed = F.embedding_bag(order, values.unsqueeze(1).flatten(1), begins, mode="sum")
    return summed.view(count, *values.shape[1:])


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(table)
        return table.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sorted_sum(gradients[0], ctx.saved_tensors[0], ctx.count), None


class _SumRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, index: Tensor, count: int, begins: Tensor | None = None
    ) -> Tensor:
        ctx.save_for_backward(index)
        return _sorted_sum(values, index, count, begins)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None, None
