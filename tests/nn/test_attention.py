"""Ways to attend within ragged sequences: each is that of a loop over them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import batch_of
from torch import Tensor
from torch.nn import functional as F

from seqmel.nn.attention import Attend, _groups, grouped

MIXED = [3, 0, 1, 7, 7, 2, 0, 1, 40, 38]


def drawn(lengths: list[int]) -> list[Tensor]:
    """Queries, keys, values."""
    draw = torch.Generator().manual_seed(0)
    shape = (sum(lengths), 2, 8)
    return [
        torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(3)
    ]


def one_by_one(lengths: list[int], inputs: list[Tensor], *, causal: bool) -> Tensor:
    parts = zip(*(x.split(lengths) for x in inputs), strict=True)
    seen = [
        F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in part), is_causal=causal)
        for part in parts
    ]
    return torch.cat([x.transpose(0, 1) for x in seen])


def check(attend: Attend, lengths: list[int], *, causal: bool) -> None:
    inputs = drawn(lengths)
    expected, given = one_by_one(lengths, inputs, causal=causal), attend(*inputs)
    torch.testing.assert_close(given, expected, rtol=1e-9, atol=1e-10)
    slopes = (torch.autograd.grad(x.square().sum(), inputs) for x in (given, expected))
    for mine, other in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [MIXED, [1], [6, 6, 6], [0, 4, 0], list(range(30))], ids=str)
def test_grouped_is_a_loop_over_the_sequences(lengths: list[int], causal: bool) -> None:
    check(grouped(batch_of(lengths), causal=causal), lengths, causal=causal)


def test_kernels_of_a_gpu_are_given_what_they_ask_for() -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "kernels.py"],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(here.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same") == 4


@pytest.mark.parametrize("on_cpu", [True, False])
def test_groups_hold_every_sequence_that_is_not_empty_once_with_little_padding(
    on_cpu: bool,
) -> None:
    lengths = torch.tensor([*MIXED, *range(100)])
    groups = _groups(lengths, on_cpu=on_cpu)
    assert sorted(torch.cat(groups).tolist()) == lengths.nonzero()[:, 0].tolist()
    for group in groups if on_cpu else []:
        assert lengths[group].min() >= int(0.85 * lengths[group].max())
