"""How good predicted times to an event are: concordance and calibration, with censoring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    "SURVIVAL_METRICS",
    "Bools",
    "Floats",
    "concordance",
    "concordant_pairs",
    "expected_events",
    "kaplan_meier",
    "survival_metrics",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SURVIVAL_METRICS = ("concordance", "calibration", "calibration_error")


def survival_metrics(
    times: Floats, observed: Bools, survival: Floats, edges: Sequence[float]
) -> dict[str, float]:
    """Return the concordance, and how well the probabilities are calibrated.

    `calibration` is the mean predicted probability of an event up to the last bound before the end
    of the observation, over its Kaplan-Meier estimate: 1.2 is a fifth too much.
    `calibration_error` is the mean distance of predicted and estimated survival over the bounds.
    What is not defined is NaN.

    Args:
        times: (N,) times of event or censoring.
        observed: (N,) whether the event was observed.
        survival: (N, bounds) predicted probabilities that the event comes after each bound.
        edges: The bounds, increasing.
    """
    calibration = error = float("nan")
    seen = np.array([edge <= times.max() for edge in edges])
    if seen.any():
        estimated = kaplan_meier(times, observed, np.array(edges)[seen])
        predicted = survival.mean(axis=0)[seen]
        if estimated[-1] < 1:
            calibration = float((1 - predicted[-1]) / (1 - estimated[-1]))
        error = float(np.abs(predicted - estimated).mean())
    ranked = concordance(times, observed, -survival.sum(axis=1))
    return dict(zip(SURVIVAL_METRICS, (ranked, calibration, error), strict=True))


def concordance(times: Floats, observed: Bools, risks: Floats) -> float:
    """Return Harrell's concordance index (JAMA 1982), NaN without a comparable pair.

    Of the pairs in which one has the event while the other is still observed without it, it is the
    fraction in which the first has the higher risk; a tie of risks is one half. An event counts as
    before a censoring at the same time, and two events at the same time are no pair.

    Args:
        times: (N,) times of event or censoring.
        observed: (N,) whether the event was observed.
        risks: (N,) predicted risks, in any unit.

    Examples:
        >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([True, True, False]), np.zeros(3))
        0.5
    """
    concordant, comparable = concordant_pairs(times, observed, risks)
    total = comparable.sum()
    return float(concordant.sum() / total) if total else float("nan")


def concordant_pairs(times: Floats, observed: Bools, risks: Floats) -> tuple[Floats, Floats]:
    """Return for each event how many of its pairs are concordant, a tie half, and their number.

    The pairs of an event are those with all who are still observed without it.

    Args:
        times: (N,) times of event or censoring.
        observed: (N,) whether the event was observed.
        risks: (N,) predicted risks, in any unit.

    Returns:
        Two (N,) arrays, zero where no event was observed.
    """
    rank = np.unique(risks, return_inverse=True)[1]
    # From the last time, censored ones first; of events at one time first those that do not count.
    below, above = (
        _smaller_before(sign * rank, np.lexsort((-sign * rank, observed, -times)))
        for sign in (1, -1)
    )
    ties = _ties_before(times, observed, rank)
    return (below + ties / 2) * observed, (below + above + ties) * observed


def expected_events(times: Floats, survival: Floats, edges: Sequence[float]) -> Floats:
    """Return how many events are expected of each until its time, the cumulative hazard.

    Between the bounds it rises evenly. After the last bound nothing is expected.

    Args:
        times: (N,) times of event or censoring.
        survival: (N, bounds) predicted probabilities that the event comes after each bound.
        edges: The bounds, increasing.
    """
    hazard = -np.log(np.clip(survival, 1e-15, 1.0))
    bounds = np.array([0.0, *edges])
    within = np.clip(times, 0.0, bounds[-1])
    place = np.clip(np.searchsorted(bounds, within, side="right") - 1, 0, len(edges) - 1)
    row = np.arange(len(times))
    hazard = np.concatenate([np.zeros((len(times), 1)), hazard], axis=1)
    low, high = hazard[row, place], hazard[row, place + 1]
    share = (within - bounds[place]) / (bounds[place + 1] - bounds[place])
    return np.asarray(low + share * (high - low))


def _ties_before(times: Floats, observed: Bools, rank: npt.NDArray[np.intp]) -> Floats:
    """Return for each event how many of the same risk are still observed without it."""
    order = np.lexsort((observed, -times, rank))
    key = np.stack([rank, times, observed], axis=1)[order]
    new_rank = np.append(True, key[1:, 0] != key[:-1, 0])
    new_group = np.append(True, (key[1:] != key[:-1]).any(axis=1))
    row = np.arange(len(order))
    first = np.maximum.accumulate(np.where(new_rank, row, 0))
    group = np.maximum.accumulate(np.where(new_group, row, 0))
    found = np.empty(len(order))
    found[order] = group - first
    return found


def _smaller_before(
    rank: npt.NDArray[np.intp], order: npt.NDArray[np.intp]
) -> npt.NDArray[np.int64]:
    """Return for each entry how many entries before it in an order have a smaller rank.

    The order is split by the bits of the ranks, the highest first, as a radix sort does.

    Args:
        rank: (N,) ranks.
        order: (N,) the order of the entries.
    """
    rank = rank - rank.min()
    found = np.zeros(len(rank), np.int64)
    for bit in reversed(range(int(rank.max()).bit_length())):
        node = rank[order] >> (bit + 1)
        high = (rank[order] >> bit & 1).astype(bool)
        low = np.cumsum(~high) - ~high
        first = np.append(True, node[1:] != node[:-1])
        of_node = low - np.maximum.accumulate(np.where(first, low, 0))
        found[order] += np.where(high, of_node, 0)
        order = order[np.argsort(rank[order] >> bit, kind="stable")]
    return found


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
