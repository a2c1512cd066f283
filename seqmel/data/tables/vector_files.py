"""Files of embeddings: key columns, then vectors in columns or one list column, of any dtype."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.units import count_words
from seqmel.data.tables.number_types import META, NumberType, Scales

__all__ = [
    "LAYOUTS",
    "TRAINED_ON",
    "Layout",
    "VectorLayout",
    "models_of",
    "read_scales",
    "scales_of",
    "trained_on",
    "vector_columns",
    "write_tables",
    "write_vectors",
]

Layout: TypeAlias = Literal["columns", "list"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_ROWS = 65_536
_MODEL = b"seqmel_model"

TRAINED_ON = b"seqmel_trained_on"
"""Key of the metadata of predictions: what their model learnt from."""


@dataclass(frozen=True)
class VectorLayout:
    """The layout of vectors in a file.

    Attributes:
        layout: "columns" for one column per dimension, `emb_0000` ...; "list" for one fixed-size
            list column `embedding`. For binary, "list" is one column of packed bytes, with the
            first dimension in the highest bit.
        dtype: number type; a binary column is boolean.
        dim: number of leading dimensions to keep; None keeps all.
        scales: scales of int8 and binary; None fits them on the vectors.
        model: fingerprint of the model that computed them, stored in the file; None if unknown.
    """

    layout: Layout = "columns"
    dtype: NumberType = "float32"
    dim: int | None = None
    scales: Scales | None = None
    model: str | None = None

    @property
    def streams(self) -> bool:
        """Whether vectors can be written before all of them are known."""
        return self.scales is not None or self.dtype not in ("int8", "binary")

    def fitted(self, vectors: npt.NDArray[np.float32]) -> VectorLayout:
        """Return the layout with scales, fitted on (N, D) vectors if they are not given."""
        return replace(self, scales=self.scales or Scales.fit(vectors[:, : self.dim], self.dtype))

    def encode(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """Return (N, D) vectors as (N, dim) numbers of the dtype."""
        kept = np.ascontiguousarray(vectors[:, : self.dim])
        return (self.scales or Scales.fit(kept, self.dtype)).encode(kept)

    def table(self, keys: pa.Table, vectors: npt.NDArray[np.float32]) -> pa.Table:
        """Return a table of (N, K) keys and (N, D) vectors."""
        scales = self.scales or Scales.fit(vectors[:, : self.dim], self.dtype)
        columns = _as_columns(
            scales.encode(np.ascontiguousarray(vectors[:, : self.dim])), self.layout
        )
        taken = next((name for name in keys.column_names if name in columns), None)
        if taken is not None:
            raise SchemaError(
                f"The column {taken!r} of the events has the name of a column of the vectors. "
                "Rename it, or choose the other layout "
                f"({'columns' if self.layout == 'list' else 'list'})."
            )
        table = pa.table(dict(zip(keys.column_names, keys.columns, strict=True)) | columns)
        of_model = {_MODEL: self.model.encode()} if self.model else {}
        return table.replace_schema_metadata((scales.to_metadata() | of_model) or None)


def write_vectors(
    path: Path, keys: pa.Table, vectors: npt.NDArray[np.float32], layout: VectorLayout
) -> None:
    """Write key columns and N vectors in chunks of rows.

    Args:
        path: the Parquet file.
        keys: (N, K) key columns.
        vectors: (N, D), in memory or memory-mapped.
        layout: the layout of the file.
    """
    layout = layout.fitted(vectors)
    begins = range(0, max(1, len(vectors)), _ROWS)
    tables = (
        layout.table(keys.slice(begin, _ROWS), vectors[begin : begin + _ROWS]) for begin in begins
    )
    write_tables(path, tables, keys=keys.num_columns)


def write_tables(path: Path, tables: Iterable[pa.Table], *, keys: int = 1) -> int:
    """Write an iterable of tables to a Parquet file. The first columns are the keys.

    Args:
        path: the Parquet file.
        tables: computed one by one.
        keys: number of key columns.

    Returns:
        The number of rows.
    """
    rows = 0
    writer = None
    with contextlib.ExitStack() as stack:
        for table in tables:
            if writer is None:
                names = table.column_names[:keys]
                writer = stack.enter_context(
                    pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=names)
                )
            writer.write_table(table)
            rows += len(table)
    return rows


def trained_on(path: str | Path) -> dict[str, Any]:
    """Return what a file of predictions says of the labels that its model learnt from.

    Args:
        path: a table of predictions.

    Returns:
        The number of clients, and a digest of their ids; empty for files of others.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return {}
    found: dict[str, Any] = json.loads(metadata.get(TRAINED_ON, b"{}"))
    return found


