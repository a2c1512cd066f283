"""Known numbers: the last known value of each numeric column, and a decayed mean of its values.

Most events of a table of several record types lack most columns: a row of pitching has no hits. The
last events then say little of a column, where its own last values say much. With the known values
x_1 .. x_m of a column,

    x_m    and    sum_j q^(m-j) x_j / (1 + q + ... + q^(m-1)),    q = 2^(-1 / HALF_LIFE),

both zero, the centre of the scale, for a column without any. They are sums and copies, so summaries
of an earlier and a later part can be merged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.pooling import Summary
from seqmel.nn.segments import decayed_count, segment_sum, where_some

__all__ = ["HALF_LIFE", "NUMBERS", "KnownNumbers"]

NUMBERS = 24
"""Maximum number of columns (the first ones)."""
HALF_LIFE = 4.0
"""In known values."""
RATE = math.log(2) / HALF_LIFE


class KnownNumbers(nn.Module):
    """Last known value and decayed mean of each numeric column: (B, output_size).

    Args:
        vocabulary: The vocabulary of the events.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.columns = tuple(vocabulary.numeric)[:NUMBERS]
        self.output_size = 2 * len(self.columns)

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Summarise each sequence, (B, columns) float32 each: number, last and decayed sum."""
        values = batch.stacked(self.columns)
        known = (~values.isnan()).float()
        values = values.nan_to_num(0.0)
        number = segment_sum(known, batch)
        # Known values up to each event, counted over the whole batch, less those before it.
        passed = known.double().cumsum(0)
        if batch.is_one:
            later = number - passed.float()
        else:
            before = torch.cat([passed.new_zeros(1, len(self.columns)), passed])
            before = before.index_select(0, batch.offsets[:-1])
            before = before.index_select(0, batch.sequence_index)
            later = number.index_select(0, batch.sequence_index) - (passed - before).float()
        return {
            "number": number,
            "last": segment_sum(values * (later == 0), batch),
            "decayed": segment_sum(values * torch.exp(later * -RATE), batch),
        }

    def read(self, summary: Summary, count: Tensor) -> Tensor:  # noqa: ARG002 as all parts
        """Compute (B, output_size) from summaries."""
        some = summary["number"].clamp(min=1)
        return torch.cat([summary["last"], summary["decayed"] / decayed_count(some, RATE)], dim=1)

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts."""
        number = later["number"]
        return {
            "number": earlier["number"] + number,
            "last": where_some(number, later["last"], earlier["last"]),
            "decayed": earlier["decayed"] * torch.exp(number * -RATE) + later["decayed"],
        }
