"""Encode events, sort them by client and time, group them by client. DuckDB does it, out of core.

The vocabulary becomes small tables; encoding is a join with them; sequences come out of one flat sort by (client in
order of appearance, time, place in the input) as a stream of Arrow batches with list columns, one row a client. The
same SQL serves training, embedding and scoring, whatever the events came from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from seqmel.data.checking import category_text, check_events, missing, time_sql
from seqmel.data.shard import Shard, in_shard_sql
from seqmel.data.source import ROW, EventSource, ident, is_integer, reading
from seqmel.data.times import text_time_sql
from seqmel.data.vocabulary import CLIP, FIRST, UNSEEN, CategoryCodes, Vocabulary
from seqmel.schema import EventSchema

__all__ = ["coded_sql", "encode", "nest", "register_codes", "sequence_schema"]

_INDEX = "__client_index"


def sequence_schema(source: EventSource, schema: EventSchema) -> pa.Schema:
    """One row a client: its id as it came, list<int64> times in microseconds, list<int32> codes, list<float> numbers."""
    client = source.stream(f"SELECT {ident(schema.client)} FROM events LIMIT 0", 1).schema.field(0)
    fields = [pa.field(schema.client, client.type), pa.field(schema.time, pa.list_(pa.int64()))]
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
    check_events(source, schema)
    register_codes(source, schema, vocabulary)
    out = sequence_schema(source, schema)
    coded = coded_sql(source, schema, vocabulary, (_INDEX, ROW), f"JOIN clients ON {ident(schema.client)} = __client")
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
        f"SELECT {', '.join([_INDEX, *columns[1:]])} FROM events JOIN clients ON {key} = __client"
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


def register_codes(source: EventSource, schema: EventSchema, vocabulary: Vocabulary) -> None:
    """One table a category (key, code), keyed in the type that the column has here; one table a scale within a category.

    Their column names begin with two underscores, so that they are not taken for columns of the events.
    """
    for i, column in enumerate(schema.categorical):
        values = vocabulary.categorical[column].values
        codes = pa.table(
            {"text": pa.array(values, pa.string()), "__code": pa.array(range(FIRST, FIRST + len(values)), pa.int32())}
        )
        source.connection.register("codes_given", codes)
        source.query(f"CREATE OR REPLACE TABLE codes_{i} AS {_keys_sql(source, column)}")
        source.connection.unregister("codes_given")
    for i, column in enumerate(schema.numeric):
        scales = vocabulary.numeric[column]
        if scales.by:
            rows = [scales.of_code(code) for code in range(vocabulary.categorical[scales.by].size)]
            table = pa.table({
                "__code": pa.array(range(len(rows)), pa.int32()),
                "__log_unit": pa.array([s.log_unit for s in rows], pa.float64()),
                "__center": pa.array([s.center for s in rows], pa.float64()),
                "__scale": pa.array([s.scale for s in rows], pa.float64()),
            })  # fmt: skip
            source.connection.register("scales_given", table)
            source.query(f"CREATE OR REPLACE TABLE scales_{i} AS SELECT * FROM scales_given")
            source.connection.unregister("scales_given")


def _keys_sql(source: EventSource, column: str) -> str:
    """Integers are joined as integers, which is faster than as text; "05" and "5.4" are no integer's text and have no key."""
    if is_integer(source.columns[column]):
        key = "TRY_CAST(text AS HUGEINT)"
        return f"SELECT {key} AS __key, __code FROM codes_given WHERE {key}::VARCHAR = text"
    return "SELECT text AS __key, __code FROM codes_given"


def _code_sql(source: EventSource, column: str, i: int, codes: CategoryCodes) -> str:
    raw = _raw_sql(source, column)
    return f"CASE WHEN {raw} IS NULL THEN {codes.null_code} ELSE coalesce(codes_{i}.__code, {UNSEEN}) END"


def _raw_sql(source: EventSource, column: str) -> str:
    if is_integer(source.columns[column]):
        return f"{ident(column)}::HUGEINT"
    return category_text(source, column)


def _scaled_sql(x: str, log_unit: str | None, center: str, scale: str) -> str:
    y = f"CASE WHEN {log_unit} IS NULL THEN {x} ELSE sign({x}) * ln(1 + abs({x}) / {log_unit}) END" if log_unit else x
    z = f"(({y}) - {center}) / {scale}"
    return f"CASE WHEN {x} IS NULL THEN 'NaN'::FLOAT ELSE greatest(-{CLIP}, least({CLIP}, {z}))::FLOAT END"


def coded_sql(
    source: EventSource, schema: EventSchema, vocabulary: Vocabulary, keys: tuple[str, ...], join: str = ""
) -> str:
    """SQL for the encoded events, in no order: `keys`, the time, then the features; after `register_codes`.

    Codes come first, then numbers, since a number may be scaled within a code.

    Args:
        source, schema, vocabulary: see `encode`.
        keys: more columns of the events that are wanted, or of what is joined.
        join: SQL that joins more to the events.
    """
    places = {c: i for i, c in enumerate(schema.categorical)}
    codes = [f"{_code_sql(source, c, i, vocabulary.categorical[c])} AS {ident(c)}" for c, i in places.items()]
    numbers = [f"{ident(c)}::DOUBLE AS {ident(c)}" for c in schema.numeric]
    joins = [f"LEFT JOIN codes_{i} ON {_raw_sql(source, c)} = codes_{i}.__key" for c, i in places.items()]
    coded = (
        f"SELECT {', '.join((*keys, f'{time_sql(source, schema)} AS {ident(schema.time)}', *codes, *numbers))}"
        f" FROM events {join} {' '.join(joins)}"
    )
    scaled, scale_joins = [], []
    for i, column in enumerate(schema.numeric):
        scales, x = vocabulary.numeric[column], ident(column)
        if scales.by:
            s = f"scales_{i}"
            scaled.append(f"{_scaled_sql(x, f'{s}.__log_unit', f'{s}.__center', f'{s}.__scale')} AS {x}")
            scale_joins.append(f"JOIN {s} ON {s}.__code = {ident(scales.by)}")
        else:
            unit = repr(scales.overall.log_unit) if scales.overall.log_unit else None
            scaled.append(f"{_scaled_sql(x, unit, repr(scales.overall.center), repr(scales.overall.scale))} AS {x}")
    columns = [*keys, ident(schema.time), *(ident(c) for c in schema.categorical), *scaled]
    return f"SELECT {', '.join(columns)} FROM ({coded}) {' '.join(scale_joins)}"


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
