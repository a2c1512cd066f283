"""A recurrent layer over packed events on the CPU, whatever its cell: forward, backward, and forward alone.

Products with the events, slopes of the gates and gradients of the weights are done for as many steps at once as stay in the
cache; the recurrence between them does only what each step must wait for.
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
from seqmel.nn.steps import Step, most_rows, rows_of, step_blocks

__all__ = ["Cell", "LaidOut", "Recur", "Run", "StepsBack", "recurrent_layer"]

_FORWARD_NUMBERS = 2**19  # of all gates: two megabytes, what a core's second cache and its share of the third hold
_BACKWARD_ROWS = 2048  # the sums of weight gradients over fewer are slower products; over more they leave the cache

Recur: TypeAlias = Callable[[Tensor, Tensor], None]
"""out, rows: adds the product of the rows of one step with the recurrent weights to `out`."""


@dataclass(frozen=True)
class Run:
    """How the sequences of a packed batch go side by side.

    Attributes:
        sizes: T running batch sizes, not increasing.
        first: (B, carried, H), what is carried on from earlier events; zeros where None.
        products: what matrix products are computed in, where not as all else.
    """

    sizes: list[int]
    first: Tensor | None = None
    products: torch.dtype | None = None

    def begin(self, like: Tensor, carried: int, hidden: int) -> tuple[Tensor, ...]:
        """What is carried on to the first events, each (B, H), in the type of `like`."""
        if self.first is None:
            return (like.new_zeros(self.sizes[0], hidden),) * carried
        return self.first[: self.sizes[0]].to(like.dtype).unbind(1)


@dataclass(frozen=True)
class LaidOut:
    """A layer's weights as its four gates lie side by side.

    Attributes:
        inner: (D, .) of the events, for the gates in `Cell.from_events`.
        before: (H, .) of the state, for those in `Cell.from_state`.
        bias: (4H,).
    """

    inner: Tensor
    before: Tensor
    bias: Tensor


@dataclass(frozen=True)
class StepsBack:
    """Some steps that are to be gone through backward.

    Attributes:
        gates: (R, 4H), as `Cell.forward` left them.
        sizes: rows of each step, the first step first.
        before: each (R, H), what was carried on to each event.
        after: each (R, H), what was carried on from it.
        d_states: (R, H), the gradient of the states by themselves.
        d_carried: each (B, H), the gradient of what is carried on from the last step; becomes that of what was carried on to
            the first.
        slopes: (R, 4H): is set to the gradient of the gates before their activation.
    """

    gates: Tensor
    sizes: list[int]
    before: list[Tensor]
    after: list[Tensor]
    d_states: Tensor
    d_carried: tuple[Tensor, ...]
    slopes: Tensor

    def by_step(self, *columns: Tensor) -> Iterator[tuple[Any, ...]]:
        """Of each step, the last first, its size and its rows of these (R, .) columns."""
        parts = (column.split_with_sizes(self.sizes)[::-1] for column in columns)
        return zip(self.sizes[::-1], *parts, strict=True)


class Cell(ABC):
    """A kind of recurrence with four gates, given a few steps at a time.

    Attributes:
        carried: how many tensors are carried on from event to event; the first is the state.
        from_events: the gates to which the events add, as begin and end.
        from_state: the gates to which the state before adds.
    """

    carried: ClassVar[int]
    from_events: ClassVar[tuple[int, int]]
    from_state: ClassVar[tuple[int, int]]

    @abstractmethod
    def lay_out(self, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor, *, doubled: bool) -> LaidOut:
        """torch's weights as the gates lie; those of a tanh `doubled` (tanh a = 2 sigmoid(2 a) - 1, four times as fast)."""

    @abstractmethod
    def take_back(self, d: LaidOut) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of what `lay_out` gives without doubling, as those of torch's weights."""

    @abstractmethod
    def forward(
        self, gates: Tensor, sizes: list[int], begin: tuple[Tensor, ...], out: list[Tensor], recur: Recur
    ) -> tuple[Tensor, ...]:
        """Some steps, one after the other.

        Args:
            gates: (R, 4H), what bias and events add; becomes what `backward` is given.
            sizes: rows of each step.
            begin: what is carried on from the step before.
            out: each (R, H): is set to what is carried on after each event.
            recur: adds what the state before adds, to the gates in `from_state`.

        Returns:
            What is carried on from the last of the steps.
        """

    @abstractmethod
    def backward(self, steps: StepsBack, recur: Recur) -> None:
        """The same steps backward.

        Args:
            steps: what there is of them; `slopes` and `d_carried` are set.
            recur: adds what the state before gets from the gates in `from_state`, (rows, .).
        """


