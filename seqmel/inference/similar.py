"""Find the clients most similar to given ones: exactly, or in an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, shown
from seqmel.core.units import count_words
from seqmel.data.sources.client_ids import listed_ids
from seqmel.data.tables.labels import Table, read_embeddings
from seqmel.inference.exact_search import Floats, cosines, nearest, unit_rows
from seqmel.inference.neighbour_index import NeighbourIndex, fingerprint

__all__ = ["similar"]

_QUERIES = 256  # at a time


def similar(
    embeddings: Table,
    clients: Any = None,
    *,
    k: int = 10,
    exclude: Any = (),
    client: str | None = None,
    index: str | Path | None = None,
    curvature: float | None = None,
    clip_radius: float | None = 2.3,
) -> pd.DataFrame:
    """Find the k nearest clients of each given client, by the cosine of their vectors.

    With `curvature` they are found by hyperbolic distance.

    The search is exact without an index: every pair is compared, block by block, so memory does not
    grow with the number of pairs. Of equally similar clients the earlier row comes first.

    Args:
        embeddings: one vector per client: a file of `embed`, or what `Model.embed` returns.
        clients: an id or ids to search for; None searches for all clients.
        k: number of clients to find for each.
        exclude: ids that are never found. A client never finds itself.
        client: the client column of `embeddings`; None recognises it.
        index: a folder that `write_index` wrote of these embeddings, in which to search. It is
            faster among many clients, and finds nearly all of the nearest: see its recall.
        curvature: of a model that was trained with this `curvature`, with `embedding_dim` and
            without a projection head: its vectors are tangent vectors of a Poincare ball.
        clip_radius: the `clip_radius` of that model.

    Returns:
        A DataFrame with one row per pair: the client under its own name, `rank` from 1 on,
        `similar` (the id found) and `cosine` in [-1, 1], or `distance` with curvature; fewer than k
        rows per client if there are fewer candidates. A vector of zeros has the cosine 0 with all.

    Raises:
        ConfigError: k is below 1, or a curvature is not positive or beside an index.
        InputError: a client has no vector, the embeddings cannot be read, or the index is of
            others.

    Examples:
        >>> import pandas as pd, seqmel
        >>> vectors = {"client_id": [1, 2, 3], "emb_0": [1.0, 0.9, -1.0], "emb_1": [0.0, 0.1, 0.2]}
        >>> seqmel.similar(pd.DataFrame(vectors), clients=1, k=1)[["client_id", "similar"]]
           client_id  similar
        0          1        2
    """
    if k < 1:
        raise ConfigError(f"k is {k}. Expected a whole number of at least 1.")
    alike = cosines if curvature is None else _by_distance(curvature, clip_radius, index)
    frame = read_embeddings(embeddings, client=client)
    vectors = frame.to_numpy(np.float32)
    unit = unit_rows(vectors) if curvature is None else vectors
    ids = frame.index
    rows = np.arange(len(ids)) if clients is None else _rows(ids, clients, "clients")
    allowed = np.ones(len(ids), np.bool_)
    allowed[_rows(ids, exclude, "exclude", missing=True)] = False
    candidates = np.flatnonzero(allowed)
    indexed = None if index is None else _index_of(index, ids, unit)
    parts = [
        nearest(unit, part, candidates, k, similarities=alike)
        if indexed is None
        else _search(indexed, unit, part, allowed, k)
        for part in (rows[begin : begin + _QUERIES] for begin in range(0, len(rows), _QUERIES))
    ]
    found = np.concatenate([places for places, _ in parts]) if parts else np.zeros((0, k), int)
    values = np.concatenate([values for _, values in parts]) if parts else np.zeros((0, k))
    some = np.isfinite(values)
    query, rank = np.nonzero(some)
    pairs: pd.DataFrame = pd.DataFrame(
        {
            ids.name if ids.name is not None else "client": ids[rows[query]],
            "rank": rank + 1,
            "similar": ids[found[some]],
            "cosine": values[some],
        }
    )
    if curvature is not None:
        pairs["distance"] = -pairs.pop("cosine")
    return pairs


def _by_distance(
    curvature: float, clip_radius: float | None, index: str | Path | None
) -> Callable[[Floats, Floats], Floats]:
    """Return a function of minus the hyperbolic distances of tangent vectors."""
    for name, value in (("curvature", curvature), ("clip_radius", clip_radius)):
        if value is not None and not 0 < value < np.inf:
            raise ConfigError(f"{name} is {value}. Expected a number above 0.")
    if index is not None:
        raise ConfigError("An index finds clients by cosine. Leave out index, or curvature.")
    import torch  # slow to import, and cosines do not need it

    from seqmel.core.poincare_ball import PoincareBall

    ball = PoincareBall(curvature, clip_radius)

    def alike(queries: Floats, others: Floats) -> Floats:
        points, more = (
            ball.points(torch.tensor(v, dtype=torch.float64)) for v in (queries, others)
        )
        found: Floats = -ball.cross_distances(points, more).float().numpy()
        return found

    return alike


def _rows(
    index: pd.Index[Any], ids: Any, what: str, *, missing: bool = False
) -> npt.NDArray[np.intp]:
    """Return the rows of these ids, compared as text if they are of another type."""
    wanted = pd.Index(listed_ids(ids))
    rows = index.get_indexer(wanted) if len(wanted) else np.zeros(0, np.intp)
    if (rows < 0).any():
        rows = index.astype(str).get_indexer(wanted.astype(str))
    absent = wanted[rows < 0]
    if len(absent) and not missing:
        known = shown(map(repr, index[:3].tolist()))
        raise InputError(
            f"No vector of {shown(map(repr, absent.tolist()), 3)} ({what}). The embeddings have "
            f"{count_words(len(index), 'client')}, such as {known}."
        )
    return rows[rows >= 0]


def _index_of(folder: str | Path, ids: pd.Index[Any], unit: Floats) -> NeighbourIndex:
    """Read an index, which must have the clients and vectors of the embeddings in their order."""
    index = NeighbourIndex.read(folder)
    if not index.clients.equals(ids) or index.fingerprint != fingerprint(unit):
        raise InputError(
            f"{folder} is an index of other embeddings "
            f"({count_words(len(index.clients), 'client')}) than these "
            f"({count_words(len(ids), 'client')}). Write it again from these."
        )
    return index


def _search(
    index: NeighbourIndex,
    unit: Floats,
    rows: npt.NDArray[np.intp],
    allowed: npt.NDArray[np.bool_],
    k: int,
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Search in an index, and order what it finds by the exact cosine; see `nearest`."""
    wanted = min(len(unit), k + 1 + int((~allowed).sum()))
    found = index.searcher.search(unit[rows], wanted)
    cosine = np.clip(np.einsum("qkd,qd->qk", unit[found], unit[rows]), -1, 1)
    usable = (found >= 0) & allowed[found] & (found != rows[:, None])
    cosine = np.where(usable, cosine, -np.inf).astype(np.float32)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    places = np.zeros((len(rows), k), np.intp)
    best = np.full((len(rows), k), -np.inf, np.float32)
    width = order.shape[1]
    places[:, :width] = np.take_along_axis(found, order, axis=1)
    best[:, :width] = np.take_along_axis(cosine, order, axis=1)
    return places, best
