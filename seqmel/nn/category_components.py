"""Category components: the category values that a client has, of very many, as a few numbers.

A client who saw two hundred of three thousand films has a taste, and no place for three thousand
counts: most films were seen by few. Latent semantic analysis (Deerwester et al.: Indexing by latent
semantic analysis, JASIS 41, 1990) reads it from the matrix of clients and values, without labels.
With n_v the number of events of a client with value v, N that of all its events, d_v the fraction
of training clients with the value,

    z = 1 / sqrt(N)  sum_v n_v w_v W_v,        w_v = 1 - ln d_v,

where the rows of W are the right singular vectors of the training clients' w_v (1 + ln n_v), each
client scaled to length 1. The items of a set and the words of a text are values as well. Every
event adds rows of a table, so summaries of an earlier and a later part can be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.data.kinds.base import ColumnKind, Fitted, distinct_rows
from seqmel.data.kinds.registry import KINDS
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
    """Return the columns of many values, at most `COLUMNS` -> the number of codes."""
    sizes = {name: kind.countable(fitted) for name, (kind, fitted) in _names(vocabulary).items()}
    most = sorted((name for name in sizes if sizes[name] > LEAST), key=lambda name: -sizes[name])
    return {name: sizes[name] for name in most[:COLUMNS]}


def _names(vocabulary: Vocabulary) -> dict[str, tuple[ColumnKind[Any], Fitted]]:
    """Return the kind of each column that is no number, and what was fitted of it."""
    columns: dict[str, Mapping[str, Fitted]] = {"categorical": vocabulary.categorical}
    columns |= vocabulary.kinds
    return {n: (KINDS[role], fitted) for role, of in columns.items() for n, fitted in of.items()}


class CategoryComponents(nn.Module):
    """Components of the values of each column, zeros before they are fitted: (B, output_size).

    Args:
        vocabulary: The vocabulary of the events.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        columns = columns_of_many(vocabulary)
        self.columns = tuple(columns)
        self.kinds = {n: of for n, of in _names(vocabulary).items() if n in columns}
        for i, size in enumerate(columns.values()):
            self.register_buffer(f"table{i}", torch.zeros(size, COMPONENTS))
        self.output_size = COMPONENTS * len(self.columns)

    def codes(self, column: str, values: Tensor) -> Tensor:
        """Return the codes of what is counted in E encoded values: (E,) or (E, width)."""
        kind, fitted = self.kinds[column]
        return kind.codes_of(values, fitted)

    def table(self, column: str) -> Tensor:
        """Return the row of each code of a column: (codes, COMPONENTS)."""
        return self.get_buffer(f"table{self.columns.index(column)}")

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Sum the rows of the events of each sequence: (B, output_size) float32."""
        rows = [self._rows(name, batch.columns[name]) for name in self.columns]
        return {"sum": segment_sum(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1), batch)}

    def _rows(self, column: str, values: Tensor) -> Tensor:
        """Return the row of each of E values, or the sum of the rows of what is in it."""
        table = self.table(column)
        if values.dim() == 1:
            return table.index_select(0, self.codes(column, values))
        distinct, index = distinct_rows(values)
        sums = F.embedding_bag(self.codes(column, distinct), table, mode="sum")
        return sums.index_select(0, index)

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        return summary["sum"] / count.clamp(min=1).sqrt()

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts."""
        return {"sum": earlier["sum"] + later["sum"]}
