"""Fewer numbers by principal components, and smaller numbers, each learned from training rows only.

What a compressed vector is worth is measured on what is read back from it, so all of this works on float32 in and out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from seqmel.data.tables.number_types import NumberType, Scales

__all__ = ["Components", "read_back"]

Matrix: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Components:
    """The principal components of training rows, the one with the most variance first.

    Attributes:
        mean: (D,) of the training rows.
        axes: (D, K) orthonormal.
    """

    mean: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, training: Matrix) -> Components:
        """From (N, D) training rows; K is the smaller of N and D."""
        x = training.astype(np.float64)
        mean = x.mean(0)
        return cls(mean, np.linalg.svd(x - mean, full_matrices=False)[2].T)

    def project(self, x: Matrix, size: int) -> Matrix:
        """(M, D) -> (M, size)."""
        return np.asarray((x - self.mean) @ self.axes[:, :size], np.float32)


def read_back(x: Matrix, training: Matrix, number_type: NumberType) -> Matrix:
    """What is read back when `x` is stored in a smaller number type whose scales come from the training rows.

    float16 cuts what is beyond its range. int8 has 256 equal steps between the .001 and .999 quantile of each dimension,
    and cuts what is beyond. binary keeps on which side of its mean each number is.

    Args:
        x: (M, D).
        training: (N, D), the rows that scales and means are taken from.
        number_type: float32, float16, int8 or binary.

    Returns:
        (M, D) float32.
    """
    if number_type == "float32":
        return x
    scales = Scales.fit(training, number_type)
    return scales.decode(scales.encode(x))
