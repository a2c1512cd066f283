"""Which embeddings are compared, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqmel.core.scatter import gather_2d, take_rows
from seqmel.objectives.losses.blocks import over_rows

__all__ = [
    "Pairs",
    "Triplets",
    "cross_distances",
    "distances",
    "distances_of_cosines",
    "distances_of_rows",
    "masked_logsumexp",
    "masked_mean",
    "masked_sum",
    "mined_sums",
    "mining_statistics",
    "neighbouring_views",
    "positive_pairs",
    "positives_of",
    "root",
    "same_client",
    "similarities",
]


class Pairs(NamedTuple):
    """P pairs of embeddings: pair p is of `first[p]` and `second[p]`, int64, and counts where `real[p]` is true."""

    first: Tensor
    second: Tensor
    real: Tensor


class Triplets(NamedTuple):
    """T triplets: an anchor, one of the same client, one of another; int64, and those that count are `real`."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    real: Tensor


def positives_of(clients: Tensor, *, anchors: int | None = None, most: int | None = None) -> tuple[Tensor, Tensor]:
    """The other embeddings of each anchor's client, in the order in which they stand.

    Args:
        clients: (N,) whose the embeddings are.
        anchors: A, only the first so many are anchors; all where None.
        most: at most so many embeddings of one client are looked at; counted where None, which waits for a GPU.

    Returns:
        (A, most - 1) int64 places, at least one column, and (A, most - 1) bool: which of them are there. Others are any
        valid place.
    """
    own = clients[:anchors]
    order = torch.argsort(clients, stable=True)
    ordered = clients[order]
    begin, end = torch.searchsorted(ordered, own), torch.searchsorted(ordered, own, right=True)
    if most is None:
        most = int((end - begin).max())
    most = max(2, most)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    rank = (place[: len(own)] - begin).unsqueeze(1)
    following = torch.arange(most - 1, device=order.device).unsqueeze(0)
    chosen = begin.unsqueeze(1) + following + (following >= rank)
    there = following < (end - begin - 1).unsqueeze(1)
    return order[chosen.clamp(max=len(order) - 1)], there


def positive_pairs(clients: Tensor, *, anchors: int | None = None, most: int | None = None) -> Pairs:
    """All unordered pairs of different embeddings of one client; the arguments are those of `positives_of`."""
    others, there = positives_of(clients, anchors=anchors, most=most)
    first = torch.arange(len(others), device=others.device).unsqueeze(1).expand_as(others)
    return Pairs(first.reshape(-1), others.reshape(-1), (there & (others > first)).reshape(-1))


def neighbouring_views(clients: Tensor) -> Pairs:
    """Each embedding with the next of its client: the views of a client 0, 1, 2 give the pairs (0, 1) and (1, 2).

    For losses that are defined on two views a client; with two views these are the pairs of the paper.
    """
    order = torch.argsort(clients, stable=True)
    ordered = clients[order]
    return Pairs(order[:-1], order[1:], ordered[:-1] == ordered[1:])


