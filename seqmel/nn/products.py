"""Matrix products of networks on the CPU, in float32 or with factors in bfloat16, by whichever library is the faster.

torch gives float32 products to MKL, which has AVX-512 for Intel's processors alone; oneDNN, which torch carries for all else,
has it for all: 245 for 107 GFLOP/s on a core of an AMD EPYC (benchmarks/products.py). On other processors the two are alike.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

__all__ = ["Factor", "Linear", "Product", "add_product", "by_onednn", "type_of_products"]

_BLOCK_ROWS = 2048  # what a product gives of them is still in the cache when it is put in its place


def type_of_products(packed: Tensor) -> torch.dtype | None:
    """What a layer on the CPU computes products in, where not as all else."""
    if packed.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.bfloat16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None


@cache
def by_onednn() -> bool:
    """Whether products in float32 go to oneDNN: where the processor has AVX-512. The same on every run of a machine."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    one = torch.ones(1, 1)
    try:  # the operation is torch's own, not a public one
        return bool(_linear(one, torch.ops.mkldnn._reorder_linear_weight(one)) == one)
    except (AttributeError, RuntimeError, TypeError):
        return False


def _few_shapes(products: torch.dtype | None, of: torch.dtype) -> torch.dtype | None:
    """The type of the factors of a product that oneDNN computes, None where MKL does."""
    return products or (of if of == torch.float32 and by_onednn() else None)


class Factor:
    """Rows as a factor of a product: as they are, or in the type of the product with rows of zeros after them.

    oneDNN compiles a kernel for every shape that it meets, which takes longer than the products here: so there are to be
    few shapes.

    Args:
        rows: how many there are at most.
        width: of a row.
        products: the type that the product is computed in, where not in that of the rows.
        of: the type of the rows.
    """

    def __init__(self, rows: int, width: int, products: torch.dtype | None, of: torch.dtype) -> None:
        kind = _few_shapes(products, of)
        self.buffer = None if kind is None else torch.zeros(_rounded_up(rows), width, dtype=kind)
        self.room = torch.empty(rows, width, dtype=of) if self.buffer is None or kind != of else self.buffer[:rows]
        """(rows, width): the first rows of it are a factor without being copied, where they need no other type."""

    def __call__(self, rows: Tensor) -> Tensor:
        """(R or more, width); good until the next call."""
        if self.buffer is None:
            return rows
        factor = self.buffer[: _rounded_up(len(rows))]
        if rows.data_ptr() != factor.data_ptr():
            factor[: len(rows)] = rows
        factor[len(rows) :] = 0
        return factor


def _rounded_up(rows: int) -> int:
    """A multiple of 32, and from 1,024 on of about a thirty-second of the number."""
    step = max(32, 1 << max(0, rows.bit_length() - 6))
    return -(-rows // step) * step


class Product:
    """The product of rows with the same weights time and again.

    Args:
        weights: (K, N).
        rows: how many there are at most.
        products: what it is computed in, where not as all else.
    """

    def __init__(self, weights: Tensor, rows: int, products: torch.dtype | None) -> None:
        self.weights = weights.to(products or weights.dtype)
        self.factor = Factor(rows, len(weights), products, weights.dtype)
        kept = products is None and self.factor.buffer is not None
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weights.t().contiguous()) if kept else None

    def __call__(self, out: Tensor, rows: Tensor) -> None:
        """Add (R, K) times the weights to `out` (R, N)."""
        if self.packed is None:
            add_product(out, self.factor(rows), self.weights)
        else:
            out.add_(_linear(self.factor(rows), self.packed)[: len(out)])


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a b; computed in the type of the factors, added in that of `out`, which may have fewer rows."""
    if out.dtype != b.dtype:
        out.add_(torch.mm(a, b)[: len(out)])
    elif _few_shapes(None, b.dtype) is not None:  # oneDNN has no kernel for a `b` whose rows are parts of longer ones
        out.add_(_linear(a, b.contiguous().t())[: len(out)])
    else:
        out.addmm_(a, b)


def _linear(rows: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (R, K) times weights (N, K), as they are or packed, and a bias (N,), by oneDNN."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weights, bias, "none", [], "")
    return product


class Linear(nn.Linear):
    """torch.nn.Linear; on the CPU, where no gradient is asked for, some rows at a time by the faster library."""

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) -> (R, N)."""
        if not self._takes(rows):
            return super().forward(rows)
        weights = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        factor = Factor(_BLOCK_ROWS, self.in_features, None, rows.dtype)
        out = rows.new_empty(len(rows), self.out_features)
        for part, result in zip(rows.split(_BLOCK_ROWS), out.split(_BLOCK_ROWS), strict=True):
            whole = part if len(part) == _BLOCK_ROWS else factor(part)
            result.copy_(_linear(whole, weights, self.bias)[: len(result)])
        return out

    def _takes(self, rows: Tensor) -> bool:
        plain = rows.device.type == "cpu" and rows.dtype == self.weight.dtype == torch.float32
        return plain and by_onednn() and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
