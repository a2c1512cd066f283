"""Encode whole columns. The code of a category is looked up once per distinct value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seqmel.data.encoding.columns import EventColumns, take
from seqmel.data.kinds.number import logarithm_sql
from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.source import EventSource
from seqmel.data.vocabulary import CLIP, FIRST, UNSEEN, Vocabulary

__all__ = ["ColumnEncoding"]


Numbers: TypeAlias = npt.NDArray[np.float64]

_THREAD_ROWS = 131_072  # DuckDB reads Arrow tables with one thread per record batch


class ColumnEncoding:
    """Encodes events that are already sorted by client, time and input order."""

    def __init__(
        self,
        columns: EventColumns,
        source: EventSource,
        schema: EventSchema,
        vocabulary: Vocabulary,
    ) -> None:
        self._columns = columns
        self._source = source
        self._schema = schema
        self._vocabulary = vocabulary
        self._codes: dict[str, npt.NDArray[Any]] = {
            c: self._codes_of(c) for c in schema.categorical
        }
        self._codes |= {c: self._encoded_texts(c) for c in schema.kinds}
        self._scales = {c: self._scales_of(c) for c in schema.numeric}

    def _codes_of(self, column: str) -> npt.NDArray[np.int32]:
        """Return (V + 1,) the codes of the values of a category."""
        codes = self._vocabulary.categorical[column]
        texts = self._columns.categories[column].texts
        places = pc.index_in(texts, value_set=pa.array(codes.values, pa.string()), skip_nulls=True)
        known = pc.fill_null(pc.add(places, pa.scalar(FIRST, pa.int32())), UNSEEN)
        return np.asarray(
            pc.if_else(texts.is_null(), pa.scalar(codes.null_code, pa.int32()), known)
        )

    def _encoded_texts(self, column: str) -> npt.NDArray[Any]:
        """Return the encoded values of the distinct texts of a column of another kind."""
        kind = kind_of(self._schema, column)
        fitted = self._vocabulary.features[column]
        found = kind.encode_texts(fitted, self._columns.categories[column].texts)
        assert found is not None, "whole columns have kinds that encode texts"
        return found

    def _scales_of(self, column: str) -> list[Numbers]:
        """Return the log unit (NaN if none), center and scale of a number.

        Each has shape (K,) for the K codes of the category that it is scaled within, else (1,).
        """
        rows = self._vocabulary.numeric[column].rows
        columns = zip(*((s.log_unit or np.nan, s.center, s.scale) for s in rows), strict=True)
        return [np.array(numbers, np.float64) for numbers in columns]

    def batches(self, out: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield whole clients, about `rows` events per batch, in batches of similar size.

        There is at least one batch.
        """
        starts = np.concatenate([[0], np.cumsum(self._columns.lengths)])
        parts = max(1, math.ceil(starts[-1] / (1.25 * rows)))
        cuts = np.searchsorted(starts, [starts[-1] * part // parts for part in range(1, parts)])
        edges = np.unique([0, *cuts.tolist(), len(self._columns.lengths)])
        if len(edges) == 1:
            yield pa.RecordBatch.from_pylist([], schema=out)
        for first, last in itertools.pairwise(edges):
            yield self._batch(out, slice(first, last), starts[first : last + 1])

    def _batch(
        self, out: pa.Schema, clients: slice, starts: npt.NDArray[np.int64]
    ) -> pa.RecordBatch:
        columns = self._columns
        schema = self._schema
        rows = slice(starts[0], starts[-1])
        # While the pool looks up codes, DuckDB computes logarithms in this thread.
        with ThreadPoolExecutor(columns.threads) as pool:
            places = {c: x.index[rows] for c, x in columns.categories.items()}
            codes = {c: pool.submit(take, self._codes[c], places[c]) for c in schema.categorical}
            others = {c: pool.submit(_take_rows, self._codes[c], places[c]) for c in schema.kinds}
            scaled = [self._scaled(c, columns.numbers[c][rows], codes) for c in schema.numeric]
            coded = [code.result() for code in codes.values()]
            wide = [other.result() for other in others.values()]
        offsets = pa.array((starts - starts[0]).astype(np.int32))
        lists = [
            pa.ListArray.from_arrays(offsets, x)
            for x in (*map(pa.array, (columns.time[rows], *coded, *scaled)), *map(_wide, wide))
        ]
        return pa.RecordBatch.from_arrays([columns.ids[clients], *lists], schema=out)

    def _scaled(
        self, column: str, x: Numbers, codes: dict[str, Future[npt.NDArray[np.int32]]]
    ) -> npt.NDArray[np.float32]:
        """Return (M,) scaled numbers of events with these codes."""
        by = self._vocabulary.numeric[column].by
        unit, center, scale = (
            take(s, codes[by].result()) if by else s for s in self._scales[column]
        )
        logarithmic = not np.isnan(self._scales[column][0]).all()
        return _linear(
            self._logarithm(x, unit if by else unit[0]) if logarithmic else x, center, scale
        )

    def _logarithm(self, x: Numbers, unit: Numbers | np.float64) -> Numbers:
        """Compute (M,) logarithms with DuckDB, because numpy's differ from them in the last bit.

        Args:
            x: (M,).
            unit: One unit, or (M,) units.
        """
        given = {"__x": pa.array(x, from_pandas=True)}
        if isinstance(unit, np.ndarray):
            given["__log_unit"] = pa.array(unit, from_pandas=True)
        table = pa.Table.from_batches(pa.table(given).to_batches(max_chunksize=_THREAD_ROWS))
        sql = logarithm_sql(
            "__x", "__log_unit" if isinstance(unit, np.ndarray) else repr(float(unit))
        )
        self._source.connection.register("numbers_given", table)
        result = (
            self._source.stream(f"SELECT {sql} FROM numbers_given", len(x)).read_all().column(0)
        )
        self._source.connection.unregister("numbers_given")
        return np.asarray(result.to_numpy(), np.float64)


def _take_rows(values: npt.NDArray[Any], places: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = values.take(places, axis=0)
    return found


def _wide(values: npt.NDArray[Any]) -> pa.Array:
    """Return (M, W) encoded values as lists of fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _linear(x: Numbers, center: Numbers, scale: Numbers) -> npt.NDArray[np.float32]:
    """Scale numbers. The result is bit-identical to DuckDB's."""
    with np.errstate(over="ignore"):
        z = x - center
        z /= scale
    result: npt.NDArray[np.float32] = np.clip(z, -CLIP, CLIP, out=z).astype(np.float32)
    result[np.isnan(result)] = np.nan  # NaN has many bit patterns, and DuckDB writes one of them
    return result
