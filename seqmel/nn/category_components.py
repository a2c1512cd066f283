"""Category components: the category values that a client has, of very many, as a few numbers.

A client who saw two hundred of three thousand films has a taste, and no place for three thousand
counts: most films were seen by few. Latent semantic analysis (Deerwester et al.: Indexing by latent
semantic analysis, JASIS 41, 1990) reads it from the matrix of clients and values, without labels.
With n_v the number of events of a client with value v, N that of all its events, d_v the fraction
of training clients with the value,

    z = 1 / sqrt(N)  sum_v n_v w_v W_v,        w_v = 1 - ln d_v,

where the rows of W are the right singular vectors of the training clients' w_v (1 + ln n_v), each
client scaled to length 1. Every event adds one row of a table, so summaries of an earlier and a
later part can be merged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.pooling import Summary
from seqmel.nn.segments import segment_sum

__all__ = ["COLUMNS", "COMPONENTS", "LEAST", "CategoryComponents", "columns_of_many"]

LEAST = 42
"""Columns with fewer codes have none: a count for each says more."""
COMPONENTS = 32
"""Maximum number of each column."""
COLUMNS = 3
"""Maximum number of columns (those with the most codes)."""


def columns_of_many(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the categorical columns of many codes, at most `COLUMNS` -> the number of codes."""
    sizes = {name: codes.size for name, codes in vocabulary.categorical.items()}
    most = sorted((name for name in sizes if sizes[name] > LEAST), key=lambda name: -sizes[name])
    return {name: sizes[name] for name in most[:COLUMNS]}


class CategoryComponents(nn.Module):
    """Components of the values of each column, zeros before they are fitted: (B, output_size).

    Args:
        columns: Categorical column -> its number of codes.
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        super().__init__()
        self.columns = tuple(columns)
        for i, size in enumerate(columns.values()):
            self.register_buffer(f"table{i}", torch.zeros(size, COMPONENTS))
        self.output_size = COMPONENTS * len(self.columns)

    def table(self, column: str) -> Tensor:
        """Return the row of each code of a column: (codes, COMPONENTS)."""
        return self.get_buffer(f"table{self.columns.index(column)}")

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Sum the rows of the events of each sequence: (B, output_size) float32."""
        rows = [self.table(name).index_select(0, batch.columns[name]) for name in self.columns]
        return {"sum": segment_sum(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1), batch)}

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        return summary["sum"] / count.clamp(min=1).sqrt()

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts."""
        return {"sum": earlier["sum"] + later["sum"]}
