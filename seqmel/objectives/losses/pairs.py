"""Index pairs and triplets of embeddings, and compute their distances.

Losses and miners compare embeddings only by the functions here. With a `PoincareBall` the distances
are hyperbolic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqmel.core.poincare_ball import PoincareBall
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
    "similarities_of_rows",
]


class Pairs(NamedTuple):
    """P pairs of embeddings: `first[p]` with `second[p]`, int64.

    Pair p counts if `real[p]` is true.
    """

    first: Tensor
    second: Tensor
    real: Tensor


class Triplets(NamedTuple):
    """T triplets of an anchor, a positive and a negative, int64.

    Triplet t counts if `real[t]` is true.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    real: Tensor


def positives_of(
    clients: Tensor, *, anchors: int | None = None, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the other embeddings of each anchor's client, in index order.

    Args:
        clients: (N,) int64, the client of each embedding.
        anchors: A; only the first A embeddings are anchors. None makes all of them anchors.
        most: maximum number of embeddings per client to consider. None counts them, which
            synchronises with a GPU.

    Returns:
        (A, most - 1) int64 indices, at least one column, and an (A, most - 1) bool mask of those
        that exist. Masked entries are any valid index.
    """
    own = clients[:anchors]
    order = torch.argsort(clients, stable=True)
    ordered = clients[order]
    begin = torch.searchsorted(ordered, own)
    end = torch.searchsorted(ordered, own, right=True)
    if most is None:
        most = int((end - begin).max())
    most = max(2, most)
    place = torch.empty_like(order).scatter_(
        0, order, torch.arange(len(order), device=order.device)
    )
    rank = (place[: len(own)] - begin).unsqueeze(1)
    following = torch.arange(most - 1, device=order.device).unsqueeze(0)
    chosen = begin.unsqueeze(1) + following + (following >= rank)
    there = following < (end - begin - 1).unsqueeze(1)
    return order[chosen.clamp(max=len(order) - 1)], there


def positive_pairs(
    clients: Tensor, *, anchors: int | None = None, most: int | None = None
) -> Pairs:
    """Return all unordered pairs of different embeddings of one client.

    The arguments are those of `positives_of`.
    """
    others, there = positives_of(clients, anchors=anchors, most=most)
    first = torch.arange(len(others), device=others.device).unsqueeze(1).expand_as(others)
    return Pairs(first.reshape(-1), others.reshape(-1), (there & (others > first)).reshape(-1))


def neighbouring_views(clients: Tensor) -> Pairs:
    """Pair each embedding with the next of its client: views 0, 1, 2 give (0, 1) and (1, 2).

    This is for losses defined on two views per client. With two views, these are the pairs of the
    paper.

    Args:
        clients: (N,) int64, the client of each embedding.

    Returns:
        N - 1 pairs; those of one client count.
    """
    order = torch.argsort(clients, stable=True)
    ordered = clients[order]
    return Pairs(order[:-1], order[1:], ordered[:-1] == ordered[1:])


def same_client(clients: Tensor, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Return two (R, N) masks, for some rows or all.

    The first marks other embeddings of the same client, the second those of other clients.

    Args:
        clients: (N,) int64, the client of each embedding.
        rows: a slice of R rows.
    """
    same = clients[rows].unsqueeze(1) == clients.unsqueeze(0)
    place = torch.arange(len(clients), device=clients.device)
    return same & (place[rows].unsqueeze(1) != place), ~same


def distances(
    embeddings: Tensor, first: Tensor, second: Tensor, *, ball: PoincareBall | None = None
) -> Tensor:
    """Return (P,) distances of pairs. The gradient at distance zero is zero, not NaN.

    Args:
        embeddings: (N, D).
        first: (P,) int64, the index of one embedding of each pair.
        second: (P,) int64, the index of the other.
        ball: the ball that the embeddings are points of; None for Euclidean distances.
    """
    if ball is not None:
        if _all_at_once(embeddings, first):
            return gather_2d(ball.cross_distances(embeddings, embeddings), first, second)
        return _of_pairs(ball.distances, embeddings, first, second)
    if _all_at_once(embeddings, first):
        squared = gather_2d(cross_distances(embeddings), first, second)
    else:
        squared = _of_pairs(
            lambda one, other: (one - other).square().sum(1), embeddings, first, second
        )
    return root(squared)


def similarities(embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return (P,) dot products of pairs: cosines, for unit vectors.

    Args:
        embeddings: (N, D).
        first: (P,) int64, the index of one embedding of each pair.
        second: (P,) int64, the index of the other.
    """
    if _all_at_once(embeddings, first):
        return gather_2d(embeddings @ embeddings.t(), first, second)
    return _of_pairs(lambda one, other: (one * other).sum(1), embeddings, first, second)


def similarities_of_rows(
    embeddings: Tensor, rows: slice, *, ball: PoincareBall | None = None
) -> Tensor:
    """Return (R, N) similarities of some rows to all embeddings.

    They are dot products, which are cosines for unit vectors; in a ball, negative distances
    (Ermolov et al.: Hyperbolic vision transformers, CVPR 2022, arXiv 2203.10833).

    Args:
        embeddings: (N, D).
        rows: a slice of R rows.
        ball: the ball that the embeddings are points of.
    """
    if ball is not None:
        return -ball.cross_distances(embeddings[rows], embeddings)
    return embeddings[rows] @ embeddings.t()


def _of_pairs(
    compared: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    """Return (P,) numbers from the vectors of each pair; many pairs in chunks."""

    def part(x: Tensor, rows: slice) -> tuple[Tensor]:
        return (compared(take_rows(x, first[rows]), take_rows(x, second[rows])),)

    parts = over_rows(part, embeddings, len(first), columns=embeddings.shape[1])
    return torch.cat([found for (found,) in parts])


def _all_at_once(embeddings: Tensor, first: Tensor) -> bool:
    """Return whether the matrix of all pairs is much smaller than the gathered vectors."""
    return first.numel() * embeddings.shape[1] > 8 * len(embeddings) ** 2


def distances_of_cosines(cosines: Tensor) -> Tensor:
    """Return the Euclidean distances of unit vectors from their cosines, in the same shape."""
    return root((2 - 2 * cosines).clamp(min=0))


def cross_distances(
    embeddings: Tensor, others: Tensor | None = None, *, ball: PoincareBall | None = None
) -> Tensor:
    """Return (N, M) squared distances to `others`, or (N, N) of all to all.

    Euclidean ones take one matrix product.

    Args:
        embeddings: (N, D).
        others: (M, D); `embeddings` if None.
        ball: the ball that the embeddings are points of; None for Euclidean distances.
    """
    if ball is not None:
        return ball.cross_distances(embeddings, embeddings if others is None else others).square()
    if others is None:
        found: Tensor = _AllToAll.apply(embeddings)
        return found
    norms = embeddings.square().sum(1).unsqueeze(1) + others.square().sum(1).unsqueeze(0)
    return torch.addmm(norms, embeddings, others.t(), alpha=-2).clamp(min=0)


class _AllToAll(torch.autograd.Function):
    """Squared distances of all to all.

    Each distance depends on two embeddings symmetrically, so one product gives the gradient too:
    with W the gradient plus its transpose, dL/dx_k = 2 (sum_j W_kj x_k - sum_j W_kj x_j).
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        ctx.save_for_backward(embeddings)
        norms = embeddings.square().sum(1)
        return torch.addmm(norms.unsqueeze(1) + norms, embeddings, embeddings.t(), alpha=-2).clamp_(
            min=0
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (embeddings,) = ctx.saved_tensors
        both = gradient + gradient.t()
        return torch.addmm(both.sum(1, keepdim=True) * embeddings, both, embeddings, alpha=-1).mul_(
            2
        )


def root(squared: Tensor) -> Tensor:
    """Return square roots of non-negative numbers. The gradient at zero is zero, not infinite."""
    return torch.where(squared > 0, squared.clamp(min=1e-12).sqrt(), 0.0)


def distances_of_rows(
    embeddings: Tensor, rows: slice, *, ball: PoincareBall | None = None
) -> Tensor:
    """Return (R, N) squared distances of some rows to all embeddings.

    If the rows are all rows, `cross_distances` computes them in one product.

    Args:
        embeddings: (N, D).
        rows: a slice of R rows.
        ball: the ball that the embeddings are points of; None for Euclidean distances.
    """
    some = embeddings[rows]
    return (
        cross_distances(embeddings, ball=ball)
        if len(some) == len(embeddings)
        else cross_distances(some, embeddings, ball=ball)
    )


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where the mask is true; zero if it is true nowhere.

    Args:
        values: any shape.
        mask: bool, the same shape.
    """
    total, count = masked_sum(values, mask)
    return total / count.clamp(min=1)


def masked_sum(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the values where the mask is true, and their number.

    Args:
        values: any shape.
        mask: bool, the same shape.
    """
    return torch.where(mask, values, 0.0).sum(), mask.sum()


@torch.no_grad()
def mined_sums(
    costs: Tensor, among: Tensor, near: Tensor, near_real: Tensor, far: Tensor, far_real: Tensor
) -> tuple[Tensor, ...]:
    """Return sums and counts from which `mining_statistics` computes means.

    Those of several blocks can be added.

    Args:
        costs: bool, whether the loss is not zero.
        among: bool, whether it counts, of the same shape.
        near: distances of positives.
        near_real: bool, which of them count, of the same shape.
        far: distances of negatives.
        far_real: bool, which of them count, of the same shape.
    """
    active = masked_sum(costs, among)
    pull = masked_sum(near, near_real)
    push = masked_sum(far, far_real)
    return *active, *pull, *push


def mining_statistics(sums: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the statistics of a loss over mined pairs from `mined_sums`; see `MetricLoss`."""
    names = ("active", "mined_positive_distance", "mined_negative_distance")
    means = (total / count.clamp(min=1) for total, count in zip(sums[::2], sums[1::2], strict=True))
    return dict(zip(names, means, strict=True))


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Return (R, C) -> (R,) log-sum-exp over the columns where the mask is true.

    It is -1e4 for a row without such columns. Minus infinity would make later gradients NaN.

    Args:
        values: (R, C).
        mask: (R, C) bool.
    """
    return values.masked_fill(~mask, -torch.inf).logsumexp(1).clamp(min=-1e4)
