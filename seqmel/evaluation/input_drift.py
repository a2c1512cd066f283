"""Drift of the events: the values of each column, compared with the statistics of training.

Each column gets the population stability index (PSI) of `seqmel.evaluation.drift`, over the bins of
`seqmel.data.fitting.statistics`. A categorical column also gets the fraction of values that the
model does not know. The model cannot detect this drift by itself, because it maps all unseen values
to one code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import ConfigError, InputError
from seqmel.core.units import count_words
from seqmel.data.fitting.statistics import Statistics, count_events
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.evaluation.drift import psi_by_chance, psi_of_counts

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ColumnDrift", "InputDrift", "drift_of_counts", "input_drift"]


@dataclass(frozen=True)
class ColumnDrift:
    """Drift of the values of one column.

    Attributes:
        psi: PSI over the bins of the column.
        missing: fractions of events without a value, in training and now.
        unseen: fractions of events with an unseen or rare value, in training and now; None for a
            numeric column.
    """

    psi: float
    missing: tuple[float, float]
    unseen: tuple[float, float] | None


@dataclass(frozen=True)
class InputDrift:
    """Drift of the columns of events from those of training.

    Attributes:
        columns: column -> its drift, in the order of the model.
        psi_threshold: PSI threshold for drift of a column.
        psi_by_chance: the PSI that, without drift, the largest of the columns exceeds in 1 % of
            cases. A column must reach this threshold too. The sample size is the number of clients,
            because the events of one client are correlated.
        unseen_threshold: threshold for the rise of the fraction of unseen values.
        clients: numbers of clients, in training and now.
        events: numbers of events, in training and now.
    """

    columns: dict[str, ColumnDrift]
    psi_threshold: float
    psi_by_chance: float
    unseen_threshold: float
    clients: tuple[int, int]
    events: tuple[int, int]

    @property
    def moved(self) -> tuple[str, ...]:
        """The columns that have drifted, in decreasing order of PSI."""
        return tuple(name for name in self._worst() if self._reasons(name))

    @property
    def drifted(self) -> bool:
        """Whether any column has drifted."""
        return bool(self.moved)

    @property
    def verdict(self) -> str:
        """A one-line summary."""
        if not self.drifted:
            worst = self._worst()[0]
            return (
                f"No drift: none of {count_words(len(self.columns), 'column')} has moved (largest "
                f"PSI: {worst}, {self.columns[worst].psi:.3f})."
            )
        found = "; ".join(f"{name}: {self._reasons(name)}" for name in self.moved[:5])
        more = f"; and {len(self.moved) - 5} more" if len(self.moved) > 5 else ""
        return (
            f"Drift: {len(self.moved):,} of {count_words(len(self.columns), 'column')} "
            f"{'has' if len(self.moved) == 1 else 'have'} moved ({found}{more})."
        )

    def table(self) -> Table:
        """Return a table for a terminal, with one row per column in decreasing order of PSI."""
        from rich.table import Column, Table

        heads = ("PSI", "missing, training → now", "unseen, training → now", "reading")
        table = Table(Column("column", overflow="fold"), *heads)
        for name in self._worst():
            column = self.columns[name]
            unseen = "" if column.unseen is None else "{:.2%} → {:.2%}".format(*column.unseen)
            reading = "moved" if self._reasons(name) else "stable"
            table.add_row(
                name,
                f"{column.psi:.3f}",
                "{:.2%} → {:.2%}".format(*column.missing),
                unseen,
                reading,
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """Return all results as values for JSON."""
        names = ("psi_threshold", "psi_by_chance", "unseen_threshold", "clients", "events")
        columns = {
            n: {"psi": c.psi, "missing": c.missing, "unseen": c.unseen}
            for n, c in self.columns.items()
        }
        return {
            "drifted": self.drifted, "verdict": self.verdict, "moved": list(self.moved),
            **{name: getattr(self, name) for name in names}, "columns": columns,
        }  # fmt: skip

    def _reasons(self, name: str) -> str:
        column = self.columns[name]
        reasons = []
        if column.psi >= max(self.psi_threshold, self.psi_by_chance):
            reasons.append(f"PSI {column.psi:.3f}")
        if (
            column.unseen is not None
            and column.unseen[1] - column.unseen[0] >= self.unseen_threshold
        ):
            reasons.append(
                "unseen values {:.1%}, {:.1%} in training".format(*reversed(column.unseen))
            )
        return ", ".join(reasons)

    def _worst(self) -> list[str]:
        return sorted(self.columns, key=lambda name: -self.columns[name].psi)


def input_drift(
    statistics: Statistics,
    chunks: Iterable[EncodedSequences],
    *,
    psi_threshold: float = 0.25,
    unseen_threshold: float = 0.05,
) -> InputDrift:
    """Compare events with those that a model was trained on.

    Args:
        statistics: distribution of the training events, kept in the model.
        chunks: the events in chunks of clients, encoded with the model's vocabulary; read once.
        psi_threshold: PSI threshold for drift of a column.
        unseen_threshold: threshold for the rise of the fraction of unseen values of a categorical
            column.

    Returns:
        The drift of each column, and a verdict.

    Raises:
        ConfigError: a threshold is out of range.
        InputError: there are no events.
    """
    if psi_threshold <= 0 or not 0 < unseen_threshold <= 1:
        raise ConfigError(
            f"The thresholds are {psi_threshold:g} (PSI) and {unseen_threshold:g} (unseen "
            "fraction). Expected a PSI above 0 and a fraction above 0, at most 1."
        )
    clients, events, counts = count_events(statistics, chunks)
    if not events:
        raise InputError("There are no events to compare with the training. Expected some.")
    return drift_of_counts(
        statistics,
        clients,
        events,
        counts,
        psi_threshold=psi_threshold,
        unseen_threshold=unseen_threshold,
    )


def drift_of_counts(
    statistics: Statistics,
    clients: int,
    events: int,
    counts: Mapping[str, npt.NDArray[np.int64]],
    *,
    psi_threshold: float,
    unseen_threshold: float,
) -> InputDrift:
    """Compute the drift from the counts of `count_events`.

    Args:
        statistics: distribution of the training events, kept in the model.
        clients: number of clients.
        events: number of events.
        counts: column -> (bins,) counts.
        psi_threshold: PSI threshold for drift of a column.
        unseen_threshold: threshold for the rise of the fraction of unseen values.

    Returns:
        The drift of each column, and a verdict.
    """
    columns = {}
    for name, bins in statistics.columns.items():
        before = np.array(bins.counts)
        now = counts[name]
        missing = 0 if bins.edges is None else -1
        category = bins.edges is None and bins.kind is None
        columns[name] = ColumnDrift(
            # A table without events shows in the column that names the table.
            psi=psi_of_counts(before, now) if before.any() and now.any() else 0.0,
            missing=(_share(before, missing), _share(now, missing)),
            unseen=(_share(before, 1), _share(now, 1)) if category else None,
        )
    bins_each = max(len(bins.counts) for bins in statistics.columns.values())
    return InputDrift(
        columns=columns,
        psi_threshold=psi_threshold,
        psi_by_chance=psi_by_chance(statistics.clients, clients, bins_each, len(columns)),
        unseen_threshold=unseen_threshold,
        clients=(statistics.clients, clients),
        events=(statistics.events, events),
    )


def _share(counts: np.ndarray[Any, Any], place: int) -> float:
    return float(counts[place] / max(1, counts.sum()))
