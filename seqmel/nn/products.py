"""Matrix products on the CPU, in float32 or bfloat16, by the faster of two libraries.

torch uses MKL for float32 products, which has AVX-512 kernels only for Intel processors. oneDNN,
which torch uses for other dtypes, has them for all: 245 instead of 107 GFLOP/s on a core of an AMD
EPYC (benchmarks/products.py). Without AVX-512 the two are alike.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

__all__ = [
    "Factor",
    "Linear",
    "Product",
    "add_product",
    "product_dtype",
    "uses_onednn",
]

_BLOCK_ROWS = 2048  # their result is still in the cache when it is copied


def product_dtype(packed: Tensor) -> torch.dtype | None:
    """Return the dtype of a CPU layer's products if it differs from the input's, else None."""
    if packed.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.bfloat16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None


@cache
def uses_onednn() -> bool:
    """Return whether float32 products use oneDNN. Depends only on the machine: it needs AVX-512."""
    if (
        not torch.backends.mkldnn.is_available()
        or torch.backends.cpu.get_cpu_capability() != "AVX512"
    ):
        return False
    one = torch.ones(1, 1)
    try:  # a private operation of torch, which may be absent from another version
        return bool(_linear(one, torch.ops.mkldnn._reorder_linear_weight(one)) == one)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _onednn_dtype(products: torch.dtype | None, rows_dtype: torch.dtype) -> torch.dtype | None:
    """Return the dtype of the factors of a product by oneDNN. None stands for MKL."""
    return products or (rows_dtype if rows_dtype == torch.float32 and uses_onednn() else None)


class Factor:
    """A buffer that gives the rows of a product its dtype, and one of few shapes.

    oneDNN compiles a kernel for each shape that it meets, which takes longer than the products
    here. So rows of zeros are appended up to a rounded number of rows. MKL gets the rows unchanged.

    Args:
        rows: Largest number of rows.
        width: Number of columns.
        products: Dtype of the product. None uses that of the rows.
        rows_dtype: Dtype of the rows.
    """

    def __init__(
        self, rows: int, width: int, products: torch.dtype | None, rows_dtype: torch.dtype
    ) -> None:
        buffer_dtype = _onednn_dtype(products, rows_dtype)
        self.buffer = (
            None
            if buffer_dtype is None
            else torch.zeros(_rounded_up(rows), width, dtype=buffer_dtype)
        )
        self.room = (
            torch.empty(rows, width, dtype=rows_dtype)
            if self.buffer is None or buffer_dtype != rows_dtype
            else self.buffer[:rows]
        )
        """(rows, width): rows written here need no copy, unless the product has another dtype."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the (R, width) rows as a factor of R or more rows; the next call overwrites it."""
        if self.buffer is None:
            return rows
        factor = self.buffer[: _rounded_up(len(rows))]
        if rows.data_ptr() != factor.data_ptr():
            factor[: len(rows)] = rows
        factor[len(rows) :] = 0
        return factor


def _rounded_up(rows: int) -> int:
    """Round up to a multiple of 32, and above 1,024 to about three percent."""
    step = max(32, 1 << max(0, rows.bit_length() - 6))
    return -(-rows // step) * step


class Product:
    """A repeated product with the same weights.

    Args:
        weights: (K, N).
        rows: Largest number of rows.
        products: Dtype of the product. None uses that of the weights.
    """

    def __init__(self, weights: Tensor, rows: int, products: torch.dtype | None) -> None:
        self.weights = weights.to(products or weights.dtype)
        self.factor = Factor(rows, len(weights), products, weights.dtype)
        kept = products is None and self.factor.buffer is not None
        self.packed = (
            torch.ops.mkldnn._reorder_linear_weight(weights.t().contiguous()) if kept else None
        )

    def __call__(self, out: Tensor, rows: Tensor) -> None:
        """Add (R, K) rows times the weights to `out` (R, N)."""
        if self.packed is None:
            add_product(out, self.factor(rows), self.weights)
        else:
            out.add_(_linear(self.factor(rows), self.packed)[: len(out)])


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Compute out += a b, in the dtype of the factors.

    `out` may have another dtype and fewer rows.
    """
    if out.dtype != b.dtype:
        out.add_(torch.mm(a, b)[: len(out)])
    elif _onednn_dtype(None, b.dtype) is not None:  # oneDNN has no kernel for a strided `b`
        out.add_(_linear(a, b.contiguous().t())[: len(out)])
    else:
        out.addmm_(a, b)


def _linear(rows: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply rows (R, K) with weights (N, K), plain or packed, and add a bias (N,), by oneDNN."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weights, bias, "none", [], "")
    return product


class Linear(nn.Linear):
    """torch.nn.Linear. Without gradients on the CPU it runs in blocks, by the faster library.

    Attributes:
        for_few: Whether it is for so few rows that blocks take longer. Results then differ in the
            last bits.
    """

    for_few = False

    def forward(self, rows: Tensor) -> Tensor:
        """Map (R, K) rows to (R, N)."""
        if not self._runs_in_blocks(rows):
            return super().forward(rows)
        weights = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        factor = Factor(min(len(rows), _BLOCK_ROWS), self.in_features, None, rows.dtype)
        out = rows.new_empty(len(rows), self.out_features)
        for part, result in zip(rows.split(_BLOCK_ROWS), out.split(_BLOCK_ROWS), strict=True):
            whole = part if len(part) == _BLOCK_ROWS else factor(part)
            result.copy_(_linear(whole, weights, self.bias)[: len(result)])
        return out

    def _runs_in_blocks(self, rows: Tensor) -> bool:
        if self.for_few:
            return False
        plain = rows.device.type == "cpu" and rows.dtype == self.weight.dtype == torch.float32
        return (
            plain
            and uses_onednn()
            and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
        )
