"""A warning where a whole column of the events tells the model nothing: values that the training never saw, or none at all."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch

from seqmel.core.errors import shown
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import UNSEEN
from seqmel.model import Model

__all__ = ["EventsWarning", "UnseenColumns"]

_CHUNK_EVENTS = 10_000
_FEWEST = 20  # events; of fewer all may be unseen by chance
_WHOLE, _USUAL = 0.9, 0.5  # from which fraction on a column is unseen; at which the training itself was like that


class EventsWarning(UserWarning):
    """The events are clearly not written like those of the training."""


class UnseenColumns:
    """Sees sequences as they are embedded, and counts the values that the model does not know."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.events = 0
        self.lost = dict.fromkeys(model.schema.features, 0)

    def see(self, sequences: EncodedSequences) -> None:
        """Count about ten thousand events of a chunk."""
        step = max(1, math.ceil(sequences.events / _CHUNK_EVENTS))
        clients = torch.arange(0, len(sequences), step)
        for name in self.lost:
            values = sequences.values(name, clients).numpy()
            unseen = values == UNSEEN if name in self.model.vocabulary.categorical else np.isnan(values)
            self.lost[name] += int(unseen.sum())
        self.events += int(sequences.lengths[clients].sum())

    def words(self) -> str | None:
        """What to say of such columns; None where there are none."""
        if self.events < _FEWEST:
            return None
        names = [n for n, lost in self.lost.items() if lost >= _WHOLE * self.events and not self._is_usual(n)]
        kinds = {True: "has values that the training did not see", False: "has no numbers"}
        found = [
            f"{name!r} {kinds[name in self.model.vocabulary.categorical]} in {self.lost[name] / self.events:.0%} of the events"
            for name in names
        ]
        return f"{shown(found)}. Is it written as in the training (5411, not 5411.0 or 05411)?" if found else None

    def warn(self, *, stacklevel: int = 2) -> None:
        """Warn of such columns."""
        words = self.words()
        if words is not None:
            warnings.warn(words, EventsWarning, stacklevel=stacklevel + 1)

    def _is_usual(self, name: str) -> bool:
        statistics = self.model.statistics
        if statistics is None or not statistics.events:
            return False
        counts = statistics.columns[name].counts
        place = UNSEEN if name in self.model.vocabulary.categorical else len(counts) - 1
        return counts[place] >= _USUAL * statistics.events
