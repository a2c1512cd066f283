"""Last ranks: how frequent the values of the last events are, by column.

Codes are ranks by frequency. With K codes and code r of an event, ln(1 + r) / ln K is 0 for a
missing value and 1 for the rarest. The last three events have one number for each category. One-hot
codes would need hundreds of columns for what trees read from one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.pooling import Summary
from seqmel.nn.segments import last_rows, merged_last_rows

__all__ = ["COLUMNS", "EVENTS", "LastRanks"]

COLUMNS = 8
"""Maximum number of columns (the first ones)."""
EVENTS = 3


class LastRanks(nn.Module):
    """Ranks of the values of the last events: (B, output_size), the last event first.

    Args:
        vocabulary: The vocabulary of the events.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        sizes = {name: codes.size for name, codes in vocabulary.categorical.items()}
        self.columns = tuple(sizes)[:COLUMNS]
        scales = [1 / math.log(max(sizes[name], 2)) for name in self.columns]
        self.output_size = EVENTS * len(self.columns)
        self.scales: Tensor  # (output_size,)
        self.register_buffer("scales", torch.tensor(EVENTS * scales), persistent=False)

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Summarise each sequence: (B, EVENTS * columns) float32, zeros for missing events."""
        last = last_rows(batch.stacked(self.columns), batch, EVENTS)
        return {"last": last.float().log1p() * self.scales}

    def read(self, summary: Summary, count: Tensor) -> Tensor:  # noqa: ARG002 as all parts
        """Return (B, output_size) from a summary."""
        return summary["last"]

    def merge(
        self,
        earlier: Summary,
        later: Summary,
        before: Tensor,  # noqa: ARG002 as all parts
        new: Tensor,
    ) -> Summary:
        """Merge summaries of consecutive parts with `new` (B, 1) events in the later one."""
        return {"last": merged_last_rows(earlier["last"], later["last"], new, EVENTS)}
