"""A recurrent layer over packed events on the CPU, for any cell: forward and backward pass.

Input products, gate gradients and weight gradients are computed for blocks of several steps. A
block is small enough to stay in the cache. The recurrence itself does only what each step has to
wait for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd

from seqmel.nn.products import Factor, Product, add_product
from seqmel.nn.steps import Step, block_rows, rows_of, step_blocks

__all__ = [
    "BackwardSteps",
    "Cell",
    "GateWeights",
    "PackedLayout",
    "RecurrentProduct",
    "recurrent_layer",
]

# Two megabytes of gates fill the L2 cache of a core and its part of the L3 cache.
_FORWARD_NUMBERS = 2**19
# Fewer rows make the products for the weight gradients slower. More rows do not fit the cache.
_BACKWARD_ROWS = 2048

RecurrentProduct: TypeAlias = Callable[[Tensor, Tensor], None]
"""Called with `out` and `rows`: adds the rows of one step times the recurrent weights to `out`."""


@dataclass(frozen=True)
class PackedLayout:
    """How a packed batch is laid out, and where its sequences start.

    Attributes:
        sizes: Number of running sequences at each of the T steps, not increasing.
        first: (B, carried, H), what earlier events carry over. None stands for zeros.
        products: Dtype of the matrix products. None uses the dtype of the input.
    """

    sizes: list[int]
    first: Tensor | None = None
    products: torch.dtype | None = None

    def begin(self, like: Tensor, carried: int, hidden: int) -> tuple[Tensor, ...]:
        """Return what is carried into the first events: `carried` tensors of (B, H) like `like`."""
        if self.first is None:
            return (like.new_zeros(self.sizes[0], hidden),) * carried
        return self.first[: self.sizes[0]].to(like.dtype).unbind(1)


@dataclass(frozen=True)
class GateWeights:
    """The weights of a layer, with its four gates side by side.

    Attributes:
        inner: (D, G), input weights of the gates in `Cell.from_events`.
        before: (H, G), recurrent weights of the gates in `Cell.from_state`.
        bias: (4H,).
    """

    inner: Tensor
    before: Tensor
    bias: Tensor


@dataclass(frozen=True)
class BackwardSteps:
    """The steps of one block, for the backward pass.

    Attributes:
        gates: (R, 4H), as `Cell.forward` left them.
        sizes: Number of rows of each step, the first step first.
        before: Tensors of (R, H), what each event received from the step before.
        after: Tensors of (R, H), what each event passed on.
        d_states: (R, H), the gradient of the states as outputs.
        d_carried: Tensors of (B, H), the gradient of what the last step passes on. It is replaced
            by the gradient of what the first step receives.
        slopes: (R, 4H), output: the gradient of the gates before their activation.
    """

    gates: Tensor
    sizes: list[int]
    before: list[Tensor]
    after: list[Tensor]
    d_states: Tensor
    d_carried: tuple[Tensor, ...]
    slopes: Tensor

    def by_step(self, *columns: Tensor) -> Iterator[tuple[Any, ...]]:
        """Yield the size and the rows of each column (R, N) per step, the last step first."""
        parts = (column.split_with_sizes(self.sizes)[::-1] for column in columns)
        return zip(self.sizes[::-1], *parts, strict=True)


class Cell(ABC):
    """A recurrent cell with four gates, computed for a block of steps at a time.

    Attributes:
        carried: Number of tensors carried from event to event. The first is the state.
        from_events: Begin and end of the gates that get an input product.
        from_state: Begin and end of the gates that get a recurrent product.
    """

    carried: ClassVar[int]
    from_events: ClassVar[tuple[int, int]]
    from_state: ClassVar[tuple[int, int]]

    @abstractmethod
    def pack_weights(
        self, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor, *, doubled: bool
    ) -> GateWeights:
        """Reorder torch's weights to the order of the gates.

        Args:
            w_in: (4H or 3H, D), as torch stores it.
            w_state: (4H or 3H, H).
            b_in: (4H or 3H,).
            b_state: (4H or 3H,).
            doubled: Whether to double the weights of tanh gates, because
                tanh a = 2 sigmoid(2 a) - 1 is four times as fast as tanh.
        """

    @abstractmethod
    def unpack_gradients(self, d: GateWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reorder the gradients of `pack_weights(doubled=False)` to those of torch's weights."""

    @abstractmethod
    def forward(
        self,
        gates: Tensor,
        sizes: list[int],
        begin: tuple[Tensor, ...],
        out: list[Tensor],
        recur: RecurrentProduct,
    ) -> tuple[Tensor, ...]:
        """Run the steps of a block, one after the other.

        Args:
            gates: (R, 4H), the sum of bias and input products. Overwritten with what `backward`
                needs.
            sizes: Number of rows of each step.
            begin: What the step before the block passes on, tensors of (B, H).
            out: Tensors of (R, H), output: what each event passes on.
            recur: Adds the recurrent product to the gates in `from_state`.

        Returns:
            What the last step passes on.
        """

    @abstractmethod
    def backward(self, steps: BackwardSteps, recur: RecurrentProduct) -> None:
        """Run the steps of a block backward.

        Args:
            steps: The values of the block. Sets `slopes` and `d_carried`.
            recur: Adds the gradient of the previous state, given that of the gates in `from_state`.
        """


