"""Missing numbers: how often, and how lately, each numeric column has a value.

A laboratory test that was not made tells something too: of the patient, and of what comes next.
With k_i = 1 where event i = 0 .. n-1 has a number and 0 where it has none, and t the last such
event, there are for each column that lacked numbers in training

    sum_i k_i / n    1 / (n - t), 0 without one    sum_i q^(n-1-i) k_i / (1 + q + ... + q^(n-1)),

with q = 2^(-1 / HALF_LIFE). They are sums and copies, so summaries of an earlier and a later part
can be merged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.pooling import Summary
from seqmel.nn.segments import decayed_count, merged_ago, recency, segment_max, segment_sum

__all__ = ["HALF_LIFE", "LEAST", "NUMBERS", "RATE", "MissingNumbers", "lacking"]

LEAST = 0.01
"""Columns that fewer training events lack, as a fraction, have no statistics."""
NUMBERS = 24
"""Maximum number of columns (the first ones)."""
HALF_LIFE = 4.0
"""In events."""
RATE = math.log(2) / HALF_LIFE


def lacking(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the numeric columns that some events lack, at most `NUMBERS`."""
    found = [name for name, scales in vocabulary.numeric.items() if scales.missing >= LEAST]
    return tuple(found[:NUMBERS])


class MissingNumbers(nn.Module):
    """Fraction known, recency and decayed fraction of each column: (B, output_size).

    Args:
        columns: The numeric columns.
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.output_size = 3 * len(columns)

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Summarise each sequence, (B, columns) float32 each.

        Number known, events since the last one (-1 is never), and decayed number.
        """
        known = (~batch.stacked(self.columns).isnan()).float()
        # The place of the last one, counted from 1; 0 is never.
        latest = segment_max(known * (batch.positions() + 1).unsqueeze(1), batch)
        decay = torch.exp(batch.ages.float() * -RATE).unsqueeze(1)
        return {
            "number": segment_sum(known, batch),
            "ago": torch.where(latest > 0, batch.counts.unsqueeze(1) - latest, -1.0),
            "decayed": segment_sum(known * decay, batch),
        }

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        some = count.clamp(min=1)
        decayed = summary["decayed"] / decayed_count(some, RATE)
        return torch.cat([summary["number"] / some, recency(summary["ago"]), decayed], dim=1)

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts, the later one of `new` (B, 1) events."""
        return {
            "number": earlier["number"] + later["number"],
            "ago": merged_ago(earlier["ago"], later["ago"], new),
            "decayed": earlier["decayed"] * torch.exp(-new * RATE) + later["decayed"],
        }
