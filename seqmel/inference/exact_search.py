"""Exact search for the nearest vectors by cosine, block by block."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "nearest", "unit_rows"]

_ROWS = 8_192  # 8 MB of similarities of 256 queries at a time

Floats = npt.NDArray[np.float32]


def unit_rows(vectors: Floats) -> Floats:
    """Return (N, D) vectors of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def nearest(
    unit: Floats, rows: npt.NDArray[np.intp], candidates: npt.NDArray[np.intp], k: int
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return (Q, k) rows of the nearest candidates and their cosines, -inf where there are none.

    Args:
        unit: (N, D) vectors of length 1 or 0.
        rows: (Q,) rows to search for. None of them finds itself.
        candidates: (C,) rows to search among.
        k: Number to find.
    """
    places = np.zeros((len(rows), k), np.intp)
    best = np.full((len(rows), k), -np.inf, np.float32)
    for begin in range(0, len(candidates), _ROWS):
        block = candidates[begin : begin + _ROWS]
        cosine = np.clip(unit[rows] @ unit[block].T, -1, 1)
        cosine[rows[:, None] == block] = -np.inf
        both = np.concatenate([best, cosine], axis=1)
        kept = np.argsort(-both, axis=1, kind="stable")[:, :k]
        found = np.concatenate([places, np.broadcast_to(block, cosine.shape)], axis=1)
        places = np.take_along_axis(found, kept, axis=1)
        best = np.take_along_axis(both, kept, axis=1)
    return places, best