def recurrent_layer(
    x: Tensor, weights: Sequence[Tensor], cell: Cell, layout: PackedLayout
) -> tuple[Tensor, ...]:
    """Run one recurrent layer.

    Args:
        x: (E, D) packed events.
        weights: w_in, w_state, b_in and b_state, as torch stores them.
        cell: The kind of recurrence.
        layout: How the events are packed.

    Returns:
        What each event passes on: `cell.carried` tensors of (E, H). Only the first, the states, has
        a gradient.
    """
    if torch.is_grad_enabled():
        carried: tuple[Tensor, ...] = _Layer.apply(x, *weights, cell, layout)
        return carried
    with torch.autocast("cpu", enabled=False):
        return _forward(x.to(weights[0].dtype), weights, cell, layout, keep=False)[0]


def _forward(
    x: Tensor, weights: Sequence[Tensor], cell: Cell, layout: PackedLayout, *, keep: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return what each event passes on, and the gates: of all events only with `keep`."""
    gate_weights = cell.pack_weights(*weights, doubled=True)
    hidden = gate_weights.before.shape[0]
    blocks = step_blocks(layout.sizes, _FORWARD_NUMBERS // (4 * hidden))
    max_rows = block_rows(blocks)
    from_events = slice(*(hidden * gate for gate in cell.from_events))
    add_events = Product(gate_weights.inner, max_rows, layout.products)
    recur = Product(gate_weights.before, layout.sizes[0], layout.products)
    gates = x.new_empty(len(x) if keep else max_rows, 4 * hidden)
    out = tuple(x.new_empty(len(x), hidden) for _ in range(cell.carried))
    carried = layout.begin(x, cell.carried, hidden)
    for block in blocks:
        rows = rows_of(block)
        part = gates[rows] if keep else gates[: rows.stop - rows.start]
        part[:] = gate_weights.bias
        add_events(part[:, from_events], x[rows])
        carried = cell.forward(
            part, [size for _, _, size in block], carried, [o[rows] for o in out], recur
        )
    return out, gates


class _Layer(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        x: Tensor,
        w_in: Tensor,
        w_state: Tensor,
        b_in: Tensor,
        b_state: Tensor,
        cell: Cell,
        layout: PackedLayout,
    ) -> tuple[Tensor, ...]:
        weights = (w_in, w_state, b_in, b_state)
        out, gates = _forward(x, weights, cell, layout, keep=True)
        ctx.cell = cell
        ctx.layout = layout
        ctx.save_for_backward(x, *weights, gates, *out)
        ctx.mark_non_differentiable(*out[1:])
        return out

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_state, b_in, b_state, gates, *out = ctx.saved_tensors
        cell: Cell = ctx.cell
        layout: PackedLayout = ctx.layout
        gate_weights = cell.pack_weights(w_in, w_state, b_in, b_state, doubled=False)
        hidden = gate_weights.before.shape[0]
        from_events = slice(*(hidden * gate for gate in cell.from_events))
        from_state = slice(*(hidden * gate for gate in cell.from_state))
        blocks = step_blocks(layout.sizes, _BACKWARD_ROWS)
        max_rows = block_rows(blocks)
        by_event, by_slope, by_state = (
            Factor(max_rows, width, layout.products, x.dtype)
            for width in (len(gate_weights.inner), 4 * hidden, hidden)
        )
        slopes = by_slope.room
        befores = [by_state.room, *(x.new_empty(max_rows, hidden) for _ in out[1:])]
        recur = Product(gate_weights.before.t(), layout.sizes[0], layout.products)
        to_events = Product(gate_weights.inner.t(), max_rows, layout.products)
        # Transposed gradients, and bias sums as products with ones, are the faster form of both.
        d = GateWeights(
            *(
                x.new_zeros(values.shape)
                for values in (gate_weights.inner, gate_weights.before, gate_weights.bias)
            )
        )
        ones = x.new_ones(1, max_rows)
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        begin = layout.begin(x, cell.carried, hidden)
        d_carried = tuple(x.new_zeros(layout.sizes[0], hidden) for _ in out)
        for block in reversed(blocks):
            rows = rows_of(block)
            s = slopes[: rows.stop - rows.start]
            before = [b[: rows.stop - rows.start] for b in befores]
            for values, first, b in zip(out, begin, before, strict=True):
                _fill_previous(values, block, layout.sizes, first, b)
            after = [o[rows] for o in out]
            sizes = [size for _, _, size in block]
            cell.backward(
                BackwardSteps(gates[rows], sizes, before, after, gradients[0][rows], d_carried, s),
                recur,
            )
            d.bias.unsqueeze(0).addmm_(ones[:, : len(s)], s)
            if d_x is not None:
                to_events(d_x[rows], s[:, from_events])
            s = by_slope(s)
            add_product(d.before, by_state(before[0]).t(), s[:, from_state])
            add_product(d.inner, by_event(x[rows]).t(), s[:, from_events])
        return d_x, *cell.unpack_gradients(d), None, None


def _fill_previous(
    values: Tensor, block: list[Step], sizes: list[int], first: Tensor, out: Tensor
) -> None:
    """Set `out` (R, H) to what the events of a block receive from the step before."""
    at = 0
    for step, begin, size in block:
        source = begin - sizes[step - 1]
        out[at : at + size] = values[source : source + size] if step else first[:size]
        at += size
