"""Encode partitions of events, then group them by client, sort them, and build sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seqmel.data.encoding.event_encoding import sequence_schema
from seqmel.data.encoding.sql_encoding import coded_sql, register_codes
from seqmel.data.schema import EventSchema
from seqmel.data.sources.parts import CLIENT_ROW, PartReader
from seqmel.data.sources.source import ROW, EventSource, ident
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.spark.source import SparkEvents

__all__ = ["SequenceWork", "encode_spark", "sequence_batches"]

SequenceWork = Callable[[pa.RecordBatch], pa.RecordBatch]
"""A function of encoded sequences, with one row per client as in `sequence_schema`."""

_CHUNK_EVENTS = 1_000_000
_CARRIED = (pa.string(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.date32())


def encode_spark(
    events: SparkEvents,
    source: EventSource,
    schema: EventSchema,
    vocabulary: Vocabulary,
    *,
    rows: int,
    ordered: bool,
) -> tuple[Any, pa.Schema]:
    """Return one row per client: id, position of its first event, and encoded events as lists.

    Args:
        events: checked events in partitions.
        source: the source from `open_spark` for the events.
        schema: the roles of the columns.
        vocabulary: the vocabulary fitted in training.
        rows: approximate number of events.
        ordered: sort clients by their first event, across all partitions.

    Returns:
        The DataFrame, to be read by `sequence_batches`, and the schema of these batches; see
        `sequence_schema`.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    out = sequence_schema(source, schema, vocabulary)
    features = list(out)[2:]
    key = out.field(0).type if out.field(0).type in _CARRIED else pa.string()
    kinds = [
        key,
        pa.int64(),
        pa.int64(),
        pa.int64(),
        *(_spark_type(f.type.value_type) for f in features),
    ]
    names = ["client", "client_row", "row", "time", *(f"x{i}" for i in range(len(features)))]
    flat = pa.schema(list(zip(names, kinds, strict=True)))
    lists = pa.schema(
        [
            flat.field(0),
            flat.field(1),
            *(pa.field(f.name, pa.list_(f.type)) for f in list(flat)[3:]),
        ]
    )
    parts = max(events.spark.sparkContext.defaultParallelism, -(-rows // _CHUNK_EVENTS))

    def coded(reader: PartReader) -> Callable[[EventSource], Iterator[pa.RecordBatch]]:
        register_codes(reader.source, schema, vocabulary)
        sql = coded_sql(reader.source, schema, vocabulary, (ident(schema.client), CLIENT_ROW, ROW))

        def of_part(part: EventSource) -> Iterator[pa.RecordBatch]:
            for batch in part.stream(sql, _CHUNK_EVENTS):
                yield _cast(batch, flat)
            if part.nested:
                yield from _markers(
                    part.stream(reader.without_events(), _CHUNK_EVENTS).read_all(), flat
                )

        return of_part

    def group(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _grouped(batches, lists)

    shuffled = (
        events.map(coded, flat)
        .repartition(parts, "client")
        .sortWithinPartitions("client", "time", "row")
    )
    grouped = shuffled.mapInArrow(group, from_arrow_schema(lists))
    if ordered:
        grouped = grouped.repartitionByRange(parts, "client_row").sortWithinPartitions("client_row")
    return grouped, out


def _spark_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of an encoded value in Spark, which has no lists of fixed size."""
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [c.cast(f.type) for c, f in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _markers(clients: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield a row without a time for each client that has no events."""
    for batch in clients.to_batches():
        ids, places = batch.columns
        empty = [pa.nulls(len(batch), field.type) for field in list(schema)[3:]]
        yield _cast(
            pa.RecordBatch.from_arrays([ids, places, places, *empty], names=schema.names), schema
        )


def _grouped(batches: Iterator[pa.RecordBatch], out: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Group a stream sorted by client and time into batches of whole clients with list columns."""
    held = list[pa.RecordBatch]()
    count = 0
    enough = _CHUNK_EVENTS
    for batch in batches:
        held.append(batch)
        count += len(batch)
        if count < enough:
            continue
        table = pa.Table.from_batches(held).combine_chunks()
        whole = int(_begins(table.column(0))[-1])  # The last client may continue in the next batch.
        enough = _CHUNK_EVENTS if whole else 2 * enough
        if whole:
            yield _lists(table.slice(0, whole), out)
        held = table.slice(whole).to_batches()
        count = len(table) - whole
    if count:
        yield _lists(pa.Table.from_batches(held).combine_chunks(), out)


def _begins(clients: pa.ChunkedArray) -> Any:
    """Return the first row of each client."""
    changes = pc.not_equal(clients.slice(1), clients.slice(0, len(clients) - 1)).to_numpy()
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def _lists(flat: pa.Table, out: pa.Schema) -> pa.RecordBatch:
    begins = _begins(flat.column("client"))
    timed = pc.is_valid(flat.column("time")).to_numpy()
    offsets = np.concatenate([[0], timed.cumsum()])[np.concatenate([begins, [len(flat)]])].astype(
        np.int32
    )
    first = np.minimum.reduceat(flat.column("client_row").to_numpy(), begins)
    events = flat.filter(pa.array(timed))
    columns = [_one(flat.column("client").take(pa.array(begins))), pa.array(first)]
    for field in list(out)[2:]:
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), _one(events.column(field.name))))
    return pa.RecordBatch.from_arrays(
        [c.cast(f.type) for c, f in zip(columns, out, strict=True)], schema=out
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one contiguous array."""
    combined = column.combine_chunks()
    return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined


def sequence_batches(batches: Iterator[pa.RecordBatch], out: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `encode_spark` in batches of about a million events.

    Names and types are those of `sequence_schema`.

    Args:
        batches: batches of the DataFrame of `encode_spark`.
        out: the schema that `encode_spark` returns.
    """
    held = list[pa.RecordBatch]()
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch.column(2).flatten())
        if count >= _CHUNK_EVENTS:
            yield _renamed(held, out)
            held = []
            count = 0
    if held:
        yield _renamed(held, out)


def _renamed(batches: list[pa.RecordBatch], out: pa.Schema) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches)
    columns = [_one(table.column(0)).cast(out.field(0).type)]
    for i, field in enumerate(list(out)[1:], 2):
        lists = _one(table.column(i))
        offsets = lists.offsets.to_numpy()
        columns.append(
            pa.ListArray.from_arrays(
                pa.array(offsets - offsets[0]), lists.flatten().cast(field.type.value_type)
            )
        )
    return pa.RecordBatch.from_arrays(columns, schema=out)
