"""Summary of the events in bounded memory: lengths, gaps, and each column of the vocabulary."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmel.data.kinds.base import ColumnKind
from seqmel.data.kinds.registry import KINDS
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import CLIP, FIRST, NULL, UNSEEN, NumericScales, Vocabulary
from seqmel.inference.embed import token_batches
from seqmel.report.page import Bar, Column, EventSummary

__all__ = ["category_names", "decoded", "describe", "moment"]

_BATCH_EVENTS = 1_000_000
_TOP = 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LENGTHS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
_GAPS = {
    "same time": 0.0, "under 10 s": 10.0, "under 1 min": 60.0, ("under 10 "
"min"): 600.0, "under 1 h": 3_600.0,
    "under 6 h": 21_600.0, "under 1 day": 86_400.0, "under 3 days": 259_200.0, ("under 1 "
"week"): 604_800.0,
    "under 30 days": 2_592_000.0, "under 90 days": 7_776_000.0, "under 1 year": 31_536_000.0,
}  # fmt: skip
"""Name -> exclusive upper bound in seconds. Each is about three times the previous one."""


def describe(sequences: EncodedSequences, vocabulary: Vocabulary, sample: Tensor) -> EventSummary:
    """Summarise all events.

    Args:
        sequences: The sequences of all clients.
        vocabulary: The vocabulary of the sequences.
        sample: (S,) int64, positions of the clients whose numbers give the quantiles.
    """
    codes = {name: np.zeros(c.size, np.int64) for name, c in vocabulary.categorical.items()}
    missing, clipped = (dict.fromkeys(vocabulary.numeric, 0) for _ in range(2))
    others = {name: KINDS[role] for role, of in vocabulary.kinds.items() for name in of}
    known = dict.fromkeys([*missing, *others], 0)
    nulls = dict.fromkeys(others, 0)
    gaps = np.zeros(len(_GAPS) + 1, np.int64)
    low = np.iinfo(np.int64).max
    high = np.iinfo(np.int64).min
    for batch in _batches(sequences, torch.arange(len(sequences))):
        gaps += _gap_counts(batch)
        low = min(low, int(batch.time.min()))
        high = max(high, int(batch.time.max()))
        for name, counts in codes.items():
            counts += np.bincount(_present(batch, name, vocabulary), minlength=len(counts))
        for name in missing:
            numbers = _present(batch, name, vocabulary)
            known[name] += len(numbers)
            missing[name] += int(np.isnan(numbers).sum())
            clipped[name] += int((np.abs(numbers) >= CLIP).sum())
        for name, kind in others.items():
            values = _present(batch, name, vocabulary)
            known[name] += len(values)
            nulls[name] += int(kind.is_unknown(values).sum())
    events = sequences.events
    quantiles = _quantiles(sequences, vocabulary, sample)
    columns = [_categorical(name, counts, vocabulary) for name, counts in codes.items()]
    columns += [
        _numeric(
            name,
            vocabulary.numeric[name],
            missing[name],
            clipped[name],
            known[name],
            quantiles[name],
        )
        for name in missing
    ]
    columns += [
        _other(name, kind, nulls[name] / max(1, known[name])) for name, kind in others.items()
    ]
    first, last = (moment(t) if events else "" for t in (low, high))
    return EventSummary(
        len(sequences), events, first, last, length_bars(sequences.lengths), gap_bars(gaps), columns
    )


def _present(batch: SequenceBatch, name: str, vocabulary: Vocabulary) -> npt.NDArray[Any]:
    """Return a column of the events whose table has it."""
    values: npt.NDArray[Any] = batch.columns[name].numpy()
    tables = vocabulary.present_in(name)
    if tables is None or vocabulary.source is None:
        return values
    return values[np.isin(batch.columns[vocabulary.source].numpy(), tables)]


def moment(microseconds: int) -> str:
    """Format a time since 1970, or a number if it is out of the calendar's range."""
    try:
        return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(microseconds))).isoformat(
            " ", "minutes"
        )
    except OverflowError:
        return f"{microseconds} us"


def _batches(sequences: EncodedSequences, clients: Tensor) -> Iterator[SequenceBatch]:
    """Yield all events of these clients in batches."""
    clients = clients[sequences.lengths[clients] > 0]
    for part in token_batches(sequences.lengths[clients], _BATCH_EVENTS):
        lengths = sequences.lengths[clients[part]]
        yield sequences.gather(clients[part], torch.zeros_like(lengths), lengths)


