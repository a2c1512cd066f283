"""Correlation of two columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["correlation"]


def correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the Pearson correlation of two columns; 0 if one is constant.

    Args:
        a: (N,) numbers.
        b: (N,) numbers.
    """
    a = a - a.mean()
    b = b - b.mean()
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 1e-12 else 0.0
