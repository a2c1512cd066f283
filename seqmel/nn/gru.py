"""The GRU cell, as defined by torch.nn.GRU: forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.nn.layer import BackwardSteps, Cell, GateWeights, RecurrentProduct

__all__ = ["GRU"]


class GRU(Cell):
    """h' = (1 - z) n + z h;  r, z = sigmoid(x W + h U);  n = tanh(x W_n + r u),  u = h U_n.

    The order of the gates is u, r, z, n. The last three get an input product, the first three a
    recurrent product.
    """

    carried = 1
    from_events = (1, 4)
    from_state = (0, 3)

    def pack_weights(
        self, w_in: Tensor, w_state: Tensor, b_in: Tensor, b_state: Tensor, *, doubled: bool
    ) -> GateWeights:
        """Reorder from torch's gates r, z, n."""
        hidden = w_state.shape[1]
        inner = w_in.clone()
        bias = torch.cat([b_state[2 * hidden :], b_in])
        bias[hidden : 3 * hidden] += b_state[: 2 * hidden]
        if doubled:
            inner[2 * hidden :] *= 2
            bias[3 * hidden :] *= 2
        return GateWeights(inner.t(), w_state.roll(hidden, 0).t(), bias)

    def unpack_gradients(self, d: GateWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Split the bias: u has only the recurrent one, n only the input one, r and z have both."""
        hidden = len(d.before)
        by_state = d.bias[: 3 * hidden].roll(-hidden)
        return (
            d.inner.t().contiguous(),
            d.before.t().roll(-hidden, 0),
            d.bias[hidden:].clone(),
            by_state,
        )

    def forward(
        self,
        gates: Tensor,
        sizes: list[int],
        begin: tuple[Tensor, ...],
        out: list[Tensor],
        recur: RecurrentProduct,
    ) -> tuple[Tensor, ...]:
        """Replace the gates by h U_n, r, z, n."""
        hidden = out[0].shape[1]
        minus_one = gates.new_tensor(-1.0)
        (state,) = begin
        columns = (
            gates[:, : 3 * hidden],
            gates[:, hidden : 3 * hidden],
            *gates.chunk(4, dim=1),
            out[0],
        )
        for size, u_r_z, r_z, u, r, z, n, after in zip(
            sizes, *(c.split_with_sizes(sizes) for c in columns), strict=True
        ):
            state = state.narrow(0, 0, size)
            recur(u_r_z, state)
            r_z.sigmoid_()
            torch.add(minus_one, n.addcmul_(r, u, value=2).sigmoid_(), alpha=2, out=n)
            state = torch.lerp(n, state, z, out=after)
        return (state,)

    def backward(self, steps: BackwardSteps, recur: RecurrentProduct) -> None:
        """Derivatives by the state: of u (1-z)(1-n^2) r, of r the same times u (1-r).

        Those of z and n are (h-n) z (1-z) and (1-z)(1-n^2).
        """
        gates = steps.gates
        slopes = steps.slopes
        hidden = slopes.shape[1] // 4
        u, r, z, n = gates.chunk(4, dim=1)
        by_u, by_r, by_z, by_n = slopes.chunk(4, dim=1)
        torch.ops.aten.tanh_backward(torch.sub(1, z, out=by_n), n, grad_input=by_n)
        torch.mul(by_n, r, out=by_u)
        torch.mul(by_n, u, out=by_r)
        torch.sub(steps.before[0], n, out=by_z)
        by_r_z = slopes[:, hidden : 3 * hidden]
        torch.ops.aten.sigmoid_backward(by_r_z, gates[:, hidden : 3 * hidden], grad_input=by_r_z)
        columns = (steps.d_states, z, slopes.view(-1, 4, hidden), slopes[:, : 3 * hidden])
        for size, d_out, kept, every, u_r_z in steps.by_step(*columns):
            d = steps.d_carried[0].narrow(0, 0, size).add_(d_out)
            every.mul_(d.unsqueeze(1))
            recur(d.mul_(kept), u_r_z)
