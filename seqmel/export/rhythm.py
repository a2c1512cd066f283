"""The poolings of gaps, known and missing numbers, and last ranks as nodes of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from seqmel.export.graph import Clients, Graph, slots_of_events
from seqmel.nn.known_numbers import RATE, KnownNumbers
from seqmel.nn.last_ranks import EVENTS, LastRanks
from seqmel.nn.missing_numbers import RATE as MISSING_RATE
from seqmel.nn.missing_numbers import MissingNumbers
from seqmel.nn.rhythm import HALF_LIVES, LAST_GAPS, NEVER, Rhythm
from seqmel.nn.sources import Kind

__all__ = ["known_numbers", "last_ranks", "missing_numbers", "rhythm"]

_SECOND_US = 1_000_000


def rhythm(
    g: Graph, of: Clients, module: Rhythm, codes: Mapping[str, str], gap: str, time: str
) -> list[str]:
    """Build statistics of gaps, then the times since each value, in the order of `Rhythm`.

    Args:
        g: The graph that nodes are added to.
        of: The indices of the events.
        module: The statistics.
        codes: Column -> the name of (E,) int64 codes.
        gap: The name of (E,) float, the scaled gap before each event.
        time: The name of (E,) int64 microseconds.
    """
    zero = g.const(0.0, np.float32)
    count = g.unsqueeze(g.cast(of.lengths, np.float32), 1)
    # An event after the last one is that of clients without events.
    times = g.op("Concat", time, g.const([0], np.int64), axis=0)
    last = g.op("Where", g.op("Less", of.last, of.begins), of.events, of.last)
    end = g.op("Gather", times, last)
    of_gaps = _gap_statistics(g, of, gap, count)
    parts = [_since(g, of, kind, slots, module.unit, codes, times, end)
             for kind, slots in module.slots.items()]  # fmt: skip
    some = g.op("Greater", count, zero)
    return [*of_gaps, *(g.op("Where", some, part, zero) for part in parts)]


def _seconds(g: Graph, microseconds: str) -> str:
    """Build float seconds."""
    wide = g.op("Div", g.cast(microseconds, np.float64), g.const(float(_SECOND_US), np.float64))
    return g.cast(wide, np.float32)


def _log1p(g: Graph, value: str) -> str:
    return g.op("Log", g.op("Add", value, g.const(1.0, np.float32)))


def _decayed_count(g: Graph, number: str, rate: float) -> str:
    """Build `seqmel.nn.segments.decayed_count`."""
    left = g.op("Exp", g.op("Mul", number, g.const(-rate, np.float32)))
    less = g.op("Sub", g.const(1.0, np.float32), left)
    return g.op("Mul", less, g.const(-1 / math.expm1(-rate), np.float32))


def _gap_statistics(g: Graph, of: Clients, gap: str, count: str) -> list[str]:
    """Build (B, GAP_STATISTICS) of the scaled gaps; `count` is (B, 1)."""
    one = g.const(1.0, np.float32)
    zero = g.const(0.0, np.float32)
    place = g.cast(of.place, np.float32)
    known = g.op("Greater", place, zero)
    gap = g.op("Where", known, gap, zero)
    number = g.op("Max", g.op("Sub", count, one), zero)
    some = g.op("Max", number, one)

    def summed(values: str) -> str:
        return of.reduced(g.unsqueeze(values, 1), 1)

    mean = g.op("Div", summed(gap), some)
    away = g.op("Sub", gap, g.op("Gather", g.op("Squeeze", mean, g.const([1], np.int64)), of.which))
    away = g.op("Where", known, away, zero)
    variance = g.op("Div", summed(g.op("Mul", away, away)), some)
    low = g.op("Where", known, gap, g.const(-5.0, np.float32))
    found = [mean, g.op("Sqrt", variance), of.reduced(g.unsqueeze(low, 1), 1, "max", start=-5.0)]
    found += of.last_rows(g.unsqueeze(gap, 1), 1, LAST_GAPS)
    lengths = g.op("Gather", g.cast(of.lengths, np.float32), of.which)
    age = g.op("Sub", lengths, g.op("Add", place, one))
    for half_life in HALF_LIVES:
        rate = math.log(2) / half_life
        decay = g.op("Exp", g.op("Mul", age, g.const(-rate, np.float32)))
        weight = _decayed_count(g, some, rate)
        found.append(g.op("Div", summed(g.op("Mul", gap, decay)), weight))
    beside = g.op("Concat", *found, axis=1)
    return [g.op("Where", g.op("Greater", number, zero), beside, zero)]


def _since(
    g: Graph,
    of: Clients,
    kind: Kind,
    slots: int,
    unit: float,
    codes: Mapping[str, str],
    times: str,
    end: str,
) -> str:
    """Build (B, slots), the time since each value; `end` is (B,) the time of the last event."""
    size = g.const(slots, np.int64)
    cell = g.op("Add", g.op("Mul", of.which, size), slots_of_events(g, codes, kind, slots))
    _, seen, row = of.latest(cell, slots)
    ago = _seconds(g, g.op("Sub", g.unsqueeze(end, 1), g.op("Gather", times, row)))
    log = g.op("Neg", _log1p(g, g.op("Div", ago, g.const(unit, np.float32))))
    return g.op("Where", seen, log, g.const(NEVER, np.float32))


def known_numbers(
    g: Graph,
    of: Clients,
    module: KnownNumbers,
    numbers: Mapping[str, str],
    missing: Mapping[str, str],
) -> list[str]:
    """Build last known values, then decayed means: (B, columns) each.

    Args:
        g: The graph that nodes are added to.
        of: The indices of the events.
        module: The statistics.
        numbers: Column -> the name of (E,) float scaled numbers, 0 if missing.
        missing: Column -> the name of (E,) bool.
    """
    size = len(module.columns)

    def beside(parts: Mapping[str, str]) -> str:
        return g.op("Concat", *(g.unsqueeze(parts[name], 1) for name in module.columns), axis=1)

    values = beside(numbers)
    known = g.cast(g.op("Not", beside(missing)), np.float64)
    number = of.reduced(g.cast(known, np.float32), size)
    passed = g.op("CumSum", known, g.const(0, np.int64))
    padded = g.op("Concat", g.const(np.zeros((1, size)), np.float64), passed, axis=0)
    before = g.op("Gather", g.op("Gather", padded, of.begins), of.which)
    here = g.cast(g.op("Sub", passed, before), np.float32)
    later = g.op("Sub", g.op("Gather", number, of.which), here)
    newest = g.cast(g.op("Equal", later, g.const(0.0, np.float32)), np.float32)
    last = of.reduced(g.op("Mul", values, newest), size)
    decay = g.op("Exp", g.op("Mul", later, g.const(-RATE, np.float32)))
    total = of.reduced(g.op("Mul", values, decay), size)
    some = g.op("Max", number, g.const(1.0, np.float32))
    return [last, g.op("Div", total, _decayed_count(g, some, RATE))]


def missing_numbers(
    g: Graph, of: Clients, module: MissingNumbers, missing: Mapping[str, str]
) -> list[str]:
    """Build fractions known, recencies, then decayed fractions: (B, columns) each.

    Args:
        g: The graph that nodes are added to.
        of: The indices of the events.
        module: The statistics.
        missing: Column -> the name of (E,) bool.
    """
    size = len(module.columns)
    one = g.const(1.0, np.float32)
    zero = g.const(0.0, np.float32)
    lacks = g.op("Concat", *(g.unsqueeze(missing[name], 1) for name in module.columns), axis=1)
    known = g.cast(g.op("Not", lacks), np.float32)
    count = g.unsqueeze(g.cast(of.lengths, np.float32), 1)
    some = g.op("Max", count, one)
    place = g.op("Add", g.unsqueeze(g.cast(of.place, np.float32), 1), one)
    latest = of.reduced(g.op("Mul", known, place), size, "max")
    since = g.op("Div", one, g.op("Add", g.op("Sub", some, latest), one))
    recency = g.op("Where", g.op("Greater", latest, zero), since, zero)
    age = g.op("Sub", g.op("Gather", count, of.which), place)
    decay = g.op("Exp", g.op("Mul", age, g.const(-MISSING_RATE, np.float32)))
    decayed = of.reduced(g.op("Mul", known, decay), size)
    fraction = g.op("Div", of.reduced(known, size), some)
    return [fraction, recency, g.op("Div", decayed, _decayed_count(g, some, MISSING_RATE))]


def last_ranks(g: Graph, of: Clients, module: LastRanks, codes: Mapping[str, str]) -> list[str]:
    """Build the ranks of the last events, (B, columns) each, the last event first.

    Args:
        g: The graph that nodes are added to.
        of: The indices of the events.
        module: The statistics.
        codes: Column -> the name of (E,) int64 codes.
    """
    ranks = []
    for name, scale in zip(module.columns, module.scales.tolist(), strict=False):
        log = _log1p(g, g.cast(codes[name], np.float32))
        ranks.append(g.unsqueeze(g.op("Mul", log, g.const(scale, np.float32)), 1))
    beside = g.op("Concat", *ranks, axis=1)
    return of.last_rows(beside, len(ranks), EVENTS)
