"""A builder of ONNX graphs, and the indices of the clients' events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from seqmel.data.vocabulary import UNSEEN
from seqmel.nn.sources import Kind, SourceKinds

__all__ = ["Clients", "Graph", "slots_of_events"]


class Graph:
    """Collects nodes and constants.

    Values are referred to by name, intermediate ones start with "/".
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(
        self,
        kind: str,
        *inputs: str,
        out: str | None = None,
        count: int = 1,
        domain: str = "",
        **how: Any,
    ) -> str:
        """Add a node. Returns the name of its (first) output."""
        from onnx import helper

        names = [out or f"/v{len(self.nodes)}"] + [
            f"/v{len(self.nodes)}_{i}" for i in range(1, count)
        ]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **how))
        return names[0]

    def const(self, value: npt.ArrayLike, dtype: type[np.generic] | None = None) -> str:
        """Add a constant tensor."""
        from onnx import numpy_helper

        name = f"/c{len(self.constants)}"
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name)
        )
        return name

    def weight(self, tensor: Tensor) -> str:
        """Add a constant from a tensor in float32."""
        return self.const(tensor.detach().cpu().float().numpy())

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """Cast a value to a dtype."""
        from onnx import helper

        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def unsqueeze(self, value: str, axis: int) -> str:
        """Insert an axis of length 1."""
        return self.op("Unsqueeze", value, self.const([axis], np.int64))

    def linear(self, value: str, layer: nn.Linear) -> str:
        """Apply a linear layer."""
        product = self.op("MatMul", value, self.weight(layer.weight.t()))
        return self.op("Add", product, self.weight(layer.bias))


class Clients:
    """Indices of the E events of B clients, all by name.

    Attributes:
        lengths: (B,) int64, number of events per client.
        begins: (B,) int64, the first event of each client.
        last: (B,) the last event of each client, or the event before `begins` if it has none.
        which: (E,) the client of each event.
        place: (E,) the position of each event within its client.
        clients: (1,) B.
        events: (1,) E.
    """

    def __init__(self, graph: Graph, time: str) -> None:
        g = graph
        one = graph.const([1], np.int64)
        self.begins = g.op("Slice", "offsets", g.const([0], np.int64), g.const([-1], np.int64))
        ends = g.op("Slice", "offsets", one, g.const([2**62], np.int64))
        self.lengths = g.op("Sub", ends, self.begins)
        self.clients = g.op("Shape", self.lengths)
        self.events = g.op("Shape", time)
        self.which = self._which(g)
        row = g.op(
            "Range", g.const(0, np.int64), g.op("Squeeze", self.events), g.const(1, np.int64)
        )
        self.place = g.op("Sub", row, g.op("Gather", self.begins, self.which))
        self.last = g.op("Sub", ends, one)
        self._graph = g

    def reduced(self, values: str, size: int, how: str = "add", start: float = 0.0) -> str:
        """Reduce (E, size) float to (B, size).

        Args:
            values: The name of the values.
            size: Their width.
            how: "add" or "max".
            start: The initial value of each reduction.
        """
        g = self._graph
        shape = g.op("Concat", self.clients, g.const([size], np.int64), axis=0)
        empty = g.op("Expand", g.const(start, np.float32), shape)
        index = g.op("Expand", g.unsqueeze(self.which, 1), g.op("Shape", values))
        return g.op("ScatterElements", empty, index, values, axis=0, reduction=how)

    def _which(self, g: Graph) -> str:
        """Count the begins of later clients up to each event."""
        inner = g.op("Slice", "offsets", g.const([1], np.int64), g.const([-1], np.int64))
        size = g.op("Add", self.events, g.const([1], np.int64))
        zeros = g.op("Expand", g.const([0], np.int64), size)
        ones = g.op("Expand", g.const([1], np.int64), g.op("Shape", inner))
        steps = g.op("ScatterElements", zeros, inner, ones, axis=0, reduction="add")
        counted = g.op("CumSum", steps, g.const(0, np.int64))
        return g.op("Slice", counted, g.const([0], np.int64), self.events)

    def latest(self, cell: str, slots: int) -> tuple[str, str, str]:
        """Return (B, slots) each of the last event of each slot: its position, -1 for none.

        Then whether there is one, and its row, E for none.

        Args:
            cell: The name of (E,) int64, client times slots plus the slot of each event.
            slots: Number of slots.
        """
        g = self._graph
        cells = g.op("Mul", self.clients, g.const([slots], np.int64))
        never = g.op("Expand", g.const(-1.0, np.float32), cells)
        place = g.cast(self.place, np.float32)
        latest = g.op("ScatterElements", never, cell, place, axis=0, reduction="max")
        latest = g.op("Reshape", latest, g.const([-1, slots], np.int64))
        seen = g.op("GreaterOrEqual", latest, g.const(0.0, np.float32))
        row = g.op("Add", g.unsqueeze(self.begins, 1), g.cast(latest, np.int64))
        return latest, seen, g.op("Where", seen, row, self.events)

    def last_rows(self, values: str, size: int, events: int) -> list[str]:
        """Return (B, size) for each of the last events, the last first; zeros for missing ones.

        Args:
            values: The name of (E, size) values.
            size: Their width.
            events: Number of events.
        """
        g = self._graph
        padded = g.op("Concat", values, g.const(np.zeros((1, size)), np.float32), axis=0)
        found = []
        for back in range(events):
            row = g.op("Sub", self.last, g.const(back, np.int64))
            there = g.op("GreaterOrEqual", row, self.begins)
            found.append(g.op("Gather", padded, g.op("Where", there, row, self.events)))
        return found


def slots_of_events(g: Graph, codes: Mapping[str, str], kind: Kind, slots: int) -> str:
    """Build (E,) int64, the slot of each event; see `seqmel.nn.sources`.

    Args:
        g: The graph.
        codes: Category -> the name of (E,) int64 codes.
        kind: The category, or the kinds of several tables.
        slots: Number of slots.
    """

    def within(code: str, size: int) -> str:
        known = g.op("Less", code, g.const(size, np.int64))
        return g.op("Where", known, code, g.const(UNSEEN, np.int64))

    if not isinstance(kind, SourceKinds):
        return within(codes[kind], slots)
    source = codes[kind.source]
    found = g.op("Sub", source, source)
    for code, column, begin, size in kind.tables:
        slot = g.const(begin, np.int64)
        if column is not None:
            slot = g.op("Add", within(codes[column], size), slot)
        there = g.op("Equal", source, g.const(code, np.int64))
        found = g.op("Where", there, slot, found)
    return found
