"""Read events as whole columns where that is simple and they fit in memory: Parquet files and tables of one row an event, with
columns of plain types. Of all else, and of what is odd (a null client, a time that is none, text that is no UTF-8), there
are no whole columns, and DuckDB goes through the rows and says what is wrong with them.
"""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqmel.data.checking import check_columns, time_sql, times_key
from seqmel.data.columns import Category, EventColumns
from seqmel.data.source import EventSource
from seqmel.errors import InputError
from seqmel.schema import EventSchema

__all__ = ["whole_columns"]

SHARE_OF_MEMORY = 0.25
"""Of preparation.memory_limit, at most, in whole columns: beside them are a chunk of encoded events and what DuckDB holds."""

_MOST_FILES = 64  # are opened to see how large they are
_ROW_BYTES, _VALUE_BYTES = 48, 16  # of a row and of each of its values: as read, as kept, and while they are sorted
_TEXT_COPIES = 4  # of text in a file: as read, its distinct values, a hash table of them, and those of all row groups
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_TYPES = {
    "TINYINT": pa.int8(), "SMALLINT": pa.int16(), "INTEGER": pa.int32(), "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(), "USMALLINT": pa.uint16(), "UINTEGER": pa.uint32(), "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(), "VARCHAR": pa.string(), "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"), "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "TIMESTAMP_S": pa.timestamp("s"), "TIMESTAMP_MS": pa.timestamp("ms"), "TIMESTAMP_NS": pa.timestamp("ns"),
}  # fmt: skip
"""What DuckDB calls a column -> the type in which Arrow has the same values."""


def whole_columns(source: EventSource, schema: EventSchema) -> EventColumns | None:
    """The events as whole columns, read once for a source; None where they have to be gone through row by row.

    Where there are columns, `check_events` finds nothing wrong, and need not look.

    Raises:
        SchemaError: see `check_columns`.
    """
    check_columns(source, schema)
    key = ("columns", *times_key(schema), schema.features)
    if key not in source.checked:
        columns = source.checked[key] = _read(source, schema)
        if columns is not None:
            source.checked[times_key(schema)] = columns.times()
    found: EventColumns | None = source.checked[key]
    return found


def _read(source: EventSource, schema: EventSchema) -> EventColumns | None:
    if source.whole is None or not _plain(source, schema):
        return None
    try:
        table = _table(source, (schema.client, schema.time, *schema.features))
        return None if table is None else _columns(source, schema, table)
    except (pa.ArrowException, OSError, InputError):  # whatever it is, DuckDB finds it too, and has words for it
        return None


def _plain(source: EventSource, schema: EventSchema) -> bool:
    """Whether all columns have types for what they are here."""
    kinds = {c: source.columns[c] for c in (schema.client, schema.time, *schema.features)}
    moments = {c for c, kind in kinds.items() if kind.startswith(("DATE", "TIMESTAMP"))}
    return (
        all(kind in _TYPES or (kind.startswith("ENUM") and c in schema.categorical) for c, kind in kinds.items())
        and moments <= {schema.time}
        and kinds[schema.client] not in ("FLOAT", "DOUBLE", "BOOLEAN")
        and kinds[schema.time] not in ("VARCHAR", "BOOLEAN")
        and all(kinds[c] != "VARCHAR" for c in schema.numeric)
        and schema.time_format is None
    )


def _table(source: EventSource, names: tuple[str, ...]) -> pa.Table | None:
    """These columns of the input, text of files as dictionaries; None where memory may not hold what is made of them."""
    texts = [c for c in names if source.columns[c] == "VARCHAR"]
    limit, threads = _limits(source)
    if isinstance(source.whole, pa.Table):
        table = source.whole.select(names)
        return table if _bytes(len(table), names, table.select(texts).nbytes) <= limit else None
    if source.whole is None or len(source.whole) > _MOST_FILES:
        return None
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(pq.ParquetFile(f, read_dictionary=texts)) for f in source.whole]
        rows, text = sum(f.metadata.num_rows for f in files), sum(_text_bytes(f, texts) for f in files)
        if _bytes(rows, names, text) > limit or not all({*names} <= {*f.schema_arrow.names} for f in files):
            return None
        many = threads >= pa.cpu_count()  # that is as many as Arrow takes, or one
        read = [f.read([*names], use_threads=many).select(names) for f in files]
    return pa.concat_tables(pa.table(t.columns, [*names]) for t in read)  # a field may be "not null" in one file only


