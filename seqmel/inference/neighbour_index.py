"""Write embeddings as an index of FAISS or usearch, or for pgvector, and search in it.

The indexes are HNSW graphs (Malkov, Yashunin, arXiv 1603.09320): approximate, fast with millions of
clients. How many of the true neighbours they find is measured against the exact search.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.atomic_files import atomic_write, check_output
from seqmel.core.errors import ConfigError, InputError, SeqmelError, did_you_mean
from seqmel.core.threads import thread_count
from seqmel.core.units import count_words
from seqmel.data.tables.labels import Table, read_embeddings
from seqmel.inference.exact_search import Floats, nearest, unit_rows

__all__ = ["IndexReport", "Library", "NeighbourIndex", "fingerprint", "write_index"]

Library = Literal["faiss", "usearch", "pgvector"]

_LINKS = 32  # per client; the default of FAISS
_BUILD_WIDTH, _SEARCH_WIDTH = 200, 128  # candidates while building and searching
_MEASURED = 1_000  # clients that recall is measured on
_TIMED = 20  # exact searches
_SEED = 0
_MOST_PGVECTOR, _MOST_HALFVEC = 2_000, 4_000  # dimensions that its HNSW indexes take


@dataclass(frozen=True)
class IndexReport:
    """An index that was written.

    Attributes:
        library: The library that reads it.
        clients: Number of clients.
        dimensions: Width of the vectors.
        k: Number of neighbours that recall is measured with.
        recall: Fraction of the k true neighbours that are found; None for pgvector, which builds
            its index in the database.
        milliseconds: Time per search in the index, one at a time.
        exact_milliseconds: Time per exact search.
    """

    library: Library
    clients: int
    dimensions: int
    k: int
    recall: float | None = None
    milliseconds: float | None = None
    exact_milliseconds: float | None = None


def write_index(
    embeddings: Table,
    output: str | Path,
    *,
    library: Library = "faiss",
    k: int = 10,
    client: str | None = None,
    overwrite: bool = False,
) -> IndexReport:
    """Write an index of embeddings for search by cosine, and measure how much it finds.

    The folder has the index (`vectors.faiss`, `vectors.usearch`, or `vectors.sql` for psql),
    `clients.parquet` with the client id of each row of the index, and `index.json`.

    Args:
        embeddings: One vector per client: a file of `embed`, or what `Model.embed` returns.
        output: The folder to write.
        library: "faiss" (extra `faiss`), "usearch" (extra `usearch`) or "pgvector".
        k: Number of neighbours that recall is measured with, on up to 1,000 clients.
        client: The client column of `embeddings`; None recognises it.
        overwrite: Replace existing output.

    Returns:
        What was written, with the measured recall.

    Raises:
        ConfigError: There is no such library, it is not installed, or the vectors are too wide.
        InputError: The embeddings cannot be read.
        OutputError: The output exists.

    Examples:
        >>> import pandas as pd, seqmel
        >>> vectors = {"client_id": [1, 2, 3], "emb_0": [1.0, 0.9, -1.0], "emb_1": [0.0, 0.1, 0.2]}
        >>> report = seqmel.write_index(pd.DataFrame(vectors), "index", library="pgvector")
        >>> report.clients, report.dimensions
        (3, 2)
    """
    if k < 1:
        raise ConfigError(f"k is {k}. Expected a whole number of at least 1.")
    if library not in _FILES:
        raise ConfigError(
            f"There is no library {library!r}. Expected one of: {', '.join(_FILES)}."
            f"{did_you_mean(library, _FILES)}"
        )
    output = Path(output)
    imported = None if library == "pgvector" else _import(library)
    check_output(output, overwrite=overwrite, folder=True, reads=(embeddings,))
    frame = read_embeddings(embeddings, client=client)
    unit = unit_rows(frame.to_numpy(np.float32))
    report = IndexReport(library, len(unit), unit.shape[1], k)
    if imported is None and unit.shape[1] > _MOST_HALFVEC:
        raise ConfigError(
            f"The vectors have {count_words(unit.shape[1], 'dimension')}; an index of pgvector "
            f"takes at most {_MOST_HALFVEC:,}. Write fewer with embed --dim, or take faiss or "
            "usearch."
        )
    about = {"fingerprint": fingerprint(unit)}
    with atomic_write(output) as folder:
        folder.mkdir()
        ids = pd.DataFrame({frame.index.name or "client": frame.index})
        ids.to_parquet(folder / "clients.parquet", index=False)
        file = folder / _FILES[library]
        if imported is None:
            _write_sql(file, frame.index, unit)
        else:
            index = _build(library, imported, unit)
            _save(library, imported, index, file)
            report = _measured(report, _Searcher(library, index), unit)
        (folder / "index.json").write_text(json.dumps(asdict(report) | about), encoding="utf-8")
    return report


@dataclass(frozen=True)
class NeighbourIndex:
    """An index that `write_index` wrote.

    Attributes:
        clients: The client id of each row.
        fingerprint: That of the vectors.
        searcher: Searches by unit vectors.
    """

    clients: pd.Index[Any]
    fingerprint: str
    searcher: _Searcher

    @classmethod
    def read(cls, folder: str | Path) -> NeighbourIndex:
        """Read the folder of an index.

        Raises:
            InputError: It is no such folder, or is of pgvector.
            ConfigError: The library is not installed.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            library = about["library"]
            digest = str(about["fingerprint"])
            ids = pd.read_parquet(folder / "clients.parquet")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} is not an index of seqmel ({type(error).__name__}). Write one with "
                "seqmel index EMBEDDINGS -o FOLDER."
            ) from None
        if library not in ("faiss", "usearch"):
            raise InputError(
                f"{folder} is for {library}, which searches in the database. Name an index of "
                "faiss or usearch."
            )
        try:
            index = _load(library, _import(library), folder / _FILES[library])
        except SeqmelError:
            raise
        except Exception as error:  # each library has its own
            raise InputError(
                f"{folder / _FILES[library]} cannot be read ({error}). Write the index again."
            ) from None
        return cls(pd.Index(ids.iloc[:, 0]), digest, _Searcher(library, index))


