"""An ONNX graph in the making, and what every part of it needs to know of the clients' events."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

__all__ = ["Clients", "Graph"]


class Graph:
    """Nodes and constants in the making; values are known by name, those in between by one that begins with a slash."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str, out: str | None = None, count: int = 1, domain: str = "", **how: Any) -> str:
        """Add a node; gives the name of its (first) output."""
        from onnx import helper

        names = [out or f"/v{len(self.nodes)}"] + [f"/v{len(self.nodes)}_{i}" for i in range(1, count)]
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **how))
        return names[0]

    def const(self, value: npt.ArrayLike, dtype: type[np.generic] | None = None) -> str:
        """A constant tensor."""
        from onnx import numpy_helper

        name = f"/c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name))
        return name

    def weight(self, tensor: Tensor) -> str:
        return self.const(tensor.detach().cpu().float().numpy())

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        from onnx import helper

        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def unsqueeze(self, value: str, axis: int) -> str:
        return self.op("Unsqueeze", value, self.const([axis], np.int64))

    def linear(self, value: str, layer: nn.Linear) -> str:
        product = self.op("MatMul", value, self.weight(layer.weight.t()))
        return self.op("Add", product, self.weight(layer.bias))


class Clients:
    """Where the events of the B clients lie; all by name.

    Attributes:
        lengths, begins: (B,) int64, events a client and its first one.
        last: (B,) its last event, the one before the first where it has none.
        which: (E,) which client an event is of.
        place: (E,) its place among the client's events.
        clients, events: (1,) B and E.
    """

    def __init__(self, graph: Graph, time: str) -> None:
        g, one = graph, graph.const([1], np.int64)
        self.begins = g.op("Slice", "offsets", g.const([0], np.int64), g.const([-1], np.int64))
        ends = g.op("Slice", "offsets", one, g.const([2**62], np.int64))
        self.lengths = g.op("Sub", ends, self.begins)
        self.clients, self.events = g.op("Shape", self.lengths), g.op("Shape", time)
        self.which = self._which(g)
        row = g.op("Range", g.const(0, np.int64), g.op("Squeeze", self.events), g.const(1, np.int64))
        self.place = g.op("Sub", row, g.op("Gather", self.begins, self.which))
        self.last = g.op("Sub", ends, one)

    def _which(self, g: Graph) -> str:
        """One is added where each but the first client begins."""
        inner = g.op("Slice", "offsets", g.const([1], np.int64), g.const([-1], np.int64))
        size = g.op("Add", self.events, g.const([1], np.int64))
        zeros = g.op("Expand", g.const([0], np.int64), size)
        ones = g.op("Expand", g.const([1], np.int64), g.op("Shape", inner))
        steps = g.op("ScatterElements", zeros, inner, ones, axis=0, reduction="add")
        counted = g.op("CumSum", steps, g.const(0, np.int64))
        return g.op("Slice", counted, g.const([0], np.int64), self.events)
