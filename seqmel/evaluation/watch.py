"""A warning during embedding if the events clearly differ from those of training.

`input_drift` compares all events and reports small shifts too. This check samples some thousand
events per chunk and reports only large shifts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from seqmel.core.units import DAY_US
from seqmel.data.fitting.statistics import Statistics, count_events
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import TimeScale
from seqmel.evaluation.input_drift import drift_of_counts

__all__ = ["InputWatch"]

_CHUNK_EVENTS = 10_000
_FEWEST_CLIENTS = 30
_PSI = 1.0
_UNSEEN = 0.2
_ELSEWHERE = 0.2
_YEAR_US = 365 * DAY_US
_INT64 = torch.iinfo(torch.int64)


class InputWatch:
    """Count the events of every k-th client while sequences are embedded.

    Args:
        statistics: distribution of the training events, kept in the model.
        time: the time scale of the model's vocabulary.
    """

    def __init__(self, statistics: Statistics, time: TimeScale) -> None:
        self.statistics = statistics
        self.time = time
        self.clients = self.events = self.elsewhere = 0
        self.counts: dict[str, npt.NDArray[np.int64]] = {
            name: np.zeros(len(bins.counts), np.int64) for name, bins in statistics.columns.items()
        }

    def see(self, sequences: EncodedSequences) -> None:
        """Count a sample of the clients of a chunk, about 10,000 events or at least one client.

        Args:
            sequences: the chunk, encoded with the model's vocabulary.
        """
        step = max(1, math.ceil(sequences.events / _CHUNK_EVENTS))
        sample = sequences.subset(
            torch.arange(step // 2 % max(1, len(sequences)), len(sequences), step)
        )
        clients, events, counts = count_events(self.statistics, [sample])
        self.clients = self.clients + clients
        self.events = self.events + events
        for name, found in counts.items():
            self.counts[name] += found
        if self.time.end_us is not None and len(sample):
            length = int(self.time.span_days * DAY_US)
            around = max(_YEAR_US, length)
            begin = max(self.time.end_us - length - around, _INT64.min)
            end = min(self.time.end_us + around, _INT64.max)
            times = sample.times(torch.arange(len(sample)))
            self.elsewhere += int(((times < begin) | (times > end)).sum())

    def warning(self) -> str | None:
        """Describe the large shifts.

        Returns:
            A phrase for a warning; None if there is no large shift or fewer than 30 clients were
            sampled.
        """
        if self.clients < _FEWEST_CLIENTS or not self.events or not self.statistics.events:
            return None
        found = drift_of_counts(
            self.statistics,
            self.clients,
            self.events,
            self.counts,
            psi_threshold=_PSI,
            unseen_threshold=_UNSEEN,
        )
        share = self.elsewhere / self.events
        words = [found.verdict.removeprefix("Drift: ").rstrip(".")] if found.drifted else []
        if share >= _ELSEWHERE:
            words.append(
                f"{share:.0%} of the times are more than a year, and than the length of the "
                "training, from its times"
            )
        return "; ".join(words) or None
