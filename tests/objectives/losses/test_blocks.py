"""Losses some rows at a time: the same numbers and gradients, and no matrix of all pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import twins
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from seqmel.objectives.losses import LOSSES, MetricLoss, blocks
from seqmel.objectives.losses.pairs import Pairs, Triplets

CLIENTS = torch.tensor([0, 3, 0, 1, 1, 2, 3, 0, 3, 4, 4, 4, 5, 6, 6, 9])


def vectors(name: str, clients: Tensor) -> Tensor:
    drawn = torch.randn(
        len(clients), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    return F.normalize(drawn, dim=1) if LOSSES[name]().unit else drawn


def everything(loss: MetricLoss, clients: Tensor) -> tuple[Any, ...]:
    """All pairs, all triplets, or the clients."""

    def columns(rows: list[tuple[int, ...]]) -> list[Tensor]:
        return [*torch.tensor(rows).t(), torch.ones(len(rows), dtype=torch.bool)]

    if loss.takes == "pairs":
        return Pairs(*columns(twins.positives(clients))), Pairs(*columns(twins.negatives(clients)))
    return (
        (Triplets(*columns(twins.triplets(clients))),) if loss.takes == "triplets" else (clients,)
    )


def learnt(name: str) -> tuple[Tensor, Tensor]:
    """A loss, and its gradient."""
    loss, x = LOSSES[name](), vectors(name, CLIENTS).requires_grad_()
    found = loss(x, *everything(loss, CLIENTS))
    found.backward()
    assert x.grad is not None
    return found.detach(), x.grad


@pytest.mark.parametrize("cells", [1, 40, 100])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_and_its_gradient_are_the_same_a_few_rows_at_a_time(
    name: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learnt(name)
    monkeypatch.setattr(blocks, "_CELLS", cells)
    for found, expected in zip(learnt(name), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor of any operation, backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for part in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(part, Tensor):
                self.numbers = max(
                    self.numbers, part.untyped_storage().nbytes() // part.element_size()
                )
        return found


@pytest.mark.parametrize("name", sorted(name for name in LOSSES if LOSSES[name]().takes == "batch"))
def test_no_matrix_of_all_pairs_is_held(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = torch.arange(100).repeat_interleave(3)
    loss, x = LOSSES[name](), vectors(name, clients).requires_grad_()
    monkeypatch.setattr(blocks, "_CELLS", 5_000)
    with Largest() as seen:
        loss(x, clients).backward()
    assert 0 < seen.numbers <= 2 * 5_000 < 300 * 300  # a pair may be two numbers
