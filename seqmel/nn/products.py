"""Matrix products of the recurrent layers on the CPU, in float32 or with factors in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Factor", "Product", "add_product", "type_of_products"]


def type_of_products(packed: Tensor) -> torch.dtype | None:
    """What a layer on the CPU computes products in, where not as all else."""
    if packed.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.bfloat16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None


class Factor:
    """Rows as a factor of a product: as they are, or in bfloat16 with rows of zeros after them up to a multiple of 32.

    For bfloat16 oneDNN compiles a kernel for every shape that it meets, which takes longer than the products here: so there
    are to be few shapes.
    """

    def __init__(self, rows: int, width: int, products: torch.dtype | None) -> None:
        rounded = _rounded_up(rows)
        self.buffer = None if products is None else torch.zeros(rounded, width, dtype=products)

    def __call__(self, rows: Tensor) -> Tensor:
        """(R or more, width); good until the next call."""
        if self.buffer is None:
            return rows
        factor = self.buffer[: _rounded_up(len(rows))]
        factor[: len(rows)] = rows
        factor[len(rows) :] = 0
        return factor


def _rounded_up(rows: int) -> int:
    return -(-rows // 32) * 32


class Product:
    """The product of rows with the same weights time and again.

    Args:
        weights: (K, N).
        rows: how many there are at most.
        products: what it is computed in, where not as all else.
    """

    def __init__(self, weights: Tensor, rows: int, products: torch.dtype | None) -> None:
        self.weights = weights.to(products or weights.dtype)
        self.factor = Factor(rows, len(weights), products)

    def __call__(self, out: Tensor, rows: Tensor) -> None:
        """Add (R, K) times the weights to `out` (R, N)."""
        add_product(out, self.factor(rows), self.weights)


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a b; computed in the type of the factors, added in that of `out`, which may have fewer rows."""
    if out.dtype == b.dtype:
        out.addmm_(a, b)
    else:
        out.add_(torch.mm(a, b)[: len(out)])
