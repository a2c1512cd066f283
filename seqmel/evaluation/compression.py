"""Compression of vectors by principal components and by quantization, fitted on training rows only.

A compressed vector is scored after decompression, so all functions take and return float32.
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
    """The principal components of training rows, in order of decreasing variance.

    Attributes:
        mean: (D,) mean of the training rows.
        axes: (D, K) orthonormal components.
    """

    mean: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, training: Matrix) -> Components:
        """Fit the components.

        Args:
            training: (N, D) training rows.

        Returns:
            K = min(N, D) components.
        """
        x = training.astype(np.float64)
        mean = x.mean(0)
        return cls(mean, np.linalg.svd(x - mean, full_matrices=False)[2].T)

    def project(self, x: Matrix, size: int) -> Matrix:
        """Project onto the first components.

        Args:
            x: (M, D) vectors.
            size: number of components.

        Returns:
            (M, size) float32.
        """
        return np.asarray((x - self.mean) @ self.axes[:, :size], np.float32)


def read_back(x: Matrix, training: Matrix, number_type: NumberType) -> Matrix:
    """Quantize vectors and dequantize them again.

    float16 clips to its range. int8 has 256 equal steps between the .001 and .999 quantile of each
    dimension, and clips values outside. binary keeps whether a value is above the mean of its
    dimension.

    Args:
        x: (M, D) vectors.
        training: (N, D) rows that the scales and means are fitted on.
        number_type: "float32", "float16", "int8" or "binary".

    Returns:
        (M, D) float32.
    """
    if number_type == "float32":
        return x
    scales = Scales.fit(training, number_type)
    return scales.decode(scales.encode(x))
