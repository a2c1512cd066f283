"""Warn if a whole column of the events has only values unseen in training, or none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seqmel.core.errors import shown
from seqmel.core.progress import EventsWarning
from seqmel.data.kinds.registry import kind_of
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.repeated_events import RepeatedEvents
from seqmel.model import TrainedModel

__all__ = ["FEWEST_EVENTS", "UnseenColumns"]

_CHUNK_EVENTS = 10_000
FEWEST_EVENTS = 20  # With fewer events, all may be unseen by chance.
# Fraction of unseen events for a warning; fraction in training from which it is normal.
_WHOLE = 0.9
_USUAL = 0.5


class UnseenColumns:
    """Counts the values that the model does not know while sequences are embedded.

    Attributes:
        repeats: counts the events that occur more than once.
    """

    def __init__(self, model: TrainedModel) -> None:
        self.model = model
        self._kinds = {name: kind_of(model.schema, name) for name in model.schema.features}
        self.lost = dict.fromkeys(model.schema.features, 0)
        self.seen = dict.fromkeys(model.schema.features, 0)
        self.repeats = RepeatedEvents()

    def see(self, sequences: EncodedSequences) -> None:
        """Count a sample of about ten thousand events of a chunk.

        Args:
            sequences: encoded sequences of a chunk of clients.
        """
        step = max(1, math.ceil(sequences.events / _CHUNK_EVENTS))
        clients = torch.arange(0, len(sequences), step)
        columns = {name: sequences.values(name, clients).numpy() for name in self.lost}
        self.count(columns)
        self.repeats.see(sequences)

    def count(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Count encoded events. A column is counted in events of a table that has it.

        Args:
            columns: feature -> (E,) codes or scaled numbers.
        """
        vocabulary = self.model.vocabulary
        for name, given in columns.items():
            tables = vocabulary.present_in(name)
            values = given
            if tables is not None and vocabulary.source is not None:
                values = given[np.isin(columns[vocabulary.source], tables)]
            self.lost[name] += int(np.count_nonzero(self._kinds[name].is_unknown(values)))
            self.seen[name] += len(values)

    def words(self) -> str | None:
        """Return the warning about unseen columns; None if there are none."""
        names = [
            n
            for n, lost in self.lost.items()
            if self.seen[n] >= FEWEST_EVENTS
            and lost >= _WHOLE * self.seen[n]
            and not self._is_usual(n)
        ]
        found = [
            (
                f"{name!r} {self._kinds[name].unknown_words} in "
                f"{self.lost[name] / self.seen[name]:.0%} of the events"
            )
            for name in names
        ]
        return (
            f"{shown(found)}. Is it written as in the training (5411, not 5411.0 or 05411)?"
            if found
            else None
        )

    def warn(self, *, stacklevel: int = 2) -> None:
        """Warn about unseen columns, and about repeated events.

        Args:
            stacklevel: as in `warnings.warn`, counted from the caller.
        """
        for words in (self.words(), self.repeats.words()):
            if words is not None:
                warnings.warn(words, EventsWarning, stacklevel=stacklevel + 1)

    def _is_usual(self, name: str) -> bool:
        statistics = self.model.statistics
        if statistics is None or not statistics.events:
            return False
        counts = statistics.columns[name].counts
        return counts[self._kinds[name].unknown_bin] >= _USUAL * sum(counts)
