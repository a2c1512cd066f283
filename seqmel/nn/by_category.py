"""Pooling by category: what the events of each kind are like, kind by kind, so that a rare kind is heard beside frequent ones.

A mean over all events is nearly that of the frequent kinds: where one event in two hundred is a
    laboratory value that tells
much, the pooled vector hardly shows it. Here a few numbers of each event (a learnt linear map, the
same for all kinds) are averaged within each of the most frequent values of one categorical column,
with the logarithm of how many there were. It is the crossing of a category with an aggregate, as
hand-crafted features have it, with the aggregate learnt. What is kept of earlier events is sums and
counts, so new events add to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.config.options.network import CategoryMeanOptions
from seqmel.core.errors import ConfigError, shown
from seqmel.core.scatter import sum_rows
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import UNSEEN, Vocabulary

__all__ = ["ByCategory", "column_to_pool_by", "slots_of"]


def column_to_pool_by(options: CategoryMeanOptions, vocabulary: Vocabulary) -> str | None:
    """The column that events are pooled by: as asked; else the one that most numbers are scaled within; else the one with
    the most values that all have a place, or with the fewest; None where nothing is categorical.

    Raises:
        ConfigError: a column was asked for that is no category.
    """
    sizes = {name: len(codes.values) for name, codes in vocabulary.categorical.items()}
    if options.column is not None and options.column not in sizes:
        raise ConfigError(
            f"category_mean.column is {options.column!r}, which is no categorical column of the "
            f"events. Expected one of: {shown(list(sizes)) or 'there is none'}."
        )
    if options.column is not None or not sizes:
        return options.column
    within = [scales.by for scales in vocabulary.numeric.values() if scales.by is not None]
    if within:
        return max(sizes, key=within.count)
    fitting = [name for name in sizes if sizes[name] <= options.values]
    return max(fitting, key=sizes.__getitem__) if fitting else min(sizes, key=sizes.__getitem__)


def slots_of(options: CategoryMeanOptions, codes: int) -> int:
    """How many of the codes of the column have a place of their own, null and unseen counted."""
    return min(codes, options.values + UNSEEN + 1)


class ByCategory(nn.Module):
    """(E, H) states -> (B, slots * (size + 1)): of each kind the mean of `size` numbers, then ln(1 + how many events).

    Args:
        column: the categorical column.
        codes: how many codes it has; the rarest, beyond `values`, are taken together with the
            unseen.
        input_size: H.
        options: how many kinds, and numbers of each.
    """

    def __init__(
        self, column: str, codes: int, *, input_size: int, options: CategoryMeanOptions
    ) -> None:
        super().__init__()
        self.column = column
        self.slots = slots_of(options, codes)
        self.size = options.size
        self.inner = nn.Linear(input_size, options.size)
        self.output_size = self.slots * (options.size + 1)

    def summarise(self, states: Tensor, batch: SequenceBatch) -> Tensor:
        """(B, slots * (size + 1)) float32: of each kind the sums, then the number of events; zeros where there are none."""
        codes = batch.columns[self.column].long()
        place = batch.sequence_index * self.slots + torch.where(codes < self.slots, codes, UNSEEN)
        inner = self.inner(states).float()
        told = torch.cat([inner, inner.new_ones(len(inner), 1)], dim=1)
        return sum_rows(told, place, len(batch) * self.slots).view(len(batch), self.output_size)

    def read(self, sums: Tensor) -> Tensor:
        """(B, output_size): means and logarithms of counts, from what `summarise` gave or sums of such."""
        parts = sums.view(len(sums), self.slots, self.size + 1)
        count = parts[:, :, -1:]
        return torch.cat([parts[:, :, :-1] / count.clamp(min=1), count.log1p()], dim=2).flatten(1)
