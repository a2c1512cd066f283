"""Encode events, sort them by client and time, group them by client. DuckDB does it, out of core.

Encoding is a join with the vocabulary; sequences come out of one flat sort by (client in order of appearance, time, place in
the input) as a stream of Arrow batches with list columns, one row a client. The same SQL serves training, embedding
and scoring, whatever the events came from. Of events that fit in memory as whole columns numpy does the sort.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from seqmel.data.encoding.column_encoding import ColumnEncoding
from seqmel.data.encoding.column_reading import whole_columns
from seqmel.data.encoding.columns import ask
from seqmel.data.encoding.sql_encoding import coded_sql, register_codes
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import check_events, missing
from seqmel.data.sources.shard import Shard, in_shard_sql
from seqmel.data.sources.source import ROW, EventSource, ident, reading
from seqmel.data.sources.times import text_time_sql
from seqmel.data.vocabulary import Vocabulary

__all__ = ["encode", "nest", "sequence_schema"]

_INDEX = "__client_index"  # the column that numbers the clients


def sequence_schema(source: EventSource, schema: EventSchema) -> pa.Schema:
    """One row a client: its id as it came, list<int64> times in microseconds, list<int32> codes, list<float> numbers."""
    client = source.stream(f"SELECT {ident(schema.client)} FROM events LIMIT 0", 1).schema.field(0)
    return _sequence_schema(schema, client.type)


def _sequence_schema(schema: EventSchema, client: pa.DataType) -> pa.Schema:
    fields = [pa.field(schema.client, client), pa.field(schema.time, pa.list_(pa.int64()))]
    fields += [pa.field(c, pa.list_(pa.int32())) for c in schema.categorical]
    fields += [pa.field(c, pa.list_(pa.float32())) for c in schema.numeric]
    return pa.schema(fields)


def encode(
    source: EventSource,
    schema: EventSchema,
    vocabulary: Vocabulary,
    *,
    shard: Shard | None = None,
    chunk_events: int = 1_000_000,
) -> Iterator[pa.RecordBatch]:
    """Encode, sort and group: a stream of Arrow batches, one row a client, clients in order of their first event.

    Args:
        source: the events.
        schema: which column is what.
        vocabulary: as fitted in training; it is used as it is.
        shard: only these clients; all events are checked.
        chunk_events: about how many events a batch holds; a client is never split.
    """
    columns = whole_columns(source, schema)
    check_events(source, schema)
    if columns is not None:
        with reading(source.label):
            if shard is not None:
                kept = ask(source, schema.client, columns.ids, in_shard_sql(ident(schema.client), shard))
                columns = columns.of(kept.astype(np.bool_), schema.features)
            encoding = ColumnEncoding(columns, source, schema, vocabulary)
            yield from encoding.batches(_sequence_schema(schema, columns.ids.type), chunk_events)
        return
    register_codes(source, schema, vocabulary)
    out = sequence_schema(source, schema)
    coded = coded_sql(
        source, schema, vocabulary, (_INDEX, ROW), f"JOIN (FROM clients) ON {ident(schema.client)} = __client"
    )
    flat = f"SELECT * EXCLUDE ({ROW}) FROM ({coded}) ORDER BY {_INDEX}, {ident(schema.time)}, {ROW}"
    yield from _grouped(source, schema.client, flat, out, chunk_events, shard)


def nest(
    source: EventSource, client: str, time: str, *, time_format: str | None = None, chunk_events: int = 1_000_000
) -> Iterator[pa.RecordBatch]:
    """Sort and group the events as they came: a stream of Arrow batches like those of `encode`, without a vocabulary.

    Args:
        source: the events.
        client, time: the columns to group and to sort by; a time that cannot be understood comes last.
        time_format: how text of times is written, see `EventSchema`.
        chunk_events: about how many events a batch holds; a client is never split.

    Raises:
        InputError: a client is null.
    """
    key = ident(client)
    (nameless,) = source.row(f"SELECT count(*) FROM events WHERE {key} IS NULL")
    if nameless:
        raise missing(nameless, client, "client", source.label)
    names = [client, *(c for c in source.columns if c != client and c not in source.left_out)]
    columns = [_plain_sql(source, c) for c in names]
    first, *others = source.stream(f"SELECT {', '.join(columns)} FROM events LIMIT 0", 1).schema
    out = pa.schema([first, *(field.with_type(pa.large_list(_large(field.type))) for field in others)])
    moment = text_time_sql(ident(time), time_format) if source.columns[time] == "VARCHAR" else ident(time)
    flat = (
        f"SELECT {', '.join([_INDEX, *columns[1:]])} FROM events JOIN (FROM clients) ON {key} = __client"
        f" ORDER BY {_INDEX}, {moment} NULLS LAST, {ROW}"
    )
    yield from _grouped(source, client, flat, out, chunk_events)


def _plain_sql(source: EventSource, column: str) -> str:
    """Categories of a DataFrame and UUIDs as text: Arrow has each chunk hold its own list of the former."""
    name = ident(column)
    return f"{name}::VARCHAR AS {name}" if source.columns[column].startswith(("ENUM", "UUID")) else name


def _large(kind: pa.DataType) -> pa.DataType:
    """Text with 64-bit offsets: that of all clients together may be larger than 2 GB."""
    return pa.large_string() if pa.types.is_string(kind) else kind


def _grouped(
    source: EventSource, client: str, flat_sql: str, out: pa.Schema, chunk_events: int, shard: Shard | None = None
) -> Iterator[pa.RecordBatch]:
    """Run SQL that yields sorted events from `events JOIN clients`, and group what comes; the join leaves other shares out."""
    source.query(
        "CREATE OR REPLACE TABLE clients AS SELECT client AS __client,"
        f" (row_number() OVER (ORDER BY first) - 1)::INTEGER AS {_INDEX} FROM ({source.clients_sql(client)})"
        f" WHERE {in_shard_sql('client', shard)}"
    )
    ids = _Ids(source.stream(f"SELECT __client FROM clients ORDER BY {_INDEX}", chunk_events, beside=True))
    flat = source.stream(flat_sql, chunk_events)
    with reading(source.label):
        yield from _group(flat, ids, out, chunk_events)


class _Ids:
    """Client ids in order, taken from a stream a few at a time."""

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self._batches = batches
        self._left = pa.chunked_array([], batches.schema.field(0).type)

    def take(self, count: int) -> pa.Array:
        while len(self._left) < count:
            self._left = pa.chunked_array([*self._left.chunks, self._batches.read_next_batch().column(0)])
        taken, self._left = self._left.slice(0, count), self._left.slice(count)
        combined = taken.combine_chunks()
        return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined

    def left_after(self, count: int) -> int:
        """How many ids come after the next `count`: clients with no events at the end of the input."""
        self._left = pa.chunked_array([*self._left.chunks, *(b.column(0) for b in self._batches)], self._left.type)
        return len(self._left) - count


def _group(flat: pa.RecordBatchReader, ids: _Ids, out: pa.Schema, chunk_events: int) -> Iterator[pa.RecordBatch]:
    """Cut a flat sorted stream into batches of whole clients of about `chunk_events` events."""
    done, held, enough = 0, flat.schema.empty_table(), chunk_events
    for batch in flat:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        if len(held) < enough:
            continue
        index = held.column(_INDEX).to_numpy()
        last = int(index[-1])
        whole = int(np.searchsorted(index, last))  # the last client's events may go on in the next batch
        enough = chunk_events if whole else 2 * enough
        if whole:
            yield _lists(held.slice(0, whole), done, last - done, ids, out)
            done, held = last, held.slice(whole)
    clients = (held.column(_INDEX)[-1].as_py() + 1 if len(held) else done) - done
    yield _lists(held, done, clients + ids.left_after(clients), ids, out)


def _lists(flat: pa.Table, first: int, clients: int, ids: _Ids, out: pa.Schema) -> pa.RecordBatch:
    """The events of `clients` clients from number `first` on, as list columns; a client with no events has empty lists."""
    index = flat.column(_INDEX).to_numpy()
    offsets = pa.array(np.searchsorted(index, np.arange(first, first + clients + 1)).astype(np.int32))
    columns = [ids.take(clients)]
    for field in list(out)[1:]:
        values = flat.column(field.name).cast(field.type.value_type).combine_chunks()
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        lists = pa.LargeListArray if pa.types.is_large_list(field.type) else pa.ListArray
        columns.append(lists.from_arrays(offsets, values))
    return pa.RecordBatch.from_arrays(columns, schema=out)
