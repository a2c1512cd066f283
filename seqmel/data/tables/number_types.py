"""Quantization of vectors: float16, int8 (256 levels) or binary (one bit per dimension).

`Scales` define the meaning of int8 and binary. Vectors that are to be compared need the same
scales. Files of embeddings carry theirs. Evaluation measures the cost of a smaller type with the
same `Scales`, on decoded vectors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import ConfigError, InputError

__all__ = ["META", "NumberType", "Scales", "check_number_types", "stored_bytes"]

NumberType: TypeAlias = Literal["float32", "float16", "int8", "binary"]
Matrix: TypeAlias = npt.NDArray[np.float32]

META = b"seqmel_scales"
"""The key of the scales in the metadata of a Parquet or Arrow schema."""

_BITS = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}
_LEVELS = 255
_LOWEST = -128
# Fraction of rows beyond each end of the int8 range. One outlier must not widen every step.
_TAIL = 0.001
_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Scales:
    """The storage format of D dimensions.

    Attributes:
        number_type: float32, float16, int8 or binary. The first two need no scales, but `low` and
            `step` have length D in any case.
        low: (D,) float32. For int8, the number that the lowest code represents; for binary, the
            threshold.
        step: (D,) float32. For int8, the difference between two codes.
    """

    number_type: NumberType
    low: Matrix
    step: Matrix

    @classmethod
    def fit(cls, rows: Matrix, number_type: NumberType) -> Scales:
        """Fit scales on (N, D) vectors.

        For int8, the range of each dimension is from its 0.001 to its 0.999 quantile. For binary,
        the threshold is its mean.

        Args:
            rows: (N, D) float32.
            number_type: the type to store.
        """
        low = np.zeros(rows.shape[1], np.float32)
        step = np.ones(rows.shape[1], np.float32)
        if not len(rows):
            return cls(number_type, low, step)
        if number_type == "int8":
            low, high = np.quantile(rows, [_TAIL, 1 - _TAIL], axis=0).astype(np.float32)
            step = np.where(high > low, (high - low) / _LEVELS, 1).astype(np.float32)
        if number_type == "binary":
            low = np.asarray(rows.mean(0), np.float32)
        return cls(number_type, low, step)

    @property
    def size(self) -> int:
        """D, the number of dimensions."""
        return len(self.low)

    def encode(self, x: Matrix) -> npt.NDArray[Any]:
        """Encode (M, D) float32 as (M, D) float32, float16, int8 or bool.

        Numbers beyond the range of float16 and int8 are clipped.
        """
        if self.number_type == "float16":
            return np.asarray(np.clip(x, -_HALF, _HALF).astype(np.float16))
        if self.number_type == "int8":
            codes = np.clip(np.rint((x - self.low) / self.step), 0, _LEVELS)
            return np.asarray((codes + _LOWEST).astype(np.int8))
        return np.asarray(x > self.low) if self.number_type == "binary" else x

    def decode(self, stored: npt.NDArray[Any]) -> Matrix:
        """Decode to float32, the inverse of `encode`; a bit becomes 0 or 1."""
        numbers = stored.astype(np.float32)
        if self.number_type == "int8":
            return np.asarray(self.low + self.step * (numbers - _LOWEST), np.float32)
        return numbers

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return metadata for a schema; empty for types without scales."""
        if self.number_type not in ("int8", "binary"):
            return {}
        said = {
            "number_type": self.number_type,
            "low": self.low.tolist(),
            "step": self.step.tolist(),
        }
        return {META: json.dumps(said).encode()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, label: str) -> Scales | None:
        """Read scales from the metadata of a schema; None if it has none.

        Args:
            metadata: the metadata of a Parquet or Arrow schema.
            label: name of the file, for the message.

        Raises:
            InputError: the scales are of a format that this version cannot read.
        """
        if not metadata or META not in metadata:
            return None
        try:
            said = json.loads(metadata[META])
            low, step = (np.asarray(said[name], np.float32) for name in ("low", "step"))
            check_number_types((said["number_type"],))
            if low.ndim != 1 or low.shape != step.shape:
                raise ValueError
            return cls(said["number_type"], low, step)
        except (KeyError, TypeError, ValueError, ConfigError):
            raise InputError(
                f"{label} has scales that cannot be read. Write the embeddings again."
            ) from None


def stored_bytes(size: int, number_type: NumberType) -> int:
    """Return the bytes of one vector of `size` numbers, without the scales stored once per file.

    Args:
        size: embedding dimension.
        number_type: the stored type.
    """
    return math.ceil(size * _BITS[number_type] / 8)


def check_number_types(names: tuple[str, ...]) -> None:
    """Check the names of number types.

    Raises:
        ConfigError: a number type does not exist.
    """
    known = get_args(NumberType)
    for name in names:
        if name not in known:
            raise ConfigError(f"There is no dtype {name!r}. Expected some of: {', '.join(known)}.")