def same_client(clients: Tensor, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """(R, N) bool, for some rows or all: of one client but not the same embedding, and of two clients."""
    same = clients[rows].unsqueeze(1) == clients.unsqueeze(0)
    place = torch.arange(len(clients), device=clients.device)
    return same & (place[rows].unsqueeze(1) != place), ~same


def distances(embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """(P,) Euclidean distances of pairs. The gradient at distance zero is zero, not NaN."""
    if _all_at_once(embeddings, first):
        squared = gather_2d(cross_distances(embeddings), first, second)
    else:
        squared = _of_pairs(lambda one, other: (one - other).square(), embeddings, first, second)
    return root(squared)


def similarities(embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """(P,) dot products of pairs: the cosine, of unit vectors."""
    if _all_at_once(embeddings, first):
        return gather_2d(embeddings @ embeddings.t(), first, second)
    return _of_pairs(torch.mul, embeddings, first, second)


def _of_pairs(
    compared: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    """(P,) sums over the numbers of each pair compared; of many pairs some at a time."""

    def part(x: Tensor, rows: slice) -> tuple[Tensor]:
        return (compared(take_rows(x, first[rows]), take_rows(x, second[rows])).sum(1),)

    parts = over_rows(part, embeddings, len(first), columns=embeddings.shape[1])
    return torch.cat([found for (found,) in parts])


def _all_at_once(embeddings: Tensor, first: Tensor) -> bool:
    """Whether the matrix of all pairs is smaller by far than the vectors of the chosen ones."""
    return first.numel() * embeddings.shape[1] > 8 * len(embeddings) ** 2


def distances_of_cosines(cosines: Tensor) -> Tensor:
    """Euclidean distances of unit vectors with these cosines, of the same shape."""
    return root((2 - 2 * cosines).clamp(min=0))


def cross_distances(embeddings: Tensor, others: Tensor | None = None) -> Tensor:
    """(N, M) squared Euclidean distances to others, or of all to all, by one matrix product."""
    if others is None:
        found: Tensor = _AllToAll.apply(embeddings)
        return found
    norms = embeddings.square().sum(1).unsqueeze(1) + others.square().sum(1).unsqueeze(0)
    return torch.addmm(norms, embeddings, others.t(), alpha=-2).clamp(min=0)


class _AllToAll(torch.autograd.Function):
    """Squared distances of all to all. Each counts for two embeddings, so that one product gives the gradient too:

    with W the gradient plus its transpose, dL/dx_k = 2 (sum_j W_kj x_k - sum_j W_kj x_j).
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        ctx.save_for_backward(embeddings)
        norms = embeddings.square().sum(1)
        return torch.addmm(norms.unsqueeze(1) + norms, embeddings, embeddings.t(), alpha=-2).clamp_(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (embeddings,) = ctx.saved_tensors
        both = gradient + gradient.t()
        return torch.addmm(both.sum(1, keepdim=True) * embeddings, both, embeddings, alpha=-1).mul_(2)


def root(squared: Tensor) -> Tensor:
    """Square roots of numbers that are not negative; the gradient at zero is zero, not infinite."""
    return torch.where(squared > 0, squared.clamp(min=1e-12).sqrt(), 0.0)


def distances_of_rows(embeddings: Tensor, rows: slice) -> Tensor:
    """(R, N) squared distances of some rows to all embeddings; all rows by the one product of `cross_distances`."""
    some = embeddings[rows]
    return cross_distances(embeddings) if len(some) == len(embeddings) else cross_distances(some, embeddings)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values where the mask is true; zero where it nowhere is."""
    total, count = masked_sum(values, mask)
    return total / count.clamp(min=1)


def masked_sum(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the values where the mask is true, and how many these are."""
    return torch.where(mask, values, 0.0).sum(), mask.sum()


@torch.no_grad()
def mined_sums(
    costs: Tensor, among: Tensor, near: Tensor, near_real: Tensor, far: Tensor, far_real: Tensor
) -> tuple[Tensor, ...]:
    """Sums and counts of what `mining_statistics` gives the means of; those of several blocks may be added up.

    Args:
        costs, among: bool of one shape: what costs something, and what counts.
        near, near_real: distances of positives, and which of them count, of one shape.
        far, far_real: those of negatives.
    """
    active, pull, push = masked_sum(costs, among), masked_sum(near, near_real), masked_sum(far, far_real)
    return *active, *pull, *push


def mining_statistics(sums: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The figures of a loss over what was mined, see `MetricLoss`; from `mined_sums`."""
    names = ("active", "mined_positive_distance", "mined_negative_distance")
    means = (total / count.clamp(min=1) for total, count in zip(sums[::2], sums[1::2], strict=True))
    return dict(zip(names, means, strict=True))


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """(R, C) -> (R,): log of the sum of exp over the columns where the mask is true; -1e4 where it nowhere is.

    Not minus infinity: that would make NaN of the gradient of what is computed from it.
    """
    return values.masked_fill(~mask, -torch.inf).logsumexp(1).clamp(min=-1e4)
