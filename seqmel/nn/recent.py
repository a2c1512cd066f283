"""Recent events: the last events of a client, how they differ from its usual ones, and repetitions.

A mean over all events loses their order. These statistics keep it, as an analyst would. They are
not trained, and stand beside the vector like the recency features: two slices of a client end
differently, so a contrastive objective would ignore them. They are computed from plain numbers of
each event: one-hot codes, scaled numbers, and the gap. With x_i these numbers of event i = 0 .. n -
1, and m their mean,

    last       x_(n-1), x_(n-2), ...                        at most `LAST_NUMBERS` and `LAST_EVENTS`
    trend      sum_i q^(n-1-i) x_i / sum_i q^(n-1-i) - m    q = 2^(-1 / HALF_LIFE)
    drift      4 / n^2 sum_i (i - (n-1)/2) x_i              late minus early: positive if x rises
    runs       per category: ln(1 + length of the last run of equal codes), and the fraction of
    changes

`RecentByCategory` has for each category value its recency, 1 / (1 + events since) or 0 for never,
the logarithm of how many events have it, and for each number the last one with this value, their
mean, and the difference of both.

All are sums or copies, so summaries of an earlier and a later part can be merged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from seqmel.core.scatter import sum_rows
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import NULL, UNSEEN, Vocabulary
from seqmel.nn.category_components import CategoryComponents, columns_of_many
from seqmel.nn.code_fractions import CodeFractions
from seqmel.nn.events import clipped_gaps
from seqmel.nn.known_numbers import KnownNumbers
from seqmel.nn.last_ranks import LastRanks
from seqmel.nn.missing_numbers import MissingNumbers, lacking
from seqmel.nn.pooling import Summary, in_blocks, joined
from seqmel.nn.rhythm import Rhythm
from seqmel.nn.segments import (
    decayed_count,
    final_rows,
    first_rows,
    last_rows,
    merged_ago,
    merged_last_rows,
    recency,
    segment_max,
    segment_sum,
    where_some,
)
from seqmel.nn.sources import Kind, Presence, SourceKinds, cells_of_events, latest_of_slots
from seqmel.nn.transitions import Transitions

__all__ = [
    "PlainEvents",
    "Recent",
    "RecentByCategory",
    "RecentEvents",
    "numbers_by_column",
    "one_hot_sizes",
]

CODES = 32
NUMBERS = 24
"""Maximum numbers of one-hot codes of all categories, and of numeric columns (the first ones)."""
LAST_NUMBERS = 64
LAST_EVENTS = 8
HALF_LIFE = 4.0
"""In events."""
SLOTS = 96
"""Maximum number of category values with a slot, of all columns together."""
KIND_NUMBERS = 192
"""Maximum number of statistics of numeric columns by category value, of all columns together."""
_STATISTICS = 3  # of a numeric column and a category value


def one_hot_sizes(sizes: Sequence[int], most: int = CODES) -> list[int]:
    """Divide a budget of one-hot codes over categories.

    Small categories get all their codes, the others equal parts of the rest.

    Args:
        sizes: Number of codes of each category.
        most: The budget. Each of the first most / 2 categories gets at least two, the others none.

    >>> one_hot_sizes([3, 100, 200], most=23)
    [3, 10, 10]
    """
    found = [0] * len(sizes)
    left = most
    shared = sorted(range(len(sizes))[: most // 2], key=lambda i: sizes[i])
    for rank, i in enumerate(shared):
        found[i] = min(sizes[i], left // (len(shared) - rank))
        left -= found[i]
    return found


def numbers_by_column(vocabulary: Vocabulary, slots: Mapping[Kind, int]) -> dict[Kind, list[str]]:
    """Choose the numeric columns whose statistics each categorical column gets.

    A column gets as many as `KIND_NUMBERS` allows after the columns before it, those that are
    scaled within it first.

    Args:
        vocabulary: The vocabulary of the events.
        slots: Categorical column -> its number of slots, the most informative column first.
    """
    found: dict[Kind, list[str]] = {}
    left = KIND_NUMBERS
    for column, size in slots.items():
        within = column.columns if isinstance(column, SourceKinds) else (column,)
        names = _scaled_within_first(vocabulary, within)
        found[column] = names[: left // (_STATISTICS * size)]
        left -= _STATISTICS * size * len(found[column])
    return found


def _scaled_within_first(vocabulary: Vocabulary, columns: Sequence[str]) -> list[str]:
    """Return the numeric columns, those that are scaled within these categories first."""
    return sorted(vocabulary.numeric, key=lambda name: vocabulary.numeric[name].by not in columns)


class PlainEvents(nn.Module):
    """Plain numbers of events (E, output_size): one-hot codes, scaled numbers, and the gap.

    The rarest codes share a column with the unseen. A missing number is 0, the centre of its scale.
    So are codes and numbers of columns that the table of an event does not have.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        firsts = {
            name: NULL if codes.null else UNSEEN for name, codes in vocabulary.categorical.items()
        }
        sizes = one_hot_sizes(
            [codes.size - firsts[name] for name, codes in vocabulary.categorical.items()]
        )
        self.codes = {
            name: (firsts[name], size) for name, size in zip(firsts, sizes, strict=True) if size
        }
        self.presence = Presence(vocabulary, tuple(self.codes))
        self.numbers = tuple(vocabulary.numeric)[:NUMBERS]
        self.scale = vocabulary.time
        ends = [first + size for first, size in self.codes.values()]
        hot = [
            (column, code)
            for column, (first, size) in enumerate(self.codes.values())
            for code in range(first, first + size)
        ]
        self.ends: Tensor  # (C,) codes from here on are shown as unseen
        self.hot_column: Tensor  # (one-hot codes,) the column of each
        self.hot_code: Tensor  # (one-hot codes,)
        self.register_buffer("ends", torch.tensor(ends, dtype=torch.int32), False)
        self.register_buffer(
            "hot_column", torch.tensor([c for c, _ in hot], dtype=torch.int64), False
        )
        self.register_buffer(
            "hot_code", torch.tensor([c for _, c in hot], dtype=torch.int32), False
        )
        self.code_size = len(hot)
        self.output_size = self.code_size + len(self.numbers) + 1

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Compute the plain numbers of the events of a batch: (E, output_size)."""
        parts = []
        if self.codes:
            codes = batch.stacked(tuple(self.codes))
            codes = torch.where(codes < self.ends, codes, UNSEEN)
            hot = (codes.index_select(1, self.hot_column) == self.hot_code).float()
            present = self.presence(batch)
            parts.append(hot if present is None else hot * present.index_select(1, self.hot_column))
        if self.numbers:
            parts.append(batch.stacked(self.numbers).nan_to_num(0.0))
        return torch.cat([*parts, clipped_gaps(batch, self.scale).unsqueeze(1)], dim=1)


class Recent(nn.Module):
    """Last, trend, drift and runs of plain numbers: (E, D) -> (B, output_size)."""

    def __init__(self, events: PlainEvents) -> None:
        super().__init__()
        self.size = events.output_size
        self.columns = tuple(events.codes)
        self.events = max(1, min(LAST_EVENTS, LAST_NUMBERS // self.size))
        self.output_size = (self.events + 2) * self.size + 2 * len(self.columns)

    def summarise(self, numbers: Tensor, batch: SequenceBatch) -> Summary:
        """Summarise the events of each sequence, (B, ...) float32 each, zeros for an empty one.

        Args:
            numbers: (E, D), from `PlainEvents`.
            batch: The sequences of the events.
        """
        place = batch.positions().unsqueeze(1)
        weighted = [numbers, numbers * place, numbers * _decay(batch.ages).unsqueeze(1)]
        total, placed, decayed = (segment_sum(part, batch) for part in weighted)
        found = {
            "last": last_rows(numbers, batch, self.events),
            "total": total,
            "placed": placed,
            "decayed": decayed,
        }
        return found | self._runs(batch, place, batch.counts.unsqueeze(1))

    def _runs(self, batch: SequenceBatch, place: Tensor, count: Tensor) -> Summary:
        """Return (B, categories) each: last run of equal codes, changes, first and last code.

        Args:
            batch: The sequences of the events.
            place: (E, 1), the position of each event.
            count: (B, 1), the number of events.
        """
        if not self.columns:
            return {}
        codes = batch.stacked(self.columns)
        changed = codes != torch.cat([codes[:1], codes[:-1]])
        if not batch.is_one:  # the first event of one sequence is compared with itself
            changed = changed & (place > 0)
        latest = segment_max(changed * place.float(), batch)
        return {
            "run": count - latest,
            "changes": segment_sum(changed.float(), batch),
            "first_codes": first_rows(codes, batch).float(),
            "last_codes": final_rows(codes, batch).float(),
        }

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        some = count.clamp(min=1)
        mean = summary["total"] / some
        trend = summary["decayed"] / decayed_count(some, _RATE) - mean
        drift = (summary["placed"] - (some - 1) / 2 * summary["total"]) * 4 / some.square()
        parts = [summary["last"], trend, drift]
        if self.columns:
            parts += [summary["run"].log1p(), summary["changes"] / (some - 1).clamp(min=1)]
        return torch.cat(parts, dim=1)

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:
        """Merge summaries of consecutive parts with `before` and `new` (B, 1) events."""
        merged = {
            "last": merged_last_rows(earlier["last"], later["last"], new, self.events),
            "total": earlier["total"] + later["total"],
            "placed": earlier["placed"] + later["placed"] + before * later["total"],
            "decayed": earlier["decayed"] * _decay(new) + later["decayed"],
        }
        return merged | self._merge_runs(earlier, later, before, new) if self.columns else merged

    @staticmethod
    def _merge_runs(earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:
        equal = earlier["last_codes"] == later["first_codes"]
        through = torch.where(equal & (later["run"] == new), earlier["run"] + new, later["run"])
        both = torch.minimum(before, new)
        changed = where_some(both, ~equal, torch.zeros_like(equal))
        return {
            "run": where_some(both, through, where_some(new, later["run"], earlier["run"])),
            "changes": earlier["changes"] + later["changes"] + changed,
            "first_codes": where_some(before, earlier["first_codes"], later["first_codes"]),
            "last_codes": where_some(new, later["last_codes"], earlier["last_codes"]),
        }


_RATE = math.log(2) / HALF_LIFE


def _decay(events: Tensor) -> Tensor:
    return torch.exp(events.float() * -_RATE)


class RecentByCategory(nn.Module):
    """Recency, count, and last, mean and change of numbers for each category value.

    Args:
        column: The categorical column, or the kinds of several event tables.
        slots: Number of codes with a slot. The others share that of the unseen.
        numbers: The numeric columns.
    """

    def __init__(self, column: Kind, slots: int, numbers: Sequence[str] = ()) -> None:
        super().__init__()
        self.column, self.slots, self.numbers = column, slots, tuple(numbers)
        self.output_size = slots * (2 + _STATISTICS * len(self.numbers))

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Summarise each value, (B, ...) float32.

        Events since (-1 is never), count, sums, last numbers.
        """
        shape = (len(batch), self.slots)
        cell = cells_of_events(batch, self.column, self.slots)
        latest = latest_of_slots(batch, self.column, self.slots)
        seen = latest >= 0
        ago = torch.where(seen, batch.final_events - latest, -1).float()
        size = len(batch) * self.slots
        if not self.numbers:
            ones = batch.once("ones", lambda: torch.ones(batch.events, device=batch.device))
            return {"ago": ago, "seen": sum_rows(ones, cell, size).view(shape)}
        numbers = batch.once(("counted", self.numbers), lambda: self._counted(batch))
        sums = sum_rows(numbers[1:], cell, size).view(*shape, numbers.shape[1])
        # An event -1 takes the row of zeros.
        last = numbers.index_select(0, (latest + 1).flatten())[:, 1:]
        return {
            "ago": ago,
            "seen": sums[:, :, 0],
            "sums": sums[:, :, 1:].flatten(1),
            "values": last.reshape(len(batch), self.slots * len(self.numbers)),
        }

    def _counted(self, batch: SequenceBatch) -> Tensor:
        """Return (1 + E, 1 + numbers): a row of zeros; then 1 and the numbers of each event."""
        known = batch.stacked(self.numbers).nan_to_num(0.0)
        rows = torch.cat([known.new_ones(batch.events, 1), known], dim=1)
        return torch.cat([rows.new_zeros(1, rows.shape[1]), rows])

    def read(self, summary: Summary, count: Tensor) -> Tensor:  # noqa: ARG002 as all parts
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        parts = [recency(summary["ago"]), summary["seen"].log1p()]
        if self.numbers:
            seen = summary["seen"].clamp(min=1)
            if len(self.numbers) > 1:
                seen = seen.repeat_interleave(len(self.numbers), dim=1)
            mean = summary["sums"] / seen
            parts += [summary["values"], mean, summary["values"] - mean]
        return torch.cat(parts, dim=1)

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts with `before` and `new` (B, 1) events."""
        merged = {
            "ago": merged_ago(earlier["ago"], later["ago"], new),
            "seen": earlier["seen"] + later["seen"],
        }
        if not self.numbers:
            return merged
        seen = later["ago"] >= 0
        if len(self.numbers) > 1:
            seen = seen.repeat_interleave(len(self.numbers), dim=1)
        values = torch.where(seen, later["values"], earlier["values"])
        return merged | {"sums": earlier["sums"] + later["sums"], "values": values}


class RecentEvents(nn.Module):
    """Poolings of the events themselves: (B, output_size), zeros for an empty sequence.

    Args:
        names: Names of `RECENT_POOLINGS`.
        vocabulary: The vocabulary of the events.
        slots: Categorical column, or the kinds of several event tables -> number of its codes with
            a slot. `category_recent` and `rhythm` take all columns, `transitions` the first.
    """

    def __init__(
        self, names: Sequence[str], vocabulary: Vocabulary, slots: Mapping[Kind, int]
    ) -> None:
        super().__init__()
        has_fractions = "code_fractions" in names and bool(vocabulary.categorical)
        self.plain = PlainEvents(vocabulary) if "recent" in names or has_fractions else None
        self.recent = Recent(self.plain) if self.plain is not None and "recent" in names else None
        self.fractions = (
            CodeFractions(self.plain.code_size)
            if self.plain is not None and has_fractions
            else None
        )
        numbers = numbers_by_column(vocabulary, slots)
        self.kinds = nn.ModuleList(
            RecentByCategory(column, slots[column], numbers[column])
            for column in (slots if "category_recent" in names else ())
        )
        self.transitions: Transitions | None = None
        if slots and "transitions" in names:
            first = next(iter(slots))
            self.transitions = Transitions(first, slots[first])
        has_components = "category_components" in names and bool(columns_of_many(vocabulary))
        self.components = CategoryComponents(vocabulary) if has_components else None
        self.rhythm = Rhythm(vocabulary.time, slots) if "rhythm" in names else None
        has_known = "known_numbers" in names and bool(vocabulary.numeric)
        self.known = KnownNumbers(vocabulary) if has_known else None
        lacked = lacking(vocabulary) if "missing_numbers" in names else ()
        self.missing = MissingNumbers(lacked) if lacked else None
        has_ranks = "last_ranks" in names and bool(vocabulary.categorical)
        self.ranks = LastRanks(vocabulary) if has_ranks else None
        parts: dict[str, Any] = {"recent_": self.recent, "fractions_": self.fractions}
        parts |= {f"kinds{i}_": kinds for i, kinds in enumerate(self.kinds)}
        parts["transitions_"] = self.transitions
        parts["components_"] = self.components
        parts["rhythm_"] = self.rhythm
        parts["known_"] = self.known
        parts["missing_"] = self.missing
        parts["ranks_"] = self.ranks
        self.parts = {prefix: part for prefix, part in parts.items() if part is not None}
        """Prefix of the summary of each part -> the part, in the order of the columns."""
        self.output_size = sum(part.output_size for part in self.parts.values())

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Compute the poolings of each sequence: (B, output_size)."""
        return self.read(self.summarise(batch), batch.counts.unsqueeze(1).float())

    def summarise(self, batch: SequenceBatch) -> Summary:
        """Summarise the events of each sequence, (B, ...) float32 each."""
        # What needs the event before a sequence is computed before it is lost in blocks.
        given = {}
        if self.plain is not None:
            given["recent_"] = self.plain(batch)
        if self.rhythm is not None:
            given["rhythm_"] = self.rhythm.gaps(batch)
        if batch.device.type != "cpu" or not batch.events or not given:
            return self._summarise(given, batch)
        widths = [values.shape[1] for values in given.values()]
        return joined(
            [
                self._summarise(dict(zip(given, some.split(widths, dim=1), strict=True)), extent)
                for some, extent in in_blocks([*given.values()], batch)
            ]
        )

    def _summarise(self, given: dict[str, Tensor], batch: SequenceBatch) -> Summary:
        if self.fractions is not None:
            given["fractions_"] = given["recent_"][:, : self.fractions.output_size]
        found: Summary = {}
        for prefix, part in self.parts.items():
            own = (given[prefix],) if prefix in given else ()
            found |= {prefix + n: values for n, values in part.summarise(*own, batch).items()}
        return found

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """(B, output_size): the numbers that a summary of `count` (B, 1) events stands for."""
        named = _by_prefix(summary)
        return torch.cat(
            [part.read(named[prefix], count) for prefix, part in self.parts.items()], dim=1
        )

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:
        """Merge summaries of consecutive parts with `before` and `new` (B, 1) events."""
        merged: Summary = {}
        first, second = _by_prefix(earlier), _by_prefix(later)
        for prefix, part in self.parts.items():
            found = part.merge(first[prefix], second[prefix], before, new)
            merged |= {prefix + name: values for name, values in found.items()}
        return merged


def _by_prefix(summary: Summary) -> dict[str, Summary]:
    """Return the prefix of each part -> its summary, given that of all parts."""
    found: dict[str, Summary] = defaultdict(dict)
    for name, values in summary.items():
        prefix, rest = _cut(name)
        found[prefix][rest] = values
    return found


@cache
def _cut(name: str) -> tuple[str, str]:
    """Return the prefix of a name, and the rest."""
    prefix, mark, rest = name.partition("_")
    return prefix + mark, rest
