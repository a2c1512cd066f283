"""Heads are solved exactly, and few labels in many dimensions do not lead them astray."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from seqmel.data.tables.targets import Target
from seqmel.nn.heads import Heads
from seqmel.training.finetuning.labelled import Labelled
from seqmel.training.finetuning.linear_heads import solve_heads


def solved(
    vectors: torch.Tensor,
    values: torch.Tensor,
    *targets: Target,
    weights: torch.Tensor | None = None,
) -> Heads:
    weights = torch.ones_like(values) if weights is None else weights
    heads = Heads(vectors.shape[1], [target.size for target in targets]).eval()
    solve_heads(
        heads, vectors, Labelled(targets, torch.arange(len(values)), values, weights), seed=0
    )
    return heads.requires_grad_(False)


def drawn(count: int, width: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of numbers of all sizes, and a signal in the first of them."""
    random = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, width, generator=random)
    signal = numbers[:, 0] + 0.5 * torch.randn(count, generator=random)
    return numbers * torch.logspace(-3, 3, width) + 4, signal


BINARY = Target(name="b", classes=(0, 1))


def test_classes_and_a_quantity_are_learnt_at_once_each_from_its_own_labels() -> None:
    vectors, signal = drawn(300, 5)
    values = torch.stack(
        [(signal > 0).float(), (signal.clamp(-0.99, 0.99) + 1).mul(1.5).floor(), signal], dim=1
    )
    weights = torch.ones_like(values)
    weights[::2, 0] = 0
    values[::2, 0] = 1 - values[::2, 0]  # wrong, but without weight
    heads = solved(
        vectors,
        values,
        BINARY,
        Target(name="m", classes=(0, 1, 2)),
        Target(name="x"),
        weights=weights,
    )
    binary, several, quantity = heads(vectors)
    assert ((binary.argmax(1) == values[:, 0])[1::2]).float().mean() > 0.85
    assert (several.argmax(1) == values[:, 1]).float().mean() > 0.7
    assert np.corrcoef(quantity[:, 0], signal)[0, 1] > 0.85


def test_a_quantity_is_ridge_regression() -> None:
    vectors, signal = drawn(200, 4)
    heads = solved(vectors, signal[:, None], Target(name="x"))
    x = heads.standardise(vectors).double().numpy()
    gaps = [
        np.abs(Ridge(alpha).fit(x, signal).coef_ - heads.linear.weight.numpy()[0]).max()
        for alpha in 10.0 ** np.arange(0, 7, 0.5)
    ]
    assert min(gaps) < 1e-4


def test_few_labels_in_many_dimensions_do_not_collapse() -> None:
    vectors, signal = drawn(1100, 50)
    values = (signal > 0).float()[:, None]
    heads = solved(vectors[:100], values[:100], BINARY)
    right = (heads(vectors[100:])[0].argmax(1) == values[100:, 0]).float().mean()
    assert right > 0.6


def test_noise_gives_hardly_more_than_the_shares_of_the_classes() -> None:
    vectors, _ = drawn(100, 300)
    values = (torch.arange(100) % 4 == 0).float()[:, None]
    shares = solved(vectors[:80], values[:80], BINARY)(vectors[80:])[0].softmax(1)[:, 1]
    assert float(shares.mean()) == pytest.approx(0.25, abs=0.1)
    assert float(shares.std()) < 0.1


def test_a_weight_counts_as_so_many_clients() -> None:
    vectors, signal = drawn(40, 3)
    values = (signal > 0).float()[:, None]
    plain = solved(vectors, values, BINARY)(vectors)[0].softmax(1)[:, 1].mean()
    heavy = (
        solved(vectors, values, BINARY, weights=1 + 9 * values)(vectors)[0].softmax(1)[:, 1].mean()
    )
    assert heavy > plain + 0.05


def test_a_class_of_a_single_client_is_no_obstacle() -> None:
    vectors, signal = drawn(30, 3)
    values = (signal > 0).float()[:, None]
    values[0] = 2
    outputs = solved(vectors, values, Target(name="m", classes=(0, 1, 2)))(vectors)[0]
    assert outputs.isfinite().all()
