"""The LSTM cell, as defined by torch.nn.LSTM: forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.nn.layer import BackwardSteps, Cell, GateWeights, RecurrentProduct

__all__ = ["LSTM"]


class LSTM(Cell):
    """c' = f c + i g;  h' = o tanh(c');  i, f, o = sigmoid(x W + h U);  g = tanh(x W_g + h U_g).

    The order of the gates is torch's: i, f, g, o. All get an input and a recurrent product. State
    and cell are carried from event to event.
    """

    carried = 2
    from_events = (0, 4)
    from_state = (0, 4)

    def pack_weights(
        self, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor, *, doubled: bool
    ) -> GateWeights:
        """Keep torch's order."""
        bias = b_in + b_state
        if doubled:
            squashed_gate = slice(2 * w_state.shape[1], 3 * w_state.shape[1])
            w_in = w_in.clone()
            w_state = w_state.clone()
            for weights in (w_in, w_state, bias):
                weights[squashed_gate] *= 2
        return GateWeights(w_in.t(), w_state.t(), bias)

    def unpack_gradients(self, d: GateWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give both biases the same gradient: both add to all gates."""
        return d.inner.t().contiguous(), d.before.t().contiguous(), d.bias, d.bias.clone()

    def forward(
        self,
        gates: Tensor,
        sizes: list[int],
        begin: tuple[Tensor, ...],
        out: list[Tensor],
        recur: RecurrentProduct,
    ) -> tuple[Tensor, ...]:
        """Replace the gates by i, f, g, o."""
        state, cell = begin
        minus_one = gates.new_tensor(-1.0)
        columns = (gates, *gates.chunk(4, dim=1), *out)
        for size, every, i, f, g, o, after, cell_after in zip(
            sizes, *(c.split_with_sizes(sizes) for c in columns), strict=True
        ):
            recur(every, state.narrow(0, 0, size))
            every.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            cell = torch.mul(f, cell.narrow(0, 0, size), out=cell_after).addcmul_(i, g)
            state = _tanh(cell, out=after).mul_(o)
        return state, cell

    def backward(self, steps: BackwardSteps, recur: RecurrentProduct) -> None:
        """Derivatives by the cell: of i g i (1-i), of f c f (1-f), of g i (1-g^2).

        By the state that of o is tanh(c') o (1-o).
        """
        slopes = steps.slopes
        cell = steps.after[1]
        i, f, g, o = steps.gates.chunk(4, dim=1)
        by_i, by_f, by_g, by_o = slopes.chunk(4, dim=1)
        squashed = _tanh(cell, out=torch.empty_like(cell))
        torch.ops.aten.sigmoid_backward(g, i, grad_input=by_i)
        torch.ops.aten.sigmoid_backward(steps.before[1], f, grad_input=by_f)
        torch.ops.aten.tanh_backward(i, g, grad_input=by_g)
        torch.ops.aten.sigmoid_backward(squashed, o, grad_input=by_o)
        to_cell = torch.ops.aten.tanh_backward(o, squashed, grad_input=squashed)
        columns = (steps.d_states, to_cell, f, slopes, slopes.view(len(slopes), 4, -1))
        for size, d_out, slope, kept, every, gate in steps.by_step(*columns):
            d, d_cell = (carried.narrow(0, 0, size) for carried in steps.d_carried)
            d_cell.addcmul_(d.add_(d_out), slope)
            gate[:, :3].mul_(d_cell.unsqueeze(1))
            gate[:, 3].mul_(d)
            d_cell.mul_(kept)
            recur(d.zero_(), every)


def _tanh(x: Tensor, *, out: Tensor) -> Tensor:
    """Compute 2 sigmoid(2 x) - 1, which is four times as fast as tanh."""
    torch.mul(x, 2, out=out).sigmoid_()
    return torch.add(x.new_tensor(-1.0), out, alpha=2, out=out)