def read_scales(path: str | Path, *, dtype: NumberType, size: int) -> Scales:
    """Read the scales of an earlier file of embeddings, to encode comparable vectors.

    Args:
        path: a Parquet file that was written with `dtype`.
        dtype: int8 or binary.
        size: embedding dimension.

    Raises:
        InputError: the file does not exist, is not Parquet, or has another type or dimension.
    """
    try:
        found = Scales.from_metadata(pq.read_schema(path).metadata, str(path))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"Cannot read scales from {path}: {str(error).splitlines()[0]}") from None
    if found is None or found.number_type != dtype or found.size != size:
        has = (
            "no scales"
            if found is None
            else f"scales of {count_words(found.size, 'number')} of type {found.number_type}"
        )
        raise InputError(
            f"{path} has {has}. Expected embeddings of {count_words(size, 'number')} that were "
            f"written as {dtype}."
        )
    return found


def scales_of(files: Sequence[str], label: str) -> Scales | None:
    """Return the scales that files of embeddings share; None if they have none, or are not Parquet.

    Args:
        files: paths of Parquet files.
        label: name of the input, for the message.

    Raises:
        InputError: the files have different scales, so that their vectors cannot be compared.
    """
    found = _said(files, META)
    if len(found) > 1:
        one, other = list(found.values())[:2]
        raise InputError(
            f"{one} and {other} of {label} have different scales, so that equal numbers differ in "
            "meaning. Write them with the same scales (seqmel embed --quantization-from FILE), or "
            "read them one by one."
        )
    said = next(iter(found), None)
    return Scales.from_metadata({META: said} if said else None, label)


def models_of(files: Sequence[str]) -> set[str]:
    """Return the fingerprints of the models of these files, as far as the files name one.

    Args:
        files: paths of Parquet files.
    """
    return {said.decode() for said in _said(files, _MODEL) if said is not None}


def _said(files: Sequence[str], key: bytes) -> dict[bytes | None, str]:
    """Return the values of a metadata key in Parquet files, each with a file that has it."""
    found = {}
    for file in files:
        with contextlib.suppress(OSError, pa.ArrowException):
            found[(pq.read_schema(file).metadata or {}).get(key)] = file
    return found


def _as_columns(numbers: npt.NDArray[np.generic], layout: Layout) -> dict[str, pa.Array]:
    """Return (N, D) numbers as columns of a table."""
    if layout == "list" and numbers.dtype == bool:
        packed = np.packbits(numbers.astype(bool), axis=1)
        kind = pa.binary(packed.shape[1])
        buffers = [None, pa.py_buffer(np.ascontiguousarray(packed).tobytes())]
        return {"embedding": pa.FixedSizeBinaryArray.from_buffers(kind, len(packed), buffers)}
    if layout == "list":
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
        return {"embedding": pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])}
    names = vector_columns(numbers.shape[1])
    return {
        name: pa.array(column)
        for name, column in zip(names, np.ascontiguousarray(numbers.T), strict=True)
    }


def vector_columns(size: int) -> list[str]:
    """Return the column names of a vector: emb_0000, emb_0001, ..."""
    return [f"emb_{i:04d}" for i in range(size)]
