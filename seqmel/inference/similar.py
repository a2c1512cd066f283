"""Find the clients most similar to given ones, by exact cosine similarity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, shown
from seqmel.data.tables.labels import Table, read_embeddings

__all__ = ["similar"]

_QUERIES, _ROWS = 256, 8_192  # 8 MB of similarities at a time

Floats = npt.NDArray[np.float32]


def similar(
    embeddings: Table,
    clients: Any = None,
    *,
    k: int = 10,
    exclude: Any = (),
    client: str | None = None,
) -> pd.DataFrame:
    """Find the k nearest clients of each given client, by the cosine of their vectors.

    The search is exact: every pair is compared, block by block, so memory does not grow with the
    number of pairs. Of equally similar clients the earlier row comes first.

    Args:
        embeddings: one vector per client: a file of `embed`, or what `Model.embed` returns.
        clients: an id or ids to search for; None searches for all clients.
        k: number of clients to find for each.
        exclude: ids that are never found. A client never finds itself.
        client: the client column of `embeddings`; None recognises it.

    Returns:
        A DataFrame with one row per pair: the client under its own name, `rank` from 1 on,
        `similar` (the id found) and `cosine` in [-1, 1]; fewer than k rows per client if there are
        fewer candidates. A vector of zeros has the cosine 0 with all.

    Raises:
        ConfigError: k is below 1.
        InputError: a client has no vector, or the embeddings cannot be read.

    Examples:
        >>> import pandas as pd, seqmel
        >>> vectors = {"client_id": [1, 2, 3], "emb_0": [1.0, 0.9, -1.0], "emb_1": [0.0, 0.1, 0.2]}
        >>> seqmel.similar(pd.DataFrame(vectors), clients=1, k=1)[["client_id", "similar"]]
           client_id  similar
        0          1        2
    """
    if k < 1:
        raise ConfigError(f"k is {k}. Expected a whole number of at least 1.")
    frame = read_embeddings(embeddings, client=client)
    unit = _unit(frame.to_numpy(np.float32))
    index = frame.index
    rows = np.arange(len(index)) if clients is None else _rows(index, clients, "clients")
    allowed = np.ones(len(index), np.bool_)
    allowed[_rows(index, exclude, "exclude", missing=True)] = False
    candidates = np.flatnonzero(allowed)
    parts = [
        _nearest(unit, rows[begin : begin + _QUERIES], candidates, k)
        for begin in range(0, len(rows), _QUERIES)
    ]
    found = np.concatenate([places for places, _ in parts]) if parts else np.zeros((0, k), int)
    cosine = np.concatenate([values for _, values in parts]) if parts else np.zeros((0, k))
    some = np.isfinite(cosine)
    query, rank = np.nonzero(some)
    pairs: pd.DataFrame = pd.DataFrame(
        {
            index.name if index.name is not None else "client": index[rows[query]],
            "rank": rank + 1,
            "similar": index[found[some]],
            "cosine": cosine[some],
        }
    )
    return pairs


def _rows(
    index: pd.Index[Any], ids: Any, what: str, *, missing: bool = False
) -> npt.NDArray[np.intp]:
    """Return the rows of these ids, compared as text if they are of another type."""
    single = isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable)
    wanted = pd.Index([ids] if single else list(ids))
    rows = index.get_indexer(wanted) if len(wanted) else np.zeros(0, np.intp)
    if (rows < 0).any():
        rows = index.astype(str).get_indexer(wanted.astype(str))
    absent = wanted[rows < 0]
    if len(absent) and not missing:
        known = shown(map(repr, index[:3].tolist()))
        raise InputError(
            f"No vector of {shown(map(repr, absent.tolist()), 3)} ({what}). The embeddings have "
            f"{len(index):,} clients, such as {known}."
        )
    return rows[rows >= 0]


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _nearest(
    unit: Floats, rows: npt.NDArray[np.intp], candidates: npt.NDArray[np.intp], k: int
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return (Q, k) rows of the nearest candidates and their cosines, -inf where there are none."""
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
