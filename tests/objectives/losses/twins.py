"""Slow twins of the losses: loops over single embeddings, as in the papers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

PairList = list[tuple[int, int]]
TripletList = list[tuple[int, int, int]]


def mean(costs: list[Tensor]) -> Tensor:
    return torch.stack(costs).mean() if costs else torch.zeros((), dtype=torch.float64)


def total(costs: list[Tensor]) -> Tensor:
    return torch.stack(costs).sum() if costs else torch.zeros((), dtype=torch.float64)


def relu(x: Tensor) -> Tensor:
    return torch.maximum(x, torch.zeros_like(x))


def d(x: Tensor, i: int, j: int) -> Tensor:
    return (x[i] - x[j]).norm()


def s(x: Tensor, i: int, j: int) -> Tensor:
    return x[i] @ x[j]


def own(clients: Tensor, i: int) -> list[int]:
    return [j for j in range(len(clients)) if j != i and clients[j] == clients[i]]


def others(clients: Tensor, i: int) -> list[int]:
    return [j for j in range(len(clients)) if clients[j] != clients[i]]


def positives(clients: Tensor) -> PairList:
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(clients)), 2)
        if clients[i] == clients[j]
    ]


def negatives(clients: Tensor) -> PairList:
    return [(i, j) for i in range(len(clients)) for j in others(clients, i)]


def triplets(clients: Tensor) -> TripletList:
    return [
        (i, p, n) for i in range(len(clients)) for p in own(clients, i) for n in others(clients, i)
    ]


def neighbours(clients: Tensor) -> PairList:
    """Each embedding and the next of its client."""
    following = [
        (i, min((j for j in own(clients, i) if j > i), default=-1)) for i in range(len(clients))
    ]
    return [(i, j) for i, j in following if j >= 0]


# --------------------------------------------------------------------------------------------------
# pairs


def contrastive(
    x: Tensor,
    pos: PairList,
    neg: PairList,
    *,
    margin: float = 0.5,
    positive_margin: float = 0.0,
    power: int = 2,
    reduction: str = "mean",
) -> Tensor:
    reduce = {"mean": mean, "sum": total}[reduction]
    pull = [relu(d(x, i, j) - positive_margin) ** power for i, j in pos]
    return reduce(pull) + reduce([relu(margin - d(x, i, j)) ** power for i, j in neg])


def binomial_deviance(
    x: Tensor,
    pos: PairList,
    neg: PairList,
    *,
    alpha: float = 2.0,
    beta: float = 0.5,
    negative_cost: float = 10.0,
) -> Tensor:
    pull = [torch.log(1 + torch.exp(-alpha * (x[i] @ x[j] - beta))) for i, j in pos]
    return mean(pull) + mean(
        [torch.log(1 + torch.exp(alpha * negative_cost * (x[i] @ x[j] - beta))) for i, j in neg]
    )


def margin(
    x: Tensor,
    pos: PairList,
    neg: PairList,
    *,
    margin: float = 0.2,
    beta: float = 1.2,
    beta_weight: float = 0.0,
) -> Tensor:
    costs = [relu(margin + d(x, i, j) - beta) for i, j in pos] + [
        relu(margin + beta - d(x, i, j)) for i, j in neg
    ]
    return total(costs) / max(1, sum(float(c) > 0 for c in costs)) + beta_weight * beta


# --------------------------------------------------------------------------------------------------
# triplets


def triplet(
    x: Tensor, chosen: TripletList, *, margin: float = 0.3, reduction: str = "mean"
) -> Tensor:
    costs = [relu(d(x, a, p) - d(x, a, n) + margin) for a, p, n in chosen]
    return mean(costs if reduction == "mean" else [c for c in costs if float(c) > 0])


# --------------------------------------------------------------------------------------------------
# batch


def infonce(x: Tensor, clients: Tensor, *, temperature: float = 0.1, debias: float = 0.0) -> Tensor:
    costs = []
    for i, j in itertools.permutations(range(len(x)), 2):
        if clients[i] == clients[j]:
            near = torch.exp(s(x, i, j) / temperature)
            against = [torch.exp(s(x, i, k) / temperature) for k in others(clients, i)]
            beside = (mean(against) - debias * near) / (1 - debias)
            if debias:
                beside = torch.maximum(beside, torch.exp(torch.tensor(-1 / temperature)).double())
            costs.append(-torch.log(near / (near + len(against) * beside)))
    return mean(costs)


def supcon(x: Tensor, clients: Tensor, *, temperature: float = 0.1) -> Tensor:
    costs = []
    for i in range(len(x)):
        whole = total([torch.exp(s(x, i, k) / temperature) for k in range(len(x)) if k != i])
        if own(clients, i):
            costs.append(
                -mean(
                    [
                        torch.log(torch.exp(s(x, i, p) / temperature) / whole)
                        for p in own(clients, i)
                    ]
                )
            )
    return mean(costs)


def histogram(x: Tensor, clients: Tensor, *, bins: int = 100) -> Tensor:
    step = 2 / (bins - 1)

    def heights(pairs: PairList) -> list[Tensor]:
        alike = [(x[i] @ x[j]).clamp(-1, 1) for i, j in pairs]
        return [
            mean([relu(1 - (s - (-1 + r * step)).abs() / step) for s in alike]) for r in range(bins)
        ]

    own_heights, other_heights = heights(positives(clients)), heights(negatives(clients))
    return total([other_heights[r] * total(own_heights[: r + 1]) for r in range(bins)])


def n_pair(x: Tensor, clients: Tensor, *, length_weight: float = 0.002) -> Tensor:
    pairs = neighbours(clients)
    costs = []
    for a, p in pairs:
        against = [
            torch.exp(x[a] @ x[q] - x[a] @ x[p]) for b, q in pairs if clients[b] != clients[a]
        ]
        costs.append(
            torch.log(1 + total(against)) + length_weight * (x[a] @ x[a] + x[p] @ x[p]) / 2
        )
    return mean(costs)


def quadruplet(
    x: Tensor, clients: Tensor, *, margin: float = 0.5, other_margin: float = 0.25
) -> Tensor:
    first, second = [], []
    for a, p in itertools.permutations(range(len(x)), 2):
        if clients[a] != clients[p] or not others(clients, a):
            continue
        n = min(others(clients, a), key=lambda j: float(d(x, a, j)))
        first.append(relu(d(x, a, p) ** 2 - d(x, a, n) ** 2 + margin))
        further = [k for k in others(clients, a) if clients[k] != clients[n]]
        if further:
            k = min(further, key=lambda j: float(d(x, n, j)))
            second.append(relu(d(x, a, p) ** 2 - d(x, n, k) ** 2 + other_margin))
    return mean(first) + mean(second)


def triplet_center(x: Tensor, clients: Tensor, *, margin: float = 0.3) -> Tensor:
    costs = []
    for i in range(len(x)):
        if own(clients, i) and others(clients, i):
            near = x[own(clients, i)].mean(0)
            far = [x[clients == c].mean(0) for c in clients.unique() if c != clients[i]]
            nearest = torch.stack([(x[i] - c).norm() ** 2 / 2 for c in far]).min()
            costs.append(relu((x[i] - near).norm() ** 2 / 2 - nearest + margin))
    return mean(costs)


def lifted_structure(x: Tensor, clients: Tensor, *, margin: float = 1.0) -> Tensor:
    costs = []
    for i, j in positives(clients):
        far = [torch.exp(margin - d(x, i, k)) for k in others(clients, i)]
        far += [torch.exp(margin - d(x, j, k)) for k in others(clients, j)]
        costs.append(relu(torch.log(total(far)) + d(x, i, j)) ** 2 / 2)
    return mean(costs)


def multi_similarity(
    x: Tensor, clients: Tensor, *, alpha: float = 2.0, beta: float = 50.0, threshold: float = 0.5,
    epsilon: float | None = 0.1,
) -> Tensor:  # fmt: skip
    costs = []
    for i in range(len(x)):
        pos, neg = [x[i] @ x[p] for p in own(clients, i)], [x[i] @ x[n] for n in others(clients, i)]
        if not pos or not neg:
            continue
        if epsilon is not None:
            least, most = min(map(float, pos)), max(map(float, neg))
            pos = [s for s in pos if float(s) < most + epsilon]
            neg = [s for s in neg if float(s) > least - epsilon]
        pull = torch.log(1 + total([torch.exp(-alpha * (s - threshold)) for s in pos])) / alpha
        costs.append(
            pull + torch.log(1 + total([torch.exp(beta * (s - threshold)) for s in neg])) / beta
        )
    return mean(costs)


def cosface(x: Tensor, clients: Tensor, *, margin: float = 0.2, scale: float = 16.0) -> Tensor:
    def cosine(i: int, center: Tensor) -> Tensor:
        return x[i] @ center / center.norm()

    costs = []
    for i in range(len(x)):
        if own(clients, i):
            same = torch.exp(scale * (cosine(i, x[own(clients, i)].mean(0)) - margin))
            far = [cosine(i, x[clients == c].mean(0)) for c in clients.unique() if c != clients[i]]
            costs.append(-torch.log(same / (same + total([torch.exp(scale * s) for s in far]))))
    return mean(costs)


def circle(x: Tensor, clients: Tensor, *, margin: float = 0.25, scale: float = 80.0) -> Tensor:
    costs = []
    for i in range(len(x)):
        pos, neg = [x[i] @ x[p] for p in own(clients, i)], [x[i] @ x[n] for n in others(clients, i)]
        if pos and neg:
            pull = [
                torch.exp(-scale * relu(1 + margin - s).detach() * (s - 1 + margin)) for s in pos
            ]
            push = [torch.exp(scale * relu(s + margin).detach() * (s - margin)) for s in neg]
            costs.append(torch.log(1 + total(push) * total(pull)))
    return mean(costs)


def sides(x: Tensor, clients: Tensor) -> tuple[Tensor, Tensor]:
    pairs = neighbours(clients)
    return torch.stack([x[i] for i, _ in pairs]), torch.stack([x[j] for _, j in pairs])


def vicreg(
    x: Tensor,
    clients: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    one, two = sides(x, clients)
    size = x.shape[1]
    loss = invariance * mean([(one[i] - two[i]).square().mean() for i in range(len(one))])
    for side in (one, two):
        loss = loss + variance * mean(
            [relu(1 - (side[:, k].var() + 1e-4).sqrt()) for k in range(size)]
        )
        table = side.t().cov()
        loss = (
            loss
            + covariance
            * total([table[k, m] ** 2 for k, m in itertools.permutations(range(size), 2)])
            / size
        )
    return loss


def barlow_twins(x: Tensor, clients: Tensor, *, redundancy: float = 0.005) -> Tensor:
    one, two = ((s - s.mean(0)) / (s.var(0, correction=0) + 1e-5).sqrt() for s in sides(x, clients))
    table = [[(one[:, k] * two[:, m]).mean() for m in range(x.shape[1])] for k in range(x.shape[1])]
    own_costs = [(1 - table[k][k]) ** 2 for k in range(x.shape[1])]
    return total(own_costs) + redundancy * total(
        [table[k][m] ** 2 for k, m in itertools.permutations(range(x.shape[1]), 2)]
    )


PAIRS: dict[str, Callable[..., Tensor]] = {
    "contrastive": contrastive, "binomial_deviance": binomial_deviance, "margin": margin,
}  # fmt: skip
TRIPLETS: dict[str, Callable[..., Tensor]] = {"triplet": triplet}
BATCH: dict[str, Callable[..., Tensor]] = {
    "infonce": infonce,
    "supcon": supcon,
    "histogram": histogram,
    "n_pair": n_pair,
    "quadruplet": quadruplet,
    "triplet_center": triplet_center,
    "lifted_structure": lifted_structure,
    "multi_similarity": multi_similarity,
    "cosface": cosface,
    "circle": circle,
    "vicreg": vicreg,
    "barlow_twins": barlow_twins,
}
TWINS = PAIRS | TRIPLETS | BATCH
