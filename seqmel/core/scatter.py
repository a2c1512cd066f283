"""Sums over the rows that share a place, in one fixed order: the same numbers give the same sum on every run and device.

torch's own ways to them add with atomic operations, in the order in which threads happen to come by: `index_add` and the
gradient of `index_select` on a GPU, the gradient of `x[index]` on the CPU from 32,768 numbers on. The last bits then differ
from run to run, and so does a model that is trained with the same seed. Here rows with one place are put side by side first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["gather_2d", "sort_by_index", "sum_rows", "take_rows"]


def take_rows(table: Tensor, places: Tensor) -> Tensor:
    """The rows of a table at these places; those of one place add up in its gradient.

    Args:
        table: (R, ...).
        places: (E,) int64.

    Returns:
        (E, ...).
    """
    return table.index_select(0, places) if table.device.type == "cpu" else _TakeRows.apply(table, places)


def gather_2d(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """(E,) the numbers of a table (R, C) at these rows and columns, each (E,) int64; see `take_rows`."""
    return take_rows(table.reshape(-1), row * table.shape[1] + column)


def sum_rows(values: Tensor, places: Tensor, count: int, *, begins: Tensor | None = None) -> Tensor:
    """For each of `count` places the sum of the rows that have it; zeros where there is none.

    Args:
        values: (E, ...).
        places: (E,) int64.
        count: how many places there are.
        begins: (count,) int64, where the rows of each place begin, if they stand place by place already; they are sorted else.

    Returns:
        (count, ...).
    """
    if values.device.type == "cpu":
        return values.new_zeros(count, *values.shape[1:]).index_add(0, places, values)
    return _SumRows.apply(values, places, count, begins)


def sort_by_index(places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(E,) the numbers of the rows, place by place and in their order, and (count,) where those of each place begin."""
    sorted_places, order = torch.sort(places, stable=True)
    # bincount would wait for a GPU
    return order, torch.searchsorted(sorted_places, torch.arange(count, device=places.device))


def _in_order(values: Tensor, places: Tensor, count: int, begins: Tensor | None = None) -> Tensor:
    if begins is None:
        order, begins = sort_by_index(places, count)
    else:
        order = torch.arange(len(values), device=values.device)
    summed = F.embedding_bag(order, values.unsqueeze(1).flatten(1), begins, mode="sum")
    return summed.view(count, *values.shape[1:])


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(table)
        return table.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _in_order(gradients[0], ctx.saved_tensors[0], ctx.count), None


class _SumRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, count: int, begins: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(places)
        return _in_order(values, places, count, begins)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None, None
