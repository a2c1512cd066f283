"""Smaller vectors: fewer numbers by principal components, and smaller numbers, each learned from training rows only.

What a compressed vector is worth is measured on what is read back from it, so all of this works on float32 in and out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from seqmel.errors import ConfigError

__all__ = ["Components", "NumberType", "check_number_types", "read_back", "stored_bytes"]

NumberType: TypeAlias = Literal["float32", "float16", "int8", "binary"]
Matrix: TypeAlias = npt.NDArray[np.float32]

_BITS = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}
_LEVELS = 255
_TAIL = 0.001  # of the training rows lies beyond each end of the int8 range: one outlier must not widen every step
_HALF = float(np.finfo(np.float16).max)


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
    if number_type == "float16":
        return np.asarray(np.clip(x, -_HALF, _HALF).astype(np.float16), np.float32)
    if number_type == "int8":
        low, high = np.quantile(training, [_TAIL, 1 - _TAIL], axis=0).astype(np.float32)
        step = np.where(high > low, (high - low) / _LEVELS, 1).astype(np.float32)
        return np.asarray(low + step * np.clip(np.rint((x - low) / step), 0, _LEVELS), np.float32)
    if number_type == "binary":
        return np.asarray(x > training.mean(0), np.float32)
    return x


def stored_bytes(size: int, number_type: NumberType) -> int:
    """Bytes of one vector of `size` numbers, without the scales, which are one set a file."""
    return math.ceil(size * _BITS[number_type] / 8)


def check_number_types(names: tuple[str, ...]) -> None:
    """A `ConfigError` for a number type that there is not."""
    known = get_args(NumberType)
    for name in names:
        if name not in known:
            raise ConfigError(f"There is no number type {name!r}. Expected some of: {', '.join(known)}.")