def _limits(source: EventSource) -> tuple[float, int]:
    """How many bytes whole columns may take, and how many threads read them."""
    memory, threads = source.row("SELECT current_setting('memory_limit'), current_setting('threads')")
    number, unit = memory.split(" ")
    return SHARE_OF_MEMORY * float(number) * _UNITS[unit], threads


def _bytes(rows: int, names: tuple[str, ...], text: int) -> int:
    return rows * (_ROW_BYTES + _VALUE_BYTES * len(names)) + _TEXT_COPIES * text


def _text_bytes(file: pq.ParquetFile, texts: list[str]) -> int:
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema in texts)


def _columns(source: EventSource, schema: EventSchema, table: pa.Table) -> EventColumns | None:
    """None where a column has another type than DuckDB says, or a client or time is none."""
    found = {name: _typed(table.column(name), source.columns[name]) for name in table.column_names}
    del table
    typed = {name: column for name, column in found.items() if column is not None}
    if len(typed) < len(found):
        return None
    found.clear()
    clients, moments = _clients(typed.pop(schema.client)), _micros(source, schema, typed.pop(schema.time))
    if clients is None or moments.null_count:
        return None
    categories = {c: _category(typed.pop(c)) for c in schema.categorical}
    numbers = {c: _one(typed.pop(c).cast(pa.float64(), safe=False)) for c in schema.numeric}
    return EventColumns(
        *clients, moments.to_numpy(), categories, {c: x.to_numpy(zero_copy_only=False) for c, x in numbers.items()}
    )


def _typed(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray | None:
    """The column in the type that DuckDB says; text also as a dictionary; None where that is another one."""
    wanted = _TYPES.get(kind, pa.string())
    if pa.types.is_dictionary(column.type):
        return column if _is_text(column.type.value_type) and wanted == pa.string() else None
    if wanted == pa.string():
        return column.cast(wanted) if _is_text(column.type) else None
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(column.type):
        alike = (column.type.tz is None) == (wanted.tz is None) and (column.type.unit == "ns") == (wanted.unit == "ns")
        return column.cast(wanted) if alike else None
    return column if column.type == wanted else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _one(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        raise pa.ArrowInvalid("text of more than 2 GB")
    return whole


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """As a dictionary of which text is checked to be text, as DuckDB does."""
    is_dictionary = pa.types.is_dictionary(column.type)
    encoded = _one(column.unify_dictionaries()) if is_dictionary else _one(column).dictionary_encode()
    encoded.validate(full=True)
    return encoded


def _clients(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int32]] | None:
    """The clients in the order of their first events, and whose each event is; None where one is null."""
    encoded = _encoded(column)
    places = encoded.indices.dictionary_encode()  # a dictionary of a file has an order of its own
    ids = encoded.dictionary.take(places.dictionary)
    if encoded.null_count or ids.null_count:
        return None
    return ids, places.indices.to_numpy()


def _category(column: pa.ChunkedArray) -> Category:
    encoded = _encoded(column)
    values = encoded.dictionary.cast(pa.string()) if _is_text(encoded.dictionary.type) else encoded.dictionary
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    null = pa.nulls(1, values.type)
    index = encoded.indices.cast(pa.int32()).fill_null(len(values))
    return Category(index.to_numpy(), pa.concat_arrays([values, null]))


def _micros(source: EventSource, schema: EventSchema, column: pa.ChunkedArray) -> pa.Array:
    """(n,) int64: the times in microseconds, in their order, null where they are none."""
    source.connection.register("times_given", pa.table([column], [schema.time]))
    table = source.stream(f"SELECT {time_sql(source, schema)} FROM times_given", len(column)).read_all()
    source.connection.unregister("times_given")
    return _one(table.column(0))
