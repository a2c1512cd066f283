"""Discrete-time survival: the loss of hazards in bins of time, and how good predictions are.

The outputs are the logits of the hazards: the probability that the event comes in a bin, given that
it has not come before (Gensheimer, Narasimhan, PeerJ 2019, arXiv 1805.00917).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.data.tables.survival import Bools, Floats, observed_times
from seqmel.data.tables.targets import Target

__all__ = ["concordance", "kaplan_meier", "survival_losses", "survival_metrics"]


def survival_losses(out: Tensor, values: Tensor, target: Target) -> Tensor:
    """Return the negative log-likelihood of each time.

    A censored time survives the bins of which it reaches the middle. An event after the last bin
    survives all.

    Args:
        out: (B, bins), outputs of the head.
        values: (B,), signed times.
        target: The target, with the bounds of the bins.

    Returns:
        (B,) losses.
    """
    edges = torch.tensor(target.edges, dtype=values.dtype, device=values.device)
    middles = (edges + F.pad(edges[:-1], (1, 0))) / 2
    times = values.abs()
    place = torch.bucketize(times, edges)
    happened = ~values.signbit() & (place < len(edges))
    bins = torch.arange(len(edges), device=values.device)
    survived = torch.where(happened[:, None], bins < place[:, None], middles <= times[:, None])
    at = place.clamp(max=len(edges) - 1)[:, None]
    here = F.softplus(-out.gather(1, at)[:, 0])
    return (F.softplus(out) * survived).sum(1) + torch.where(happened, here, 0.0)


def survival_metrics(
    target: Target, outputs: Floats, values: npt.NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Return the concordance, and how well the probabilities are calibrated.

    `calibration` is the mean predicted probability of an event up to the last bound of the bins
    before the end of the observation, over its Kaplan-Meier estimate: 1.2 is a fifth too much.
    `calibration_error` is the mean distance of predicted and estimated survival over the bounds.

    Args:
        target: The target, with the bounds of the bins.
        outputs: (N, bins) outputs of the head.
        values: (N,) signed times.
    """
    times, observed = observed_times(values)
    survival = target.survival(outputs)
    found = {}
    ranked = concordance(times, observed, -survival.sum(axis=1))
    if not np.isnan(ranked):
        found["concordance"] = ranked
    seen = np.array([edge <= times.max() for edge in target.edges])
    if seen.any():
        estimated = kaplan_meier(times, observed, np.array(target.edges)[seen])
        predicted = survival.mean(axis=0)[seen]
        if estimated[-1] < 1:
            found["calibration"] = float((1 - predicted[-1]) / (1 - estimated[-1]))
        found["calibration_error"] = float(np.abs(predicted - estimated).mean())
    return found


def concordance(times: Floats, observed: Bools, risks: Floats) -> float:
    """Return Harrell's concordance index (JAMA 1982), NaN without a comparable pair.

    Of the pairs in which one has the event while the other is still observed without it, it is the
    fraction in which the first has the higher risk; a tie of risks is one half. An event counts as
    before a censoring at the same time, and two events at the same time are no pair.

    Args:
        times: (N,) times of event or censoring.
        observed: (N,) whether the event was observed.
        risks: (N,) predicted risks, in any unit.
    """
    levels, rank = np.unique(risks, return_inverse=True)
    counts = np.zeros(len(levels) + 1, np.int64)  # a Fenwick tree of those still observed
    total = 0
    right = 0.0
    order = np.lexsort((observed, -times))  # from the last time; censored ones first
    begin = 0
    while begin < len(order):
        end = begin
        first = order[begin]
        while end < len(order) and (times[order[end]], observed[order[end]]) == (
            times[first],
            observed[first],
        ):
            end += 1
        group = order[begin:end]
        if observed[first]:
            for one in group:
                below = _count(counts, rank[one])
                ties = _count(counts, rank[one] + 1) - below
                right += below + ties / 2
            total += begin * len(group)
        for one in group:
            _add(counts, rank[one])
        begin = end
    return right / total if total else float("nan")


def _count(tree: np.ndarray[tuple[int], np.dtype[np.int64]], end: int) -> int:
    """Return how many were added below a rank."""
    found = 0
    while end > 0:
        found += int(tree[end])
        end -= end & -end
    return found


def _add(tree: np.ndarray[tuple[int], np.dtype[np.int64]], rank: int) -> None:
    place = rank + 1
    while place < len(tree):
        tree[place] += 1
        place += place & -place


def kaplan_meier(times: Floats, observed: Bools, at: Floats) -> Floats:
    """Return the estimate of surviving beyond each time (Kaplan, Meier, JASA 1958).

    Args:
        times: (N,) times of event or censoring.
        observed: (N,) whether the event was observed.
        at: (K,) increasing times.
    """
    moments = np.unique(times[observed])
    ordered = np.sort(times)
    risk = len(times) - np.searchsorted(ordered, moments)
    events = np.searchsorted(np.sort(times[observed]), moments, side="right") - np.searchsorted(
        np.sort(times[observed]), moments
    )
    steps = np.concatenate([[1.0], np.cumprod(1 - events / risk)])
    return np.asarray(steps[np.searchsorted(moments, at, side="right")])
