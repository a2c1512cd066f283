"""Exact search for the nearest vectors, block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "cosines", "nearest", "unit_rows"]

_ROWS = 8_192  # 8 MB of similarities of 256 queries at a time

Floats = npt.NDArray[np.float32]


def unit_rows(vectors: Floats) -> Floats:
    """Return (N, D) vectors of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def cosines(unit: Floats, others: Floats) -> Floats:
    """Return (Q, C) cosines of vectors of length 1 or 0."""
    found: Floats = np.clip(unit @ others.T, -1, 1)
    return found


def nearest(
    vectors: Floats,
    rows: npt.NDArray[np.intp],
    candidates: npt.NDArray[np.intp],
    k: int,
    *,
    similarities: Callable[[Floats, Floats], Floats] = cosines,
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return (Q, k) rows of the nearest candidates and their similarities; -inf if there is none.

    Args:
        vectors: (N, D), of length 1 or 0 for cosines.
        rows: (Q,) rows to search for. None of them finds itself.
        candidates: (C,) rows to search among.
        k: Number to find.
        similarities: (Q, D), (C, D) -> (Q, C).
    """
    places = np.zeros((len(rows), k), np.intp)
    best = np.full((len(rows), k), -np.inf, np.float32)
    for begin in range(0, len(candidates), _ROWS):
        block = candidates[begin : begin + _ROWS]
        alike = similarities(vectors[rows], vectors[block])
        alike[rows[:, None] == block] = -np.inf
        both = np.concatenate([best, alike], axis=1)
        kept = np.argsort(-both, axis=1, kind="stable")[:, :k]
        found = np.concatenate([places, np.broadcast_to(block, alike.shape)], axis=1)
        places = np.take_along_axis(found, kept, axis=1)
        best = np.take_along_axis(both, kept, axis=1)
    return places, best
