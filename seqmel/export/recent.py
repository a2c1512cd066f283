"""The poolings of `seqmel.nn.recent` and `seqmel.nn.transitions` as nodes of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np

from seqmel.data.vocabulary import UNSEEN
from seqmel.export.graph import Clients, Graph, slots_of_events
from seqmel.export.rhythm import known_numbers, last_ranks, missing_numbers, rhythm
from seqmel.nn.category_components import COMPONENTS, CategoryComponents
from seqmel.nn.recent import HALF_LIFE, PlainEvents, Recent, RecentByCategory, RecentEvents
from seqmel.nn.transitions import Transitions

__all__ = ["recent_events"]


def recent_events(
    g: Graph,
    of: Clients,
    module: RecentEvents,
    codes: Mapping[str, str],
    numbers: Mapping[str, str],
    gap: str,
    present: Mapping[str, str | None],
    missing: Mapping[str, str],
    time: str,
) -> list[str]:
    """Build the statistics, (B, ...) each, in the order of `RecentEvents`.

    Args:
        g: The graph that nodes are added to.
        of: The indices of the events.
        module: The statistics.
        codes: Column -> the name of (E,) int64 codes.
        numbers: Column -> the name of (E,) float scaled numbers, 0 if missing.
        gap: The name of (E,) float, the scaled gap before each event.
        present: Column -> the name of (E,) float, 0 in events of tables without it; None if all
            have it.
        missing: Column -> the name of (E,) bool, whether a number is missing.
        time: The name of (E,) int64 microseconds.
    """
    found = []
    if module.plain is not None:
        plain = _plain(g, module.plain, codes, numbers, gap, present)
        if module.recent is not None:
            found += _Recent(g, of, module.recent).parts(plain, codes)
        if module.fractions is not None:
            found.append(_fractions(g, of, plain, module.fractions.output_size))
    for kinds in module.kinds:
        found += _by_category(g, of, cast(RecentByCategory, kinds), codes, numbers)
    if module.transitions is not None:
        found.append(_transitions(g, of, module.transitions, codes))
    if module.components is not None:
        found += _components(g, of, module.components, codes)
    if module.rhythm is not None:
        found += rhythm(g, of, module.rhythm, codes, gap, time)
    if module.known is not None:
        found += known_numbers(g, of, module.known, numbers, missing)
    if module.missing is not None:
        found += missing_numbers(g, of, module.missing, missing)
    if module.ranks is not None:
        found += last_ranks(g, of, module.ranks, codes)
    return found


def _plain(
    g: Graph,
    events: PlainEvents,
    codes: Mapping[str, str],
    numbers: Mapping[str, str],
    gap: str,
    present: Mapping[str, str | None],
) -> str:
    """Build the plain numbers of the events: (E, D)."""
    parts = []
    for name, (first, size) in events.codes.items():
        known = g.op("Less", codes[name], g.const(first + size, np.int64))
        code = g.op("Where", known, codes[name], g.const(UNSEEN, np.int64))
        hot = g.op("Equal", g.unsqueeze(code, 1), g.const(range(first, first + size), np.int64))
        there = present[name]
        hot = g.cast(hot, np.float32)
        parts.append(hot if there is None else g.op("Mul", hot, g.unsqueeze(there, 1)))
    parts += [g.unsqueeze(numbers[name], 1) for name in events.numbers]
    return g.op("Concat", *parts, g.unsqueeze(gap, 1), axis=1)


def _fractions(g: Graph, of: Clients, plain: str, size: int) -> str:
    """Build the fractions of events with each one-hot code, the first columns of `plain`."""
    hot = g.op(
        "Slice", plain, g.const([0], np.int64), g.const([size], np.int64), g.const([1], np.int64)
    )
    count = g.unsqueeze(g.cast(of.lengths, np.float32), 1)
    return g.op("Div", of.reduced(hot, size), g.op("Max", count, g.const(1.0, np.float32)))


class _Recent:
    """Builds the statistics of `Recent`, in its order."""

    def __init__(self, g: Graph, of: Clients, module: Recent) -> None:
        self.g = g
        self.of = of
        self.module = module
        self.place = g.unsqueeze(g.cast(of.place, np.float32), 1)
        self.count = g.unsqueeze(g.cast(of.lengths, np.float32), 1)

    def parts(self, plain: str, codes: Mapping[str, str]) -> list[str]:
        g = self.g
        of = self.of
        size = self.module.size
        one = g.const(1.0, np.float32)
        rate = math.log(2) / HALF_LIFE
        some = g.op("Max", self.count, one)
        before_last = g.op("Sub", some, one)
        age = g.op("Sub", g.op("Gather", self.count, of.which), g.op("Add", self.place, one))
        decay = g.op("Exp", g.op("Mul", age, g.const(-rate, np.float32)))
        total, placed, decayed = (
            self.of.reduced(values, size)
            for values in (plain, g.op("Mul", plain, self.place), g.op("Mul", plain, decay))
        )
        weight = self.of.reduced(decay, 1)
        at_least = g.op("Where", g.op("Greater", self.count, g.const(0.0, np.float32)), weight, one)
        trend = g.op("Sub", g.op("Div", decayed, at_least), g.op("Div", total, some))
        middle = g.op("Mul", total, g.op("Div", before_last, g.const(2.0, np.float32)))
        scale = g.op("Div", g.const(4.0, np.float32), g.op("Mul", some, some))
        drift = g.op("Mul", g.op("Sub", placed, middle), scale)
        found = [*of.last_rows(plain, size, self.module.events), trend, drift]
        return (
            [*found, *self._runs(codes, g.op("Max", before_last, one))]
            if self.module.columns
            else found
        )

    def _runs(self, codes: Mapping[str, str], at_least_one: str) -> list[str]:
        """Build (B, categories) each: ln(1 + the last run), and the fraction of changes."""
        g = self.g
        of = self.of
        columns = self.module.columns
        all_codes = g.op("Concat", *(g.unsqueeze(codes[name], 1) for name in columns), axis=1)
        row = g.op("Add", of.place, g.op("Gather", of.begins, of.which))
        before = g.op("Max", g.op("Sub", row, g.const(1, np.int64)), g.const(0, np.int64))
        differs = g.cast(
            g.op("Not", g.op("Equal", all_codes, g.op("Gather", all_codes, before))), np.float32
        )
        later = g.cast(g.op("Greater", self.place, g.const(0.0, np.float32)), np.float32)
        changed = g.op("Mul", differs, later)
        latest = self.of.reduced(g.op("Mul", changed, self.place), len(columns), "max")
        run = g.op("Log", g.op("Add", g.op("Sub", self.count, latest), g.const(1.0, np.float32)))
        return [run, g.op("Div", self.of.reduced(changed, len(columns)), at_least_one)]


def _by_category(
    g: Graph,
    of: Clients,
    module: RecentByCategory,
    codes: Mapping[str, str],
    numbers: Mapping[str, str],
) -> list[str]:
    """Build recencies, counts, and last, mean and change of numbers, by client and value."""
    slots = g.const(module.slots, np.int64)
    one = g.const(1.0, np.float32)
    kind = slots_of_events(g, codes, module.column, module.slots)
    cell = g.op("Add", g.op("Mul", of.which, slots), kind)
    cells = g.op("Mul", of.clients, g.const([module.slots], np.int64))

    def summed(values: str) -> str:
        zeros = g.op("Expand", g.const(0.0, np.float32), cells)
        total = g.op("ScatterElements", zeros, cell, values, axis=0, reduction="add")
        return g.op("Reshape", total, g.const([-1, module.slots], np.int64))

    latest, seen, row = of.latest(cell, module.slots)
    since = g.op("Sub", g.unsqueeze(g.cast(of.lengths, np.float32), 1), latest)
    events = summed(g.op("Expand", one, of.events))
    found = [
        g.op("Where", seen, g.op("Div", one, g.op("Max", since, one)), g.const(0.0, np.float32)),
        g.op("Log", g.op("Add", events, one)),
    ]
    if not module.numbers:
        return found
    count = g.op("Max", events, one)
    values = []
    means = []
    change = []
    for name in module.numbers:
        padded = g.op("Concat", numbers[name], g.const([0.0], np.float32), axis=0)
        values.append(g.op("Gather", padded, row))
        means.append(g.op("Div", summed(numbers[name]), count))
        change.append(g.op("Sub", values[-1], means[-1]))
    width = g.const([-1, module.slots * len(module.numbers)], np.int64)
    for parts in (values, means, change):  # grouped by category value
        beside = g.op("Concat", *(g.unsqueeze(part, 2) for part in parts), axis=2)
        found.append(g.op("Reshape", beside, width))
    return found


def _components(
    g: Graph, of: Clients, module: CategoryComponents, codes: Mapping[str, str]
) -> list[str]:
    """Sum the rows of the values of each column by client: (B, COMPONENTS) each."""
    found = []
    for name in module.columns:
        rows = g.op("Gather", g.weight(module.table(name)), codes[name])
        found.append(_sum_by_root(g, of, rows, COMPONENTS))
    return found


def _sum_by_root(g: Graph, of: Clients, rows: str, size: int) -> str:
    """Sum (E, size) rows by client, divided by the root of the number of events: (B, size)."""
    count = g.op("Max", g.cast(of.lengths, np.float32), g.const(1.0, np.float32))
    return g.op("Div", of.reduced(rows, size), g.unsqueeze(g.op("Sqrt", count), 1))


def _transitions(g: Graph, of: Clients, module: Transitions, codes: Mapping[str, str]) -> str:
    """Sum the rows of the table for each pair of neighbours by client: (B, components)."""
    slots = g.const(module.slots, np.int64)
    kind = slots_of_events(g, codes, module.column, module.slots)
    row = g.op("Add", of.place, g.op("Gather", of.begins, of.which))
    before = g.op(
        "Gather", kind, g.op("Max", g.op("Sub", row, g.const(1, np.int64)), g.const(0, np.int64))
    )
    inner = g.op("Greater", of.place, g.const(0, np.int64))
    cell = g.op("Add", g.op("Mul", g.op("Where", inner, before, kind), slots), kind)
    rows = g.op("Gather", g.weight(module.table), cell)
    return _sum_by_root(g, of, rows, module.output_size)
