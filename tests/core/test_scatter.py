"""Deterministic scatter sums: values and gradients equal those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqmel.core.scatter import _SumRows, _TakeRows, gather_2d, sum_rows, take_rows

PLACES = torch.tensor([3, 0, 3, 1, 3, 0])
COUNT = 5


def values(*shape: int) -> Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()


@pytest.mark.parametrize("width", [(), (1,), (4,), (2, 3)])
@pytest.mark.parametrize("summed", [sum_rows, _SumRows.apply], ids=["cpu", "gpu"])
def test_rows_of_one_place_are_added_up(summed: object, width: tuple[int, ...]) -> None:
    x = values(len(PLACES), *width)
    assert callable(summed)
    found = summed(x, PLACES, COUNT)
    for place in range(COUNT):
        torch.testing.assert_close(found[place], x[place == PLACES].sum(0))
    assert torch.autograd.gradcheck(lambda y: summed(y, PLACES, COUNT), (x,))


@pytest.mark.parametrize("width", [(), (1,), (4,), (2, 3)])
@pytest.mark.parametrize("taken", [take_rows, _TakeRows.apply], ids=["cpu", "gpu"])
def test_rows_are_taken_and_their_gradients_added_up(taken: object, width: tuple[int, ...]) -> None:
    x = values(COUNT, *width)
    assert callable(taken)
    assert taken(x, PLACES).equal(x[PLACES])
    assert torch.autograd.gradcheck(lambda y: taken(y, PLACES), (x,))


def test_cells_are_those_of_an_index() -> None:
    x, column = values(COUNT, 3), torch.tensor([0, 2, 0, 1, 2, 0])
    assert gather_2d(x, PLACES, column).equal(x[PLACES, column])
    assert gather_2d(x.t(), column, PLACES).equal(x[PLACES, column])


@pytest.mark.parametrize("many", [0, 1])
def test_none_or_one_row(many: int) -> None:
    places = torch.zeros(many, dtype=torch.int64)
    for summed in (sum_rows, _SumRows.apply):
        assert summed(torch.ones(many, 2), places, 3).tolist() == [[many, many], [0, 0], [0, 0]]


def test_the_gradient_of_many_taken_cells_is_the_same_on_every_run() -> None:
    """torch's own gradient of x[index] is not, with several threads."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(300, 50, generator=random).requires_grad_()
    row, column = (torch.randint(n, (100_000,), generator=random) for n in (300, 20))
    weight = torch.rand(100_000, generator=random)

    def gradient() -> Tensor:
        (found,) = torch.autograd.grad((gather_2d(x, row, column) * weight).sum(), x)
        return found

    first = gradient()
    assert all(gradient().equal(first) for _ in range(20))
