"""python kernels.py: attention over nested tensors on the CPU, with substitutes for GPU kernels.

torch's own code from the nested tensors to its kernels runs as on a GPU; the kernels (flash
attention, and the memory-efficient one) are written here with a loop over the sequences. What they
answer, and the gradients, must be what `grouped` gives; and nothing may be padded or ask the device
for a number. Prints a line for each case; exits 1 if one differs.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from small import batch_of
from torch import Tensor
from torch.nested._internal import sdpa
from torch.nn import functional as F
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

from seqmel.nn.attention import grouped, nested

LENGTHS = [3, 0, 1, 7, 7, 2, 0, 1, 40, 38]
HEADS, SIZE = 2, 8
WAITING_OR_PADDING = {"_local_scalar_dense", "nonzero", "index", "index_select", "constant_pad_nd"}


class Watch(TorchDispatchMode):
    """The names of the operations that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, causal: bool, scale: float
) -> Tensor:
    """(E, heads, d) attended to, a sequence at a time."""
    assert offsets.dtype == torch.int32
    assert all(x.stride(-1) == 1 for x in (q, k, v))
    ends = offsets.tolist()
    parts = [
        F.scaled_dot_product_attention(
            *(x[begin:end].transpose(0, 1) for x in (q, k, v)), is_causal=causal, scale=scale
        ).transpose(0, 1)
        for begin, end in pairwise(ends)
    ]
    return torch.cat(parts)


def gradients(
    d: Tensor, q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, causal: bool, scale: float
) -> Any:
    """Those of q, k and v, by hand: a kernel lies below what records gradients."""
    found = [torch.empty_like(x) for x in (q, k, v)]
    ends = offsets.tolist()
    for begin, end in pairwise(ends):
        d_i, q_i, k_i, v_i = (x[begin:end].transpose(0, 1) for x in (d, q, k, v))
        scores = q_i @ k_i.mT * scale
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
        shares = scores.softmax(-1)
        d_shares = d_i @ v_i.mT
        d_scores = shares * (d_shares - (d_shares * shares).sum(-1, keepdim=True)) * scale
        for whole, part in zip(
            found, (d_scores @ k_i, d_scores.mT @ q_i, shares.mT @ d_i), strict=True
        ):
            whole[begin:end] = part.transpose(0, 1)
    return found


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cum_q: Tensor,
    cum_k: Tensor,
    max_q: int,
    max_k: int,
    dropout: float,
    causal: bool,
    debug: bool,
    *,
    scale: float | None = None,
    **_: Any,
) -> Any:
    """As aten::_flash_attention_forward."""
    assert (max_q, max_k, dropout) == (max(LENGTHS), max(LENGTHS), 0.0)
    seen, empty = one_by_one(q, k, v, cum_q, causal, scale), q.new_zeros(0)
    return seen, empty, empty, empty, empty


def flash_back(
    d: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log: Tensor,
    cum_q: Tensor,
    cum_k: Tensor,
    max_q: int,
    max_k: int,
    dropout: float,
    causal: bool,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Any:
    """As aten::_flash_attention_backward."""
    return tuple(gradients(d, q, k, v, cum_q, causal, scale))


def efficient(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: None,
    cum_q: Tensor,
    cum_k: Tensor,
    max_q: int,
    max_k: int,
    dropout: float,
    mask: int,
    log: bool = False,
    *,
    scale: float | None = None,
    **_: Any,
) -> Any:
    """As aten::_efficient_attention_forward."""
    scale = scale or q.shape[-1] ** -0.5
    seen, empty = one_by_one(q[0], k[0], v[0], cum_q, mask == 1, scale), q.new_zeros(0)
    return seen.unsqueeze(0), empty, empty, empty, max_q, max_k


def efficient_back(
    d: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: None,
    out: Tensor,
    cum_q: Tensor,
    cum_k: Tensor,
    max_q: int,
    max_k: int,
    log: Tensor,
    dropout: float,
    seed: Tensor,
    offset: Tensor,
    mask: int,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Any:
    """As aten::_efficient_attention_backward."""
    scale = scale or q.shape[-1] ** -0.5
    found = gradients(d[0], q[0], k[0], v[0], cum_q, mask == 1, scale)
    return (*(x.unsqueeze(0) for x in found), None)


def answers(attend: Any, inputs: list[Tensor], weight: Tensor) -> list[Tensor]:
    """What the events are answered, and the gradients of the inputs."""
    q, k, v = inputs[0], inputs[1], inputs[2][:, 1]  # a part of something, as values are
    seen = attend(q, k, v)
    return [seen.detach(), *torch.autograd.grad((seen * weight).sum(), inputs)]


def main() -> int:
    """How many cases failed."""
    batch, failed = batch_of(LENGTHS), 0
    draw = torch.Generator().manual_seed(0)
    shape = (batch.events, HEADS, SIZE)
    shapes = (shape, shape, (batch.events, 2, HEADS, SIZE))
    inputs = [torch.randn(s, generator=draw).requires_grad_() for s in shapes]
    weight = torch.randn(shape, generator=draw)
    for name, kernel in (
        ("flash", SDPBackend.FLASH_ATTENTION),
        ("efficient", SDPBackend.EFFICIENT_ATTENTION),
    ):
        for causal in (False, True):
            expected = answers(grouped(batch, causal=causal), inputs, weight)
            attend = nested(batch, causal=causal)
            with patch.object(sdpa, "_select_sdp_backend", lambda *_, k=kernel: k):
                with Watch() as watch:
                    given = answers(attend, inputs, weight)
                with torch.inference_mode():
                    q, k, v = (x.clone() for x in inputs)
                    alone = nested(batch, causal=causal)(q, k, v[:, 1])
            wrong = [
                what
                for what, a, b in zip(
                    ("answers", "d q", "d k", "d v"), given, expected, strict=True
                )
                if not torch.allclose(a, b, rtol=1e-4, atol=1e-5)
            ]
            wrong += [] if torch.equal(alone, given[0]) else ["answers without gradients"]
            wrong += sorted(watch.names & WAITING_OR_PADDING)
            wrong += sorted(
                {f"_{name}_attention_forward", f"_{name}_attention_backward"} - watch.names
            )
            failed += bool(wrong)
            print(f"{name}, causal={causal}: {wrong or 'the same'}")
    return failed


if __name__ == "__main__":
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in (
        ("_flash_attention_forward", flash),
        ("_flash_attention_backward", flash_back),
        ("_efficient_attention_forward", efficient),
        ("_efficient_attention_backward", efficient_back),
    ):
        library.impl(name, kernel, "CPU")
    sys.exit(1 if main() else 0)
