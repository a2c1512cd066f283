"""Leading eigenvectors of symmetric matrices, deterministic up to rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["leading_eigenvectors"]


def leading_eigenvectors(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues and their eigenvectors, the largest first.

    The largest weight of each eigenvector is positive. torch's solver may not converge where most
    rows are zero, as of few clients. That of NumPy does.

    Args:
        matrix: (N, N), symmetric, on the CPU.
        count: Number of eigenvectors.

    Returns:
        (count,) eigenvalues, and (N, count) eigenvectors as columns.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values, vectors = map(torch.from_numpy, np.linalg.eigh(matrix.numpy()))
    values = values.flip(0)[:count]
    vectors = vectors.flip(1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values, vectors * largest.sign()
