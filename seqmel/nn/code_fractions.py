"""Code fractions: the fraction of a client's events that have each of the first category codes.

The logarithm of a count is as large for 2 of 3 events as for 2 of 300. Who won more of the points
played, or which channel a client prefers, is a fraction. With N events, n_v of them with code v, it
is n_v / N; the codes are those of `seqmel.nn.recent.PlainEvents`. Fractions are read from sums, so
summaries of an earlier and a later part can be merged.
"""

from __future__ import annotations

from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.pooling import Summary
from seqmel.nn.segments import segment_sum

__all__ = ["CodeFractions"]


class CodeFractions(nn.Module):
    """Fractions of events by code: (E, output_size) one-hot -> (B, output_size).

    Args:
        codes: Number of one-hot codes of all categorical columns.
    """

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.output_size = codes

    def summarise(self, hot: Tensor, batch: SequenceBatch) -> Summary:
        """Count the codes of each sequence: (B, output_size) float32.

        Args:
            hot: (E, output_size), one-hot codes.
            batch: The sequences of the events.
        """
        return {"total": segment_sum(hot, batch)}

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        return summary["total"] / count.clamp(min=1)

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts."""
        return {"total": earlier["total"] + later["total"]}
