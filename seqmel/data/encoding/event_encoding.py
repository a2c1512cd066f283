"""Encode events, sort them by client and time, and group them by client, out of core with DuckDB.

Encoding is a join with the vocabulary. One sort by (client in order of appearance, time, input
order) gives the sequences as a stream of Arrow batches with list columns, one row per client.
Training, embedding and evaluation use the same SQL for all kinds of input. numpy does the sort if
the events fit in memory as whole columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from seqmel.data.encoding.column_encoding import ColumnEncoding
from seqmel.data.encoding.column_reading import whole_columns
from seqmel.data.encoding.columns import evaluate_sql
from seqmel.data.encoding.sql_encoding import coded_sql, register_codes
from seqmel.data.kinds.registry import check_events, kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import missing
from seqmel.data.sources.shard import Shard, in_shard_sql
from seqmel.data.sources.source import ROW, EventSource, ident, reading
from seqmel.data.sources.times import text_time_sql
from seqmel.data.vocabulary import Vocabulary

__all__ = ["encode", "nest", "sequence_schema"]

_INDEX = "__client_index"


def sequence_schema(source: EventSource, schema: EventSchema, vocabulary: Vocabulary) -> pa.Schema:
    """Return the schema of `encode`: one row per client, with list columns.

    The columns are the original client id, list<int64> times in microseconds, list<int32> codes and
    list<float> numbers. An encoded value of a wide kind is a list of fixed size itself.
    """
    client = source.stream(f"SELECT {ident(schema.client)} FROM events LIMIT 0", 1).schema.field(0)
    return _sequence_schema(schema, vocabulary, client.type)


def _sequence_schema(schema: EventSchema, vocabulary: Vocabulary, client: pa.DataType) -> pa.Schema:
    kinds = {c: kind_of(schema, c).encoded_type(f) for c, f in vocabulary.features.items()}
    fields = [pa.field(schema.client, client), pa.field(schema.time, pa.list_(pa.int64()))]
    fields += [pa.field(c, pa.list_(kinds[c])) for c in schema.features]
    return pa.schema(fields)


def encode(
    source: EventSource,
    schema: EventSchema,
    vocabulary: Vocabulary,
    *,
    shard: Shard | None = None,
    chunk_events: int = 1_000_000,
) -> Iterator[pa.RecordBatch]:
    """Encode, sort and group events.

    Args:
        source: The events.
        schema: The role of each column.
        vocabulary: The vocabulary fitted in training.
        shard: Only encode these clients. All events are checked.
        chunk_events: Approximate number of events per batch. A client is never split.

    Yields:
        Arrow batches with one row per client, in the order of their first events.
    """
    columns = whole_columns(source, schema)
    check_events(source, schema)
    if columns is not None:
        with reading(source.label):
            if shard is not None:
                kept = evaluate_sql(
                    source, schema.client, columns.ids, in_shard_sql(ident(schema.client), shard)
                )
                columns = columns.of(kept.astype(np.bool_), schema.features)
            encoding = ColumnEncoding(columns, source, schema, vocabulary)
            yield from encoding.batches(
                _sequence_schema(schema, vocabulary, columns.ids.type), chunk_events
            )
        return
    register_codes(source, schema, vocabulary)
    out = sequence_schema(source, schema, vocabulary)
    coded = coded_sql(
        source,
        schema,
        vocabulary,
        (_INDEX, ROW),
        f"JOIN (FROM clients) ON {ident(schema.client)} = __client",
    )
    flat = f"SELECT * EXCLUDE ({ROW}) FROM ({coded}) ORDER BY {_INDEX}, {ident(schema.time)}, {ROW}"
    yield from _run_grouped(source, schema.client, flat, out, chunk_events, shard)


def nest(
    source: EventSource,
    client: str,
    time: str,
    *,
    time_format: str | None = None,
    chunk_events: int = 1_000_000,
) -> Iterator[pa.RecordBatch]:
    """Sort and group the events without encoding them.

    Args:
        source: The events.
        client: The column to group by.
        time: The column to sort by. Times that cannot be parsed come last.
        time_format: The format of times in text, see `EventSchema`.
        chunk_events: Approximate number of events per batch. A client is never split.

    Yields:
        Arrow batches like those of `encode`.

    Raises:
        InputError: A client is null.
    """
    key = ident(client)
    (nameless,) = source.row(f"SELECT count(*) FROM events WHERE {key} IS NULL")
    if nameless:
        raise missing(nameless, client, "client", source.label)
    names = [client, *(c for c in source.columns if c != client and c not in source.left_out)]
    columns = [_plain_sql(source, c) for c in names]
    first, *others = source.stream(f"SELECT {', '.join(columns)} FROM events LIMIT 0", 1).schema
    out = pa.schema(
        [first, *(field.with_type(pa.large_list(_large(field.type))) for field in others)]
    )
    moment = (
        text_time_sql(ident(time), time_format)
        if source.columns[time] == "VARCHAR"
        else ident(time)
    )
    flat = (
        f"SELECT {', '.join([_INDEX, *columns[1:]])} FROM events JOIN (FROM clients) ON {key} = "
        f"__client ORDER BY {_INDEX}, {moment} NULLS LAST, {ROW}"
    )
    yield from _run_grouped(source, client, flat, out, chunk_events)


def _plain_sql(source: EventSource, column: str) -> str:
    """Select enums and UUIDs as text: Arrow would give each chunk an enum dictionary of its own."""
    name = ident(column)
    return (
        f"{name}::VARCHAR AS {name}"
        if source.columns[column].startswith(("ENUM", "UUID"))
        else name
    )


def _large(kind: pa.DataType) -> pa.DataType:
    """Give text 64-bit offsets, because that of all clients may exceed 2 GB."""
    return pa.large_string() if pa.types.is_string(kind) else kind


def _run_grouped(
    source: EventSource,
    client: str,
    flat_sql: str,
    out: pa.Schema,
    chunk_events: int,
    shard: Shard | None = None,
) -> Iterator[pa.RecordBatch]:
    """Run SQL that gives sorted events from `events JOIN clients`, and group its rows by client.

    The join drops the clients of other shards.
    """
    source.query(
        "CREATE OR REPLACE TABLE clients AS SELECT client AS __client, (row_number() OVER (ORDER "
        f"BY first) - 1)::INTEGER AS {_INDEX} FROM ({source.clients_sql(client)}) WHERE "
        f"{in_shard_sql('client', shard)}"
    )
    ids = _Ids(
        source.stream(f"SELECT __client FROM clients ORDER BY {_INDEX}", chunk_events, beside=True)
    )
    flat = source.stream(flat_sql, chunk_events)
    with reading(source.label):
        yield from _group(flat, ids, out, chunk_events)


class _Ids:
    """Client ids in order, read from a stream."""

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self._batches = batches
        self._left = pa.chunked_array([], batches.schema.field(0).type)

    def take(self, count: int) -> pa.Array:
        while len(self._left) < count:
            self._left = pa.chunked_array(
                [*self._left.chunks, self._batches.read_next_batch().column(0)]
            )
        taken, self._left = self._left.slice(0, count), self._left.slice(count)
        combined = taken.combine_chunks()
        return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined

    def left_after(self, count: int) -> int:
        """Return how many ids follow the next `count`: clients without events at the end."""
        self._left = pa.chunked_array(
            [*self._left.chunks, *(b.column(0) for b in self._batches)], self._left.type
        )
        return len(self._left) - count


def _group(
    flat: pa.RecordBatchReader, ids: _Ids, out: pa.Schema, chunk_events: int
) -> Iterator[pa.RecordBatch]:
    """Cut a sorted stream into batches of whole clients with about `chunk_events` events."""
    done = 0
    held = flat.schema.empty_table()
    enough = chunk_events
    for batch in flat:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        if len(held) < enough:
            continue
        index = held.column(_INDEX).to_numpy()
        last = int(index[-1])
        whole = int(np.searchsorted(index, last))  # the last client may continue in the next batch
        enough = chunk_events if whole else 2 * enough
        if whole:
            yield _lists(held.slice(0, whole), done, last - done, ids, out)
            done = last
            held = held.slice(whole)
    clients = (held.column(_INDEX)[-1].as_py() + 1 if len(held) else done) - done
    yield _lists(held, done, clients + ids.left_after(clients), ids, out)


def _lists(flat: pa.Table, first: int, clients: int, ids: _Ids, out: pa.Schema) -> pa.RecordBatch:
    """Return the events of `clients` clients from number `first` on as list columns.

    A client without events has empty lists.
    """
    index = flat.column(_INDEX).to_numpy()
    offsets = pa.array(
        np.searchsorted(index, np.arange(first, first + clients + 1)).astype(np.int32)
    )
    columns = [ids.take(clients)]
    for field in list(out)[1:]:
        values = flat.column(field.name).cast(field.type.value_type).combine_chunks()
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        lists = pa.LargeListArray if pa.types.is_large_list(field.type) else pa.ListArray
        columns.append(lists.from_arrays(offsets, values))
    return pa.RecordBatch.from_arrays(columns, schema=out)
