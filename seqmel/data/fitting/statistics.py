"""Histograms of the columns, fitted in training and compared with later events for drift.

A category has one bin for null, one for unseen or rare, one for each of its most frequent values,
and one for all others. A number has bins between quantiles of its scaled values, and one for
missing. So each column is a short list of counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from seqmel.data.kinds.registry import KINDS
from seqmel.data.schema import dump_without
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["ColumnBins", "Statistics", "count_events", "fit_statistics"]

_SAMPLE_EVENTS = 2_000_000
_PART_EVENTS = 1_000_000
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnBins(_Data):
    """The bins of a column and their counts of training events.

    Attributes:
        edges: for a number, the ascending edges in scaled units; None for a category.
        counts: for a category: null, unseen or rare, its first values, all others; for a number:
            its bins, then missing.
        kind: the kind of a column that is neither; None otherwise.
    """

    edges: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None
    counts: Annotated[tuple[Count, ...], Field(min_length=2, max_length=1_000)]
    kind: str | None = None

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "kind")

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str | None) -> str | None:
        if kind is not None and kind not in KINDS:
            raise ValueError(f"this version has no columns of the kind {kind}")
        return kind

    @model_validator(mode="after")
    def _edges_ascend(self) -> ColumnBins:
        if self.edges is not None and (
            len(self.counts) != len(self.edges) + 2
            or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False))
        ):
            raise ValueError("edges that do not ascend, or do not fit the counts")
        return self

    def count(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return (bins,) counts of (E,) codes or scaled numbers.

        Args:
            values: (E,) codes or scaled numbers.
        """
        size = len(self.counts)
        if self.kind is not None:
            values = KINDS[self.kind].bin_of(values, size)
        if self.edges is None:
            return np.bincount(np.minimum(values.astype(np.int64), size - 1), minlength=size)
        bins = np.searchsorted(np.array(self.edges, np.float32), values, side="right")
        return np.bincount(np.where(np.isnan(values), size - 1, bins), minlength=size)

    def draw(
        self, count: int, random: np.random.Generator, *, codes: int
    ) -> npt.NDArray[np.float32]:
        """Return (count,) encoded values of a category or a number, as frequent as in training.

        They are stratified: one is drawn from each of `count` equal parts of the distribution. The
        codes that share the last bin are equally frequent.

        Args:
            count: how many to draw.
            random: the generator.
            codes: the number of codes of a category.
        """
        ends = np.cumsum(self.counts, dtype=np.float64)
        if not ends[-1]:
            return np.zeros(count, np.float32)
        at = random.permutation((np.arange(count) + random.random(count)) / max(1, count))
        at *= ends[-1]
        bins = np.searchsorted(ends, at, side="right").clip(max=len(ends) - 1)
        if self.edges is None:
            rest = len(self.counts) - 1
            others = random.integers(rest, max(rest + 1, codes), count)
            return np.where(bins == rest, others, bins).astype(np.float32)
        edges = np.array([*self.edges[:1], *self.edges, *self.edges[-1:]] or [0.0, 0.0])
        low, high = (np.append(end, np.nan)[bins] for end in (edges[:-1], edges[1:]))
        within = (at - (ends - self.counts)[bins]) / np.maximum(1, np.array(self.counts)[bins])
        return np.asarray(low + (high - low) * within, np.float32)


class Statistics(_Data):
    """Histograms of the training events.

    Attributes:
        clients, events: the numbers counted; for large data, those of a sample of whole clients.
        columns: feature -> its bins.
        source: the category that names the table of an event; None for one table.
        present_in: feature -> codes of the tables that have it, if not all have; only their events
            are counted.
    """

    clients: Count
    events: Count
    columns: dict[str, ColumnBins]
    source: str | None = None
    present_in: dict[str, tuple[Count, ...]] = {}

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "source", "present_in")

    def check_fits(self, vocabulary: Vocabulary) -> None:
        """Check that these are the columns of the vocabulary.

        Args:
            vocabulary: the vocabulary of the model.

        Raises:
            ValueError: they are not.
        """
        found = {n: bins.kind or bins.edges is not None for n, bins in self.columns.items()}
        if found != {
            name: kind.role if kind.role in vocabulary.kinds else kind.has_edges
            for kind, of in vocabulary.by_kind.items()
            for name in of
        }:
            raise ValueError("the statistics have other columns than the vocabulary")
        if (self.source, self.present_in) != _presence(vocabulary):
            raise ValueError("the statistics have other sources than the vocabulary")


def _presence(vocabulary: Vocabulary) -> tuple[str | None, dict[str, tuple[int, ...]]]:
    found = {name: vocabulary.present_in(name) for name in vocabulary.features}
    return vocabulary.source, {name: codes for name, codes in found.items() if codes is not None}


def fit_statistics(sequences: EncodedSequences, vocabulary: Vocabulary) -> Statistics:
    """Compute the statistics of the training events.

    At most about two million events are counted: every k-th client with all its events.

    Args:
        sequences: the encoded training sequences.
        vocabulary: their vocabulary.
    """
    step = max(1, math.ceil(sequences.events / _SAMPLE_EVENTS))
    sample = sequences.subset(torch.arange(0, len(sequences), step)) if step > 1 else sequences
    seen: dict[str, list[npt.NDArray[Any]]] = {
        name: [] for kind, of in vocabulary.by_kind.items() if kind.has_edges for name in of
    }
    for columns in _parts(sample):
        for name, values in seen.items():
            values.append(columns[name])
    bins: dict[str, ColumnBins] = {}
    for kind, fitted in vocabulary.by_kind.items():
        for name, one in fitted.items():
            size, edges = kind.bins(one, seen.get(name, ()))
            other = kind.role if kind.role in vocabulary.kinds else None
            bins[name] = ColumnBins(edges=edges, counts=(0,) * size, kind=other)
    source, present_in = _presence(vocabulary)
    empty = Statistics(clients=0, events=0, columns=bins, source=source, present_in=present_in)
    clients, events, counts = count_events(empty, [sample])
    filled = {
        name: b.model_copy(update={"counts": tuple(counts[name].tolist())})
        for name, b in bins.items()
    }
    return empty.model_copy(update={"clients": clients, "events": events, "columns": filled})


def count_events(
    statistics: Statistics, chunks: Iterable[EncodedSequences]
) -> tuple[int, int, dict[str, npt.NDArray[np.int64]]]:
    """Count sequences in the bins of the statistics.

    Args:
        statistics: give the bins.
        chunks: encoded sequences.

    Returns:
        The number of clients, the number of events, and column -> (bins,) counts.
    """
    clients = events = 0
    counts = {
        name: np.zeros(len(bins.counts), np.int64) for name, bins in statistics.columns.items()
    }
    for sequences in chunks:
        clients = clients + len(sequences)
        events = events + sequences.events
        for columns in _parts(sequences):
            for name, bins in statistics.columns.items():
                values = columns[name]
                if statistics.source is not None and name in statistics.present_in:
                    codes = statistics.present_in[name]
                    values = values[np.isin(columns[statistics.source], codes)]
                counts[name] += bins.count(values)
    return clients, events, counts


def _parts(sequences: EncodedSequences) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield all events in chunks of clients: column -> (E,) codes or scaled numbers."""
    part = sequences.lengths.cumsum(0) // _PART_EVENTS
    for clients in torch.split(
        torch.arange(len(sequences)), torch.unique_consecutive(part, return_counts=True)[1].tolist()
    ):
        batch = sequences.gather_last(clients, max_events=2**62)
        yield {name: values.cpu().numpy() for name, values in batch.columns.items()}