def fingerprint(unit: Floats) -> str:
    """Return a hash of up to about 2,000 of the vectors, at even steps."""
    some = np.ascontiguousarray(unit[:: max(1, len(unit) // 1_000)])
    return hashlib.blake2b(some.tobytes(), digest_size=16).hexdigest()


_FILES = {"faiss": "vectors.faiss", "usearch": "vectors.usearch", "pgvector": "vectors.sql"}


@dataclass(frozen=True)
class _Searcher:
    library: str
    index: Any

    def search(self, unit: Floats, k: int) -> npt.NDArray[np.intp]:
        """Return (Q, k) rows of the neighbours of unit vectors, -1 where none are found."""
        found = np.full((len(unit), k), -1, np.intp)
        unit = np.ascontiguousarray(unit)
        width = max(_SEARCH_WIDTH, 2 * k)
        if self.library == "faiss":
            self.index.hnsw.efSearch = width
            rows = self.index.search(unit, k)[1]
            found[:, : rows.shape[1]] = rows
            return found
        self.index.expansion_search = width
        matches = self.index.search(unit, min(k, len(self.index)), threads=1)
        keys = np.atleast_2d(np.asarray(matches.keys)).astype(np.intp)
        found[:, : keys.shape[1]] = keys
        return found


def _import(library: str) -> Any:
    try:
        if library == "faiss":
            import faiss

            return faiss
        import usearch.index

        return usearch.index
    except ImportError:
        raise ConfigError(
            f"An index of {library} needs its package. Install it: pip install 'seqmel[{library}]'"
        ) from None


def _build(library: str, package: Any, unit: Floats) -> Any:
    rows = np.ascontiguousarray(unit)
    if library == "faiss":
        package.omp_set_num_threads(thread_count())
        index = package.IndexHNSWFlat(unit.shape[1], _LINKS, package.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_WIDTH
        index.add(rows)
        return index
    index = package.Index(
        ndim=unit.shape[1],
        metric="cos",
        dtype="f32",
        connectivity=_LINKS,
        expansion_add=_BUILD_WIDTH,
    )
    index.add(np.arange(len(unit), dtype=np.uint64), rows, threads=thread_count())
    return index


def _save(library: str, package: Any, index: Any, file: Path) -> None:
    if library == "faiss":
        package.write_index(index, str(file))
    else:
        index.save(str(file))


def _load(library: str, package: Any, file: Path) -> Any:
    if not file.is_file():
        raise InputError(f"{file} is missing. Write the index again.")
    if library == "faiss":
        return package.read_index(str(file))
    index = package.Index.restore(str(file))
    if index is None:
        raise ValueError("not an index of usearch")
    return index


def _measured(report: IndexReport, searcher: _Searcher, unit: Floats) -> IndexReport:
    """Compare the index with exact search. A neighbour that is equally near counts as found."""
    count = min(len(unit), _MEASURED)
    rows = np.sort(np.random.default_rng(_SEED).permutation(len(unit))[:count])
    k = min(report.k, len(unit) - 1)
    if k < 1:
        return report
    everyone = np.arange(len(unit))
    _, exact = nearest(unit, rows, everyone, k)
    began = time.perf_counter()
    for row in rows[:_TIMED]:
        nearest(unit, row[None], everyone, k)
    between = time.perf_counter()
    found = np.concatenate([searcher.search(unit[row : row + 1], k + 1) for row in rows])
    ended = time.perf_counter()
    cosine = np.einsum("qkd,qd->qk", unit[found], unit[rows])
    others = (found >= 0) & (found != rows[:, None])
    right = (others & (cosine >= exact[:, -1:] - 1e-5)).sum(axis=1)
    return IndexReport(
        report.library,
        report.clients,
        report.dimensions,
        report.k,
        recall=float(np.minimum(right, k).mean() / k),
        milliseconds=1000 * (ended - between) / count,
        exact_milliseconds=1000 * (between - began) / min(count, _TIMED),
    )


def _write_sql(file: Path, ids: pd.Index[Any], unit: Floats) -> None:
    """Write a script for psql that creates a table with the vectors, and its index."""
    width = unit.shape[1]
    kind, ops = (
        (f"vector({width})", "vector_cosine_ops")
        if width <= _MOST_PGVECTOR
        else (f"halfvec({width})", "halfvec_cosine_ops")
    )
    id_kind = "bigint" if pd.api.types.is_integer_dtype(ids.dtype) else "text"
    name = '"' + str(ids.name or "client").replace('"', '""') + '"'
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        lines.write(
            "BEGIN;\nCREATE EXTENSION IF NOT EXISTS vector;\n"
            f"CREATE TABLE embeddings ({name} {id_kind} PRIMARY KEY, embedding {kind});\n"
            f"COPY embeddings FROM stdin;\n"
        )
        for client, vector in zip(ids, unit, strict=True):
            numbers = ",".join(f"{value:.7g}" for value in vector.tolist())
            lines.write(f"{_copy_text(str(client))}\t[{numbers}]\n")
        lines.write(
            f"\\.\nCREATE INDEX ON embeddings USING hnsw (embedding {ops});\nCOMMIT;\n"
            f"-- SELECT b.{name}, 1 - (a.embedding <=> b.embedding) AS cosine\n"
            f"-- FROM embeddings a, embeddings b WHERE a.{name} = ...\n"
            "-- ORDER BY a.embedding <=> b.embedding LIMIT 10;\n"
        )


def _copy_text(value: str) -> str:
    """Escape a value for the text format of COPY."""
    for mark, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(mark, escaped)
    return value
