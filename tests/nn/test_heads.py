"""Heads see standardised vectors, whatever the size of an encoder's numbers."""

from __future__ import annotations

import torch

from seqmel.nn.heads import Heads


def vectors(count: int = 50) -> torch.Tensor:
    found = torch.randn(count, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1e-4, 1.0, 1e4, 0.0]
    )
    return found + torch.tensor([5.0, 0.0, 1e5, 7.0])


def test_each_number_has_mean_0_and_deviation_1_and_a_constant_is_0() -> None:
    heads = Heads(4, [2])
    heads.fit_scale(vectors())
    seen = heads.standardise(vectors())
    torch.testing.assert_close(seen.mean(0), torch.zeros(4), atol=2e-3, rtol=0)
    torch.testing.assert_close(
        seen.std(0, unbiased=False), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=5e-3, rtol=0
    )
    assert (
        heads.standardise(vectors() + 1)[:, 3].abs().max() == 0
    )  # also where another client differs


def test_what_lies_far_out_is_cut_off() -> None:
    heads = Heads(4, [2])
    heads.fit_scale(vectors())
    assert heads.standardise(torch.full((1, 4), 1e9))[0].tolist() == [10, 10, 10, 0]


def test_each_target_has_its_own_outputs_and_dropout_is_for_training() -> None:
    heads = Heads(4, [2, 1, 3], dropout=0.5)
    torch.nn.init.normal_(heads.linear.weight)
    heads.fit_scale(vectors())
    assert [out.shape for out in heads.eval()(vectors())] == [(50, 2), (50, 1), (50, 3)]
    assert torch.equal(heads(vectors())[0], heads(vectors())[0])
    heads.train()
    assert not torch.equal(heads(vectors())[0], heads(vectors())[0])
