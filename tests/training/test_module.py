"""The figures of an epoch."""

from __future__ import annotations

import pytest
import torch

from seqmel.training.module import Means


def test_means_are_those_of_a_list_and_begin_again() -> None:
    numbers = torch.rand(50, generator=torch.Generator().manual_seed(0))
    means = Means()
    for _ in range(2):
        means.clear()
        for number in numbers:
            means.add({"loss": number, "other": 2 * number})
        mean = numbers.mean().item()
        assert means.values() == pytest.approx({"loss": mean, "other": 2 * mean}, rel=1e-6)


def test_means_hold_on_to_nothing_that_they_are_given() -> None:
    means, number = Means(), torch.ones(())
    means.add({"loss": number})
    number.fill_(5.0)
    assert means.values() == {"loss": 1.0}
