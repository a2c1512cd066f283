"""Pooling by category: a learned mean of the events of each category, and their number.

A mean over all events is nearly that of the frequent categories. If one event in two hundred is an
informative laboratory value, the pooled vector hardly shows it. Here a few numbers of each event (a
learned linear map, the same for all categories) are averaged within each of the most frequent
values of one categorical column, with the logarithm of the number of events. Hand-crafted features
cross a category with an aggregate in the same way; here the aggregate is learned. The state is sums
and counts, so new events add to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.config.options.network import CategoryMeanOptions
from seqmel.core.errors import ConfigError, shown
from seqmel.core.scatter import sum_rows
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import UNSEEN, Vocabulary
from seqmel.nn.sources import Kind, SourceKinds, cells_of_events

__all__ = ["ByCategory", "category_slots", "column_to_pool_by", "slots_of"]


def column_to_pool_by(options: CategoryMeanOptions, vocabulary: Vocabulary) -> Kind | None:
    """Return the column by which events are pooled; None without categorical columns.

    It is the configured one; else the column within which most numbers are scaled; else the column
    with the most values that still fit, or the one with the fewest values. With several event
    tables, such a column is chosen in each, and all share the places.

    Raises:
        ConfigError: the configured column is not categorical.
    """
    sizes = {name: len(codes.values) for name, codes in vocabulary.categorical.items()}
    if options.column is not None and options.column not in sizes:
        raise ConfigError(
            f"category_mean.column is {options.column!r}, which is not a categorical column of the "
            f"events. Expected one of: {shown(list(sizes)) or 'no column is categorical'}."
        )
    if options.column is not None or not sizes:
        return options.column
    if vocabulary.source is not None:
        return _kinds_of_sources(options, vocabulary)
    return _best(sizes, vocabulary, options.values)


def _best(sizes: dict[str, int], vocabulary: Vocabulary, most: int) -> str:
    within = [scales.by for scales in vocabulary.numeric.values() if scales.by in sizes]
    if within:
        return max(sizes, key=within.count)
    fitting = [name for name in sizes if sizes[name] <= most]
    return max(fitting, key=sizes.__getitem__) if fitting else min(sizes, key=sizes.__getitem__)


def _kinds_of_sources(options: CategoryMeanOptions, vocabulary: Vocabulary) -> SourceKinds:
    """Choose a column in each table. Small ones get all their slots, others share the rest."""
    share = max(1, options.values // len(vocabulary.sources))
    chosen: dict[str, str | None] = {}
    for name, table in vocabulary.sources.items():
        sizes = {
            c: len(vocabulary.categorical[c].values)
            for c in table.columns
            if c in vocabulary.categorical
        }
        chosen[name] = _best(sizes, vocabulary, share) if sizes else None
    values = {
        name: len(vocabulary.categorical[column].values) if column is not None else 0
        for name, column in chosen.items()
    }
    left = options.values
    places = {}
    for rank, name in enumerate(sorted(values, key=values.__getitem__)):
        places[name] = min(values[name], max(1, left // (len(values) - rank)))
        left -= places[name]
    tables = []
    begin = 0
    for name, column in chosen.items():
        size = 1 if column is None else places[name] + UNSEEN + 1
        tables.append((vocabulary.source_code(name), column, begin, size))
        begin += size
    assert vocabulary.source is not None
    return SourceKinds(vocabulary.source, tuple(tables))


def slots_of(options: CategoryMeanOptions, codes: int) -> int:
    """Return the number of slots: the codes with a mean of their own, null and unseen included."""
    return min(codes, options.values + UNSEEN + 1)


def category_slots(
    options: CategoryMeanOptions, vocabulary: Vocabulary, most: int
) -> dict[Kind, int]:
    """Divide a budget of slots over the categorical columns.

    Columns with few codes get a slot for each, the others equal parts of the rest, up to
    `category_mean.values`.

    Args:
        options: If they name a column, it gets its slots and the others none.
        vocabulary: The vocabulary of the events.
        most: The budget, null and unseen values counted.

    Returns:
        Column -> its number of slots. The column that events are pooled by comes first; for several
        event tables, it is their kinds, and the columns that these are made of get no more slots.

    Raises:
        ConfigError: The named column is not categorical.
    """
    first = column_to_pool_by(options, vocabulary)
    if first is None:
        return {}
    sizes = {name: slots_of(options, codes.size) for name, codes in vocabulary.categorical.items()}
    if isinstance(first, SourceKinds):
        sizes = {name: size for name, size in sizes.items() if name not in first.columns}
        found: dict[Kind, int] = {first: first.slots}
    elif options.column is not None:
        return {first: sizes[first]}
    else:
        found = {first: sizes.pop(first)}
    left = most - found[first]
    for rank, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
        found[name] = min(sizes[name], left // (len(sizes) - rank))
        left -= found[name]
    return {name: size for name, size in found.items() if size > UNSEEN + 1}


class ByCategory(nn.Module):
    """Pool states by category: (E, H) -> (B, slots * (size + 1)).

    For each category: the means of `size` learned numbers, then ln(1 + number of events).

    Args:
        column: the categorical column, or the kinds of several event tables.
        codes: its number of codes; the rarest, beyond `values`, share the slot of the unseen.
        input_size: H.
        options: the number of categories, and of numbers for each.
    """

    def __init__(
        self, column: Kind, codes: int, *, input_size: int, options: CategoryMeanOptions
    ) -> None:
        super().__init__()
        self.column = column
        self.slots = column.slots if isinstance(column, SourceKinds) else slots_of(options, codes)
        self.size = options.size
        self.inner = nn.Linear(input_size, options.size)
        self.output_size = self.slots * (options.size + 1)

    def summarise(self, states: Tensor, batch: SequenceBatch) -> Tensor:
        """Return (B, slots * (size + 1)) float32: sums and event count per category."""
        place = cells_of_events(batch, self.column, self.slots)
        inner = self.inner(states).float()
        terms = torch.cat([inner, inner.new_ones(len(inner), 1)], dim=1)
        return sum_rows(terms, place, len(batch) * self.slots).view(len(batch), self.output_size)

    def read(self, sums: Tensor) -> Tensor:
        """Return (B, output_size): means and log counts, from the sums of `summarise`."""
        parts = sums.view(len(sums), self.slots, self.size + 1)
        count = parts[:, :, -1:]
        return torch.cat([parts[:, :, :-1] / count.clamp(min=1), count.log1p()], dim=2).flatten(1)
