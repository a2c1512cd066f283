"""Whether events that are being embedded are clearly not like those of the training: a glance at a few of them, for a warning.

`input_drift` compares all events and calls small moves drift as well; here some thousands of events of each chunk are counted, and only what
is far off is worth a line.
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
_PSI, _UNSEEN, _ELSEWHERE = 1.0, 0.2, 0.2
_YEAR_US = 365 * DAY_US
_INT64 = torch.iinfo(torch.int64)


class InputWatch:
    """Sees sequences as they are embedded, and counts the events of every k-th client.

    Args:
        statistics: what the model keeps of its training.
        time: of the model's vocabulary.
    """

    def __init__(self, statistics: Statistics, time: TimeScale) -> None:
        self.statistics, self.time = statistics, time
        self.clients = self.events = self.elsewhere = 0
        self.counts: dict[str, npt.NDArray[np.int64]] = {
            name: np.zeros(len(bins.counts), np.int64) for name, bins in statistics.columns.items()
        }

    def see(self, sequences: EncodedSequences) -> None:
        """Count some clients of a chunk: about ten thousand events, or one client."""
        step = max(1, math.ceil(sequences.events / _CHUNK_EVENTS))
        sample = sequences.subset(torch.arange(step // 2 % max(1, len(sequences)), len(sequences), step))
        clients, events, counts = count_events(self.statistics, [sample])
        self.clients, self.events = self.clients + clients, self.events + events
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
        """What is clearly off, for people; None where nothing is, or where fewer than 30 clients were seen."""
        if self.clients < _FEWEST_CLIENTS or not self.events or not self.statistics.events:
            return None
        found = drift_of_counts(
            self.statistics, self.clients, self.events, self.counts, psi_threshold=_PSI, unseen_threshold=_UNSEEN
        )
        share = self.elsewhere / self.events
        words = [found.verdict.removeprefix("Drift: ").rstrip(".")] if found.drifted else []
        if share >= _ELSEWHERE:
            words.append(
                f"{share:.0%} of the times are more than a year, and than the length of the training, from its times"
            )
        return "; ".join(words) or None
