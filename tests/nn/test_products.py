"""oneDNN products equal those of torch for any number of rows; without it torch computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seqmel.nn import products
from seqmel.nn.products import Factor, Linear, Product, add_product, uses_onednn

ROWS = [1, 31, 32, 33, 320, 1025, 2048, 2049, 5000]


@pytest.fixture(params=[True, False], ids=["onednn", "plain"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Products by oneDNN, where this machine does so, and as torch computes them."""
    if request.param and not uses_onednn():
        pytest.skip("this processor's float32 products do not go to oneDNN")
    monkeypatch.setattr(products, "uses_onednn", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("rows", ROWS)
def test_a_product_is_added_to_what_is_there(rows: int, onednn: bool) -> None:
    torch.manual_seed(0)
    left, right, out = torch.randn(rows, 24), torch.randn(24, 40), torch.randn(rows, 40)
    expected = out.double() + left.double() @ right.double()
    Product(right, max(ROWS), None)(out, left)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-5)


def test_it_may_be_added_to_a_part_of_longer_rows_from_a_part_of_longer_rows(onednn: bool) -> None:
    torch.manual_seed(0)
    left, right, out = torch.randn(50, 64), torch.randn(24, 40), torch.zeros(50, 100)
    expected = out.clone()
    expected[:, 10:50] += left[:, 8:32] @ right
    Product(right, 50, None)(out[:, 10:50], left[:, 8:32])
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("rows", ROWS)
def test_a_sum_over_rows_does_not_see_the_rows_of_zeros_after_them(rows: int, onednn: bool) -> None:
    torch.manual_seed(0)
    by_left, by_right = (
        Factor(max(ROWS), 24, None, torch.float32),
        Factor(max(ROWS), 40, None, torch.float32),
    )
    for count in (max(ROWS), rows):  # the second time the buffers hold what was there
        left, right = torch.randn(count, 24), by_right.room[:count].normal_()
        out = torch.zeros(24, 30)
        add_product(out, by_left(left).t(), by_right(right)[:, 5:35])
        torch.testing.assert_close(
            out.double(), left.double().t() @ right.double()[:, 5:35], rtol=0, atol=5e-4
        )


@pytest.mark.parametrize("rows", [0, *ROWS])
def test_a_linear_layer_is_torchs(rows: int, onednn: bool) -> None:
    torch.manual_seed(0)
    layer, plain = Linear(24, 40), nn.Linear(24, 40)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(rows, 24)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=5e-6)
    assert torch.equal(layer(x), plain(x))  # with a gradient it is torch's own


def test_a_row_of_a_linear_layer_does_not_depend_on_the_rows_beside_it(onednn: bool) -> None:
    torch.manual_seed(0)
    layer, x = Linear(256, 256), torch.randn(5000, 256)
    with torch.no_grad():
        whole = layer(x)
        for begin, end in ((0, 1), (100, 133), (2000, 4500)):
            torch.testing.assert_close(layer(x[begin:end]), whole[begin:end], rtol=0, atol=2e-6)


def test_other_precisions_are_left_to_torch(onednn: bool) -> None:
    layer, x = Linear(24, 40).double(), torch.randn(7, 24, dtype=torch.float64)
    out = torch.zeros(7, 40, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
        Product(layer.weight.t(), 7, None)(out, x)
        torch.testing.assert_close(out, x @ layer.weight.t(), rtol=1e-12, atol=1e-12)
    single = Linear(24, 40)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert single(x.float()).dtype == torch.bfloat16
