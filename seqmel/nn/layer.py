"""A recurrent layer on the CPU: what GRU and LSTM have in common around their recurrences.

A recurrence is one long chain of small steps, at each of which threads that share it would wait for one another. So the
sequences of a batch are dealt out to runs, and each run goes through all its steps, forward and backward, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd

from seqmel.threads import side_by_side

__all__ = ["Cell", "RecurrentLayer", "Run", "layer_alone"]


@dataclass(frozen=True)
class Run:
    """Some sequences of a batch side by side, longest first.

    Attributes:
        rows: where their events lie, step after step.
        sizes: how many of them have an event at each step, not increasing.
        first: each (S, H), what is carried on from earlier events; none where there is none.
        products: what matrix products are computed in, where not as all else.
    """

    rows: slice
    sizes: list[int]
    first: tuple[Tensor, ...] = ()
    products: torch.dtype | None = None

    def begin(self, like: Tensor, carried: int, hidden: int) -> tuple[Tensor, ...]:
        """What is carried on to the first events, zeros where there were no earlier ones."""
        if self.first:
            return tuple(values[: self.sizes[0]] for values in self.first)
        return (like.new_zeros(self.sizes[0], hidden),) * carried


@dataclass(frozen=True)
class Cell:
    """A kind of recurrence, computed for one run.

    Attributes:
        forward: x (E, D), weights, run, out, keep -> what `backward` needs where `keep` is true. Puts what is carried on after
            each event in `out`, tensors of (E, H), of which the first is the state.
        backward: d_states (E, H), x, weights, run, out, kept, d_x -> the gradients of the weights; puts that of x in `d_x` (E, D),
            where it is not None.
        carried: how many tensors there are in `out`.
    """

    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., tuple[Tensor, ...]]
    carried: int


def _forward(
    x: Tensor, weights: list[Tensor], cell: Cell, runs: list[Run], *, keep: bool
) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
    out = tuple(x.new_empty(len(x), weights[1].shape[1]) for _ in range(cell.carried))

    def one(run: Run) -> tuple[Tensor, ...]:
        return cell.forward(x[run.rows], weights, run, tuple(o[run.rows] for o in out), keep=keep)

    return out, side_by_side(one, runs)


def layer_alone(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """What `RecurrentLayer` gives where no gradient is asked for: nothing is kept but what is carried on."""
    *weights, cell, runs = arguments
    with torch.autocast("cpu", enabled=False):
        return _forward(x.to(weights[0].dtype), weights, cell, runs, keep=False)[0]


class RecurrentLayer(torch.autograd.Function):
    """One layer over packed events: (E, D) -> the (E, H) states, then what else is carried on, which has no gradient."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, x: Tensor, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor, cell: Cell, runs: list[Run]
    ) -> tuple[Tensor, ...]:
        weights = [w_in, w_state, b_in, b_state]
        out, kept = _forward(x, weights, cell, runs, keep=True)
        ctx.cell, ctx.runs = cell, runs
        ctx.save_for_backward(x, *weights, *out, *(values for of_run in kept for values in of_run))
        ctx.mark_non_differentiable(*out[1:])
        return out

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cell, runs = ctx.cell, ctx.runs
        x, *saved = ctx.saved_tensors
        weights, out, flat = saved[:4], saved[4 : 4 + cell.carried], saved[4 + cell.carried :]
        each = len(flat) // len(runs)
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None

        def one(number: int) -> tuple[Tensor, ...]:
            run, kept = runs[number], tuple(flat[number * each : (number + 1) * each])
            d_events = None if d_x is None else d_x[run.rows]
            own = tuple(o[run.rows] for o in out)
            return cell.backward(gradients[0][run.rows], x[run.rows], weights, run, own, kept, d_events)

        parts = side_by_side(one, range(len(runs)))
        return d_x, *(torch.stack(same).sum(0) for same in zip(*parts, strict=True)), None, None
