"""Encode whole columns: codes are looked up once a distinct value, and events are put in order a chunk at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.data.coding import code_sql, logarithm_sql, raw_sql
from seqmel.data.column_fitting import ask, sample_of
from seqmel.data.columns import INDEX, EventColumns
from seqmel.data.shard import Shard, in_shard_sql
from seqmel.data.source import EventSource, ident
from seqmel.data.vocabulary import CLIP, Vocabulary
from seqmel.schema import EventSchema

__all__ = ["ColumnEncoding"]

Numbers: TypeAlias = npt.NDArray[np.float64]

_ROWS_OF_A_THREAD = 131_072  # a thread of the engine takes a batch of Arrow at a time


class ColumnEncoding:
    """Encodes the events of a share of the clients, after `register_codes`.

    Attributes:
        ids: the clients of the share, in the order of their first events.
        schema: of the encoded events.
    """

    def __init__(
        self,
        columns: EventColumns,
        source: EventSource,
        schema: EventSchema,
        vocabulary: Vocabulary,
        shard: Shard | None,
    ) -> None:
        self._columns, self._source, self._schema, self._vocabulary = columns, source, schema, vocabulary
        kept = sample_of(columns, source, schema.client, in_shard_sql(ident(schema.client), shard) if shard else "")
        self.ids = columns.ids.filter(pa.array(kept.clients))
        self._number = np.cumsum(kept.clients, dtype=np.int32) - np.int32(1)
        self._order = kept.order()
        self._codes = {c: self._codes_of(i, c) for i, c in enumerate(schema.categorical)}
        self._scales = {c: self._scales_of(c) for c in schema.numeric}
        fields = [pa.field(INDEX, pa.int32()), pa.field(schema.time, pa.int64())]
        fields += [pa.field(c, pa.int32()) for c in schema.categorical]
        self.schema = pa.schema([*fields, *(pa.field(c, pa.float32()) for c in schema.numeric)])

    def _codes_of(self, i: int, column: str) -> npt.NDArray[np.int32]:
        """(V + 1,) the codes of the values of a category."""
        source, values = self._source, self._columns.categories[column].values
        code = code_sql(source, column, i, self._vocabulary.categorical[column])
        join = f"LEFT JOIN codes_{i} ON {raw_sql(source, column)} = codes_{i}.__key"
        return ask(source, column, values, code, join).astype(np.int32)

    def _scales_of(self, column: str) -> list[npt.NDArray[np.float64]]:
        """Log unit (NaN where there is none), center and scale, each (codes,) of what the number lies within, else (1,)."""
        scales, categories = self._vocabulary.numeric[column], self._vocabulary.categorical
        rows = [scales.of_code(code) for code in range(categories[scales.by].size)] if scales.by else [scales.overall]
        columns = zip(*((s.log_unit or np.nan, s.center, s.scale) for s in rows), strict=True)
        return [np.array(numbers, np.float64) for numbers in columns]

    def chunk(self, rows: int) -> int:
        """How many events are encoded at a time, about `rows`: equal parts, so that no few of them are left over."""
        return len(self._order) // max(1, math.ceil(len(self._order) / (1.25 * rows))) + 1

    def flat(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The encoded events by client, time and place, `rows` at a time."""
        for begin in range(0, len(self._order), rows):
            yield self._batch(self._order[begin : begin + rows])

    def _batch(self, places: npt.NDArray[np.int64]) -> pa.RecordBatch:
        columns, schema = self._columns, self._schema
        with ThreadPoolExecutor(columns.threads) as pool:
            codes = {c: pool.submit(self._coded, c, places) for c in schema.categorical}
            numbers = [pool.submit(columns.numbers[c].take, places) for c in schema.numeric]
            time, index = pool.submit(columns.time.take, places), pool.submit(self._numbered, places)
        coded = {c: code.result() for c, code in codes.items()}
        scaled = [self._scaled(c, x.result(), coded) for c, x in zip(schema.numeric, numbers, strict=True)]
        return pa.record_batch([index.result(), time.result(), *coded.values(), *scaled], schema=self.schema)

    def _coded(self, column: str, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        return self._codes[column].take(self._columns.categories[column].index.take(places))

    def _numbered(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """(m,) the clients as numbers within the share."""
        client = self._columns.client.take(places)
        return client if len(self.ids) == len(self._number) else self._number.take(client)

    def _scaled(
        self, column: str, x: npt.NDArray[np.float64], codes: dict[str, npt.NDArray[np.int32]]
    ) -> npt.NDArray[np.float32]:
        """(m,) the scaled numbers of events that have these codes."""
        by = self._vocabulary.numeric[column].by
        unit, center, scale = (s.take(codes[by]) if by else s for s in self._scales[column])
        logarithmic = not np.isnan(self._scales[column][0]).all()
        return _linear(self._logarithm(x, unit) if logarithmic else x, center, scale)

    def _logarithm(self, x: Numbers, unit: Numbers) -> Numbers:
        """(m,) by the engine: numpy's logarithm differs from its own in the last bit."""
        given = {"__x": pa.array(x, from_pandas=True)}
        if len(unit) > 1:
            given["__log_unit"] = pa.array(unit, from_pandas=True)
        table = pa.Table.from_batches(pa.table(given).to_batches(max_chunksize=_ROWS_OF_A_THREAD))
        sql = logarithm_sql("__x", "__log_unit" if len(unit) > 1 else repr(float(unit[0])))
        self._source.connection.register("numbers_given", table)
        found = self._source.stream(f"SELECT {sql} FROM numbers_given", len(x)).read_all().column(0)
        self._source.connection.unregister("numbers_given")
        return np.asarray(found.to_numpy(), np.float64)


def _linear(x: Numbers, center: Numbers, scale: Numbers) -> npt.NDArray[np.float32]:
    """The numbers are equal to the engine's, which has no other arithmetic."""
    with np.errstate(over="ignore"):
        z = x - center
        z /= scale
    found: npt.NDArray[np.float32] = np.clip(z, -CLIP, CLIP, out=z).astype(np.float32)
    found[np.isnan(found)] = np.nan  # there are many, and the engine writes one
    return found