def length_bars(lengths: Tensor) -> list[Bar]:
    """Return a histogram of events per client, with growing bins and no empty bins at the ends."""
    place = np.searchsorted(_LENGTHS, lengths.numpy(), side="right") - 1
    counts = np.bincount(place, minlength=len(_LENGTHS))
    names = [
        f"{a:,}" if b == a + 1 else f"{a:,}–{b - 1:,}" for a, b in itertools.pairwise(_LENGTHS)
    ] + [f"{_LENGTHS[-1]:,} and more"]
    return _trimmed(names, counts)


def _gap_counts(batch: SequenceBatch) -> npt.NDArray[np.int64]:
    """Count gaps by the bins of `_GAPS`, and longer gaps in one more bin."""
    within = torch.ones(batch.events, dtype=torch.bool)
    within[batch.offsets[:-1]] = False
    seconds = batch.time.diff(prepend=batch.time[:1])[within].numpy() / 1e6
    place = np.searchsorted(list(_GAPS.values()), seconds, side="right")
    return np.bincount(np.where(seconds == 0, 0, place), minlength=len(_GAPS) + 1)


def gap_bars(counts: npt.NDArray[np.int64]) -> list[Bar]:
    """Return the counts with the names of their bins."""
    return _trimmed([*_GAPS, "a year and more"], counts)


def _trimmed(names: list[str], counts: npt.NDArray[np.int64]) -> list[Bar]:
    filled = np.flatnonzero(counts)
    if not len(filled):
        return []
    return [Bar(names[i], int(counts[i])) for i in range(filled[0], filled[-1] + 1)]


def category_names(vocabulary: Vocabulary, column: str) -> list[str]:
    """Return the name of each code."""
    return ["null", "unseen or rare", *vocabulary.categorical[column].values]


def _categorical(name: str, counts: npt.NDArray[np.int64], vocabulary: Vocabulary) -> Column:
    codes = vocabulary.categorical[name]
    names = category_names(vocabulary, name)
    events = max(1, counts.sum())
    known = counts[FIRST:]
    order = np.argsort(-known, kind="stable")[:_TOP]
    top = [Bar(names[FIRST + i], int(known[i])) for i in order if known[i]]
    return Column(
        name=name,
        role="categorical",
        known=len(codes.values),
        top=top,
        others=int(known.sum()) - sum(bar.count for bar in top),
        unseen=float(counts[UNSEEN] / events),
        nulls=float(counts[NULL] / events) if codes.null else None,
        clipped=0.0,
        quantiles=[],
    )


def _numeric(
    name: str,
    scales: NumericScales,
    missing: int,
    clipped: int,
    events: int,
    quantiles: list[float],
) -> Column:
    return Column(
        name=name,
        role=f"numeric, scaled within {scales.by}" if scales.by else "numeric",
        known=0,
        top=[],
        others=0,
        unseen=0.0,
        nulls=missing / max(1, events),
        clipped=clipped / max(1, events),
        quantiles=quantiles,
    )


def _other(name: str, kind: ColumnKind[Any], nulls: float) -> Column:
    """Return the summary of a column that is neither a category nor a number."""
    return Column(
        name=name,
        role=kind.role,
        known=0,
        top=[],
        others=0,
        unseen=0.0,
        nulls=nulls,
        clipped=0.0,
        quantiles=[],
    )


def _quantiles(
    sequences: EncodedSequences, vocabulary: Vocabulary, sample: Tensor
) -> dict[str, list[float]]:
    found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in vocabulary.numeric}
    for batch in _batches(sequences, sample):
        for name, numbers in found.items():
            numbers.append(decoded(batch, name, vocabulary.numeric[name]).astype(np.float32))
    return {
        name: _quantiles_of(np.concatenate(numbers or [np.zeros(0)]))
        for name, numbers in found.items()
    }


def _quantiles_of(numbers: npt.NDArray[np.floating[Any]]) -> list[float]:
    known = numbers[np.isfinite(numbers)]
    return [float(f"{q:.4g}") for q in np.quantile(known, _QUANTILES)] if len(known) else []


def decoded(batch: SequenceBatch, column: str, scales: NumericScales) -> npt.NDArray[np.float64]:
    """Return (E,) original numbers. Clipped numbers stay clipped, missing ones are NaN."""
    codes = None if scales.by is None else batch.columns[scales.by].numpy()
    return scales.decode(batch.columns[column].numpy().astype(np.float64), codes)