def recurrent_layer(x: Tensor, weights: Sequence[Tensor], cell: Cell, run: Run) -> tuple[Tensor, ...]:
    """What is carried on after each event, `cell.carried` tensors of (E, H); the first, the states, has a gradient.

    Args:
        x: (E, D) packed events.
        weights: as torch lays them: w_in, w_state, b_in, b_state.
        cell: the kind of recurrence.
        run: how the events are packed.
    """
    if torch.is_grad_enabled():
        carried: tuple[Tensor, ...] = _Layer.apply(x, *weights, cell, run)
        return carried
    with torch.autocast("cpu", enabled=False):
        return _forward(x.to(weights[0].dtype), weights, cell, run, keep=False)[0]


def _forward(
    x: Tensor, weights: Sequence[Tensor], cell: Cell, run: Run, *, keep: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """What is carried on, each (E, H), and the gates of all events where they are to be kept, else of some."""
    laid = cell.lay_out(*weights, doubled=True)
    hidden = laid.before.shape[0]
    blocks = step_blocks(run.sizes, _FORWARD_NUMBERS // (4 * hidden))
    most = most_rows(blocks)
    from_events = slice(*(hidden * gate for gate in cell.from_events))
    add_events, recur = Product(laid.inner, most, run.products), Product(laid.before, run.sizes[0], run.products)
    gates = x.new_empty(len(x) if keep else most, 4 * hidden)
    out = tuple(x.new_empty(len(x), hidden) for _ in range(cell.carried))
    carried = run.begin(x, cell.carried, hidden)
    for block in blocks:
        rows = rows_of(block)
        part = gates[rows] if keep else gates[: rows.stop - rows.start]
        part[:] = laid.bias
        add_events(part[:, from_events], x[rows])
        carried = cell.forward(part, [size for _, _, size in block], carried, [o[rows] for o in out], recur)
    return out, gates


class _Layer(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, x: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor, cell: Cell, run: Run
    ) -> tuple[Tensor, ...]:
        weights = (w_in, w_state, b_in, b_state)
        out, gates = _forward(x, weights, cell, run, keep=True)
        ctx.cell, ctx.run = cell, run
        ctx.save_for_backward(x, *weights, gates, *out)
        ctx.mark_non_differentiable(*out[1:])
        return out

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_state, b_in, b_state, gates, *out = ctx.saved_tensors
        cell: Cell = ctx.cell
        run: Run = ctx.run
        laid = cell.lay_out(w_in, w_state, b_in, b_state, doubled=False)
        hidden = laid.before.shape[0]
        from_events, from_state = (slice(*(hidden * gate for gate in of)) for of in (cell.from_events, cell.from_state))
        blocks = step_blocks(run.sizes, _BACKWARD_ROWS)
        most = most_rows(blocks)
        by_event, by_slope, by_state = (
            Factor(most, width, run.products, x.dtype) for width in (len(laid.inner), 4 * hidden, hidden)
        )
        slopes, befores = by_slope.room, [by_state.room, *(x.new_empty(most, hidden) for _ in out[1:])]
        recur = Product(laid.before.t(), run.sizes[0], run.products)
        to_events = Product(laid.inner.t(), most, run.products)
        # summed transposed, and sums as products with ones: faster than the other way round
        d = LaidOut(*(x.new_zeros(values.shape) for values in (laid.inner, laid.before, laid.bias)))
        ones = x.new_ones(1, most)
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        begin = run.begin(x, cell.carried, hidden)
        d_carried = tuple(x.new_zeros(run.sizes[0], hidden) for _ in out)
        for block in reversed(blocks):
            rows = rows_of(block)
            s, before = slopes[: rows.stop - rows.start], [b[: rows.stop - rows.start] for b in befores]
            for values, first, b in zip(out, begin, before, strict=True):
                _put_before(values, block, run.sizes, first, b)
            after, sizes = [o[rows] for o in out], [size for _, _, size in block]
            cell.backward(StepsBack(gates[rows], sizes, before, after, gradients[0][rows], d_carried, s), recur)
            d.bias.unsqueeze(0).addmm_(ones[:, : len(s)], s)
            if d_x is not None:
                to_events(d_x[rows], s[:, from_events])
            s = by_slope(s)
            add_product(d.before, by_state(before[0]).t(), s[:, from_state])
            add_product(d.inner, by_event(x[rows]).t(), s[:, from_events])
        return d_x, *cell.take_back(d), None, None


def _put_before(values: Tensor, block: list[Step], sizes: list[int], first: Tensor, out: Tensor) -> None:
    """(R, H) what was carried on to each event of a block: `first`, or the rows of the step before that still run."""
    at = 0
    for step, begin, size in block:
        source = begin - sizes[step - 1]
        out[at : at + size] = values[source : source + size] if step else first[:size]
        at += size
