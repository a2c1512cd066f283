"""Drift of the events themselves: each column's values, later against in training, by the statistics that a model keeps.

The index is the population stability index of `seqmel.evaluation.drift`, over the bins of `seqmel.data.fitting.statistics`; a category has in
addition the share of its values that the model does not know. A model is not told of either: unseen values all count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import ConfigError, InputError
from seqmel.data.fitting.statistics import Statistics, count_events
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.evaluation.drift import psi_by_chance, psi_of_counts

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ColumnDrift", "InputDrift", "drift_of_counts", "input_drift"]


@dataclass(frozen=True)
class ColumnDrift:
    """How far a column's values have moved.

    Attributes:
        psi: over its bins.
        missing: share of events without a value, in training and now.
        unseen: share of events with a value that is unseen or rare, in training and now; None for a number.
    """

    psi: float
    missing: tuple[float, float]
    unseen: tuple[float, float] | None


@dataclass(frozen=True)
class InputDrift:
    """The columns of some events against those that a model was trained on.

    Attributes:
        columns: feature -> how far it moved, in the order of the model.
        psi_threshold: from which index on a column counts as moved.
        psi_by_chance: the index that without any drift some column exceeds in 1 % of cases; a column counts as moved only above this
            too. It takes clients as what is drawn, since the events of one are alike.
        unseen_threshold: from which rise of the share of unseen values on a category counts as moved.
        clients, events: (in training, now).
    """

    columns: dict[str, ColumnDrift]
    psi_threshold: float
    psi_by_chance: float
    unseen_threshold: float
    clients: tuple[int, int]
    events: tuple[int, int]

    @property
    def moved(self) -> tuple[str, ...]:
        """The columns that moved, the worst first."""
        return tuple(name for name in self._worst() if self._reasons(name))

    @property
    def drifted(self) -> bool:
        """Whether a column has moved."""
        return bool(self.moved)

    @property
    def verdict(self) -> str:
        """One line for people."""
        if not self.drifted:
            worst = self._worst()[0]
            return f"No drift: none of {len(self.columns):,} columns has moved (largest PSI: {worst}, {self.columns[worst].psi:.3f})."
        found = "; ".join(f"{name}: {self._reasons(name)}" for name in self.moved[:5])
        more = f"; and {len(self.moved) - 5} more" if len(self.moved) > 5 else ""
        return f"Drift: {len(self.moved):,} of {len(self.columns):,} columns have moved ({found}{more})."

    def table(self) -> Table:
        """For a terminal: one row a column, the worst first."""
        from rich.table import Table

        table = Table("column", "PSI", "missing, training → now", "unseen, training → now", "reading")
        for name in self._worst():
            column = self.columns[name]
            unseen = "" if column.unseen is None else "{:.2%} → {:.2%}".format(*column.unseen)
            reading = "moved" if self._reasons(name) else "stable"
            table.add_row(name, f"{column.psi:.3f}", "{:.2%} → {:.2%}".format(*column.missing), unseen, reading)
        return table

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        names = ("psi_threshold", "psi_by_chance", "unseen_threshold", "clients", "events")
        columns = {n: {"psi": c.psi, "missing": c.missing, "unseen": c.unseen} for n, c in self.columns.items()}
        return {
            "drifted": self.drifted, "verdict": self.verdict, "moved": list(self.moved),
            **{name: getattr(self, name) for name in names}, "columns": columns,
        }  # fmt: skip

    def _reasons(self, name: str) -> str:
        column, reasons = self.columns[name], []
        if column.psi >= max(self.psi_threshold, self.psi_by_chance):
            reasons.append(f"PSI {column.psi:.3f}")
        if column.unseen is not None and column.unseen[1] - column.unseen[0] >= self.unseen_threshold:
            reasons.append("unseen values {:.1%}, {:.1%} in training".format(*reversed(column.unseen)))
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
        statistics: what the model keeps of its training.
        chunks: the events, encoded with the model's vocabulary, some clients at a time; read once.
        psi_threshold: from which PSI on a column counts as moved.
        unseen_threshold: from which rise of the share of unseen values on a category counts as moved.

    Raises:
        ConfigError: a threshold out of range.
        InputError: no events.
    """
    if psi_threshold <= 0 or not 0 < unseen_threshold <= 1:
        raise ConfigError(
            f"The thresholds are {psi_threshold:g} (PSI) and {unseen_threshold:g} (unseen share). Expected a PSI above 0 and a"
            " share above 0, at most 1."
        )
    clients, events, counts = count_events(statistics, chunks)
    if not events:
        raise InputError("There are no events to compare with the training. Expected some.")
    return drift_of_counts(
        statistics, clients, events, counts, psi_threshold=psi_threshold, unseen_threshold=unseen_threshold
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
    """The same from what `count_events` found: clients, events, and column -> (bins,) counts."""
    columns = {}
    for name, bins in statistics.columns.items():
        before, now = np.array(bins.counts), counts[name]
        missing, category = (0 if bins.edges is None else -1), bins.edges is None
        columns[name] = ColumnDrift(
            psi=psi_of_counts(before, now),
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
