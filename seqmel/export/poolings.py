"""The poolings of `seqmel.nn.pooling` and `seqmel.nn.by_category` as nodes of an ONNX graph."""

from __future__ import annotations

import numpy as np

from seqmel.export.graph import Clients, Graph, slots_of_events
from seqmel.nn.by_category import ByCategory
from seqmel.nn.pooling import Pooling

__all__ = ["pooled"]


def pooled(
    g: Graph, of: Clients, pooling: Pooling, states: str, size: int, codes: dict[str, str]
) -> list[str]:
    """Build poolings, (B, ...) each, in the order of their names.

    Args:
        g: The graph that nodes are added to.
        of: The indices of the events.
        pooling: The poolings.
        states: The name of (E, size) states.
        size: Width of the states.
        codes: Category -> the name of (E,) int64 codes.
    """
    count = g.unsqueeze(g.cast(of.lengths, np.float32), 1)
    some = g.op("Greater", count, g.const(0.0, np.float32))
    at_least_one = g.op("Max", count, g.const(1.0, np.float32))
    total = of.reduced(states, size)
    mean = g.op("Div", total, at_least_one)
    found = []
    for name in pooling.names:
        if name == "mean":
            found.append(mean)
        elif name == "log_sum":
            log = g.op("Log", g.op("Add", g.op("Abs", total), g.const(1.0, np.float32)))
            found.append(g.op("Mul", g.op("Sign", total), log))
        elif name == "std":
            away = g.op("Sub", states, g.op("Gather", mean, of.which))
            variance = g.op("Div", of.reduced(g.op("Mul", away, away), size), at_least_one)
            root = g.op("Sqrt", g.op("Add", variance, g.const(1e-6, np.float32)))
            found.append(g.op("Sub", root, g.const(1e-3, np.float32)))
        elif name == "category_mean":
            found.append(_by_category(g, of, pooling.by_category, states, codes))
        elif name == "max":
            largest = of.reduced(states, size, "max", start=-3e38)
            found.append(g.op("Where", some, largest, g.const(0.0, np.float32)))
        else:
            found += of.last_rows(states, size, 1)
    return found


def _by_category(
    g: Graph, of: Clients, pooling: ByCategory | None, states: str, codes: dict[str, str]
) -> str:
    """Build `seqmel.nn.by_category`.

    Sums and counts by client and category, (B, slots * (size + 1)).
    """
    assert pooling is not None
    slots, width = (g.const(n, np.int64) for n in (pooling.slots, pooling.size + 1))
    kind = slots_of_events(g, codes, pooling.column, pooling.slots)
    place = g.unsqueeze(g.op("Add", g.op("Mul", of.which, slots), kind), 1)
    inner = g.linear(states, pooling.inner)
    one = g.op(
        "Expand",
        g.const(1.0, np.float32),
        g.op("Concat", of.events, g.const([1], np.int64), axis=0),
    )
    inner_and_one = g.op("Concat", inner, one, axis=1)
    rows = g.op("Mul", of.clients, g.op("Reshape", slots, g.const([1], np.int64)))
    shape = g.op("Concat", rows, g.op("Reshape", width, g.const([1], np.int64)), axis=0)
    zeros = g.op("Expand", g.const(0.0, np.float32), shape)
    index = g.op("Expand", place, g.op("Shape", inner_and_one))
    sums = g.op("ScatterElements", zeros, index, inner_and_one, axis=0, reduction="add")
    parts = g.op("Reshape", sums, g.const([-1, pooling.slots, pooling.size + 1], np.int64))
    total, count = (
        g.op(
            "Slice",
            parts,
            g.const([begin], np.int64),
            g.const([end], np.int64),
            g.const([2], np.int64),
        )
        for begin, end in ((0, pooling.size), (pooling.size, pooling.size + 1))
    )
    mean = g.op("Div", total, g.op("Max", count, g.const(1.0, np.float32)))
    log = g.op("Log", g.op("Add", count, g.const(1.0, np.float32)))
    flat = g.const([-1, pooling.output_size], np.int64)
    return g.op("Reshape", g.op("Concat", mean, log, axis=2), flat)
