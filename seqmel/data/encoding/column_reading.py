"""Read events as whole columns, if they are simple and fit in memory.

Simple are files and tables with one row per event and columns of plain types. Other events, and
those with an error (a null client, an invalid time, text that is not UTF-8), are streamed through
DuckDB, which reports what is wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seqmel.core.errors import InputError
from seqmel.data.encoding.columns import (
    Category,
    EventColumns,
    evaluate_sql,
    sorted_positions,
    take,
)
from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import (
    FARTHEST_US,
    category_text,
    check_columns,
    time_sql,
    times_key,
)
from seqmel.data.sources.source import EventSource, ident

__all__ = ["whole_columns"]

_Reader: TypeAlias = Callable[[list[str]], pa.Table]

MEMORY_FRACTION = 1 / 3
"""Largest part of preparation.memory_limit for whole columns.

The rest is for a chunk of encoded events and for DuckDB.
"""

_ROWS = 131_072  # per batch of Arrow
_MAX_FILES = 64  # opened to measure their size
# Bytes per row and per value: as read, as kept, and while they are sorted.
_ROW_BYTES = 48
_VALUE_BYTES = 16
# Copies of the text of a file: as read, distinct values, their hash table, and those of row groups.
_TEXT_COPIES = 4
_TYPES = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
}
"""DuckDB type -> Arrow type with the same values."""


class _UntypedError(Exception):
    """A column has another type in Arrow than in DuckDB."""


def whole_columns(source: EventSource, schema: EventSchema) -> EventColumns | None:
    """Read the events as whole columns, once per source.

    If there are whole columns, the events have passed the checks of `check_events`.

    Returns:
        The columns, or None if the events must be streamed through DuckDB.

    Raises:
        SchemaError: See `check_columns`.
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
        limit = MEMORY_FRACTION * source.memory
        threads = source.threads
        with contextlib.ExitStack() as stack:
            read = _reader(
                source, (schema.client, schema.time, *schema.features), limit, threads, stack
            )
            return None if read is None else _columns(source, schema, read, threads)
    # DuckDB finds and reports the same errors. A KeyError comes from files with different columns.
    except (pa.ArrowException, OSError, InputError, KeyError, _UntypedError):
        return None


def _plain(source: EventSource, schema: EventSchema) -> bool:
    """Return whether all columns have types that suit their role."""
    kinds = {c: source.columns[c] for c in (schema.client, schema.time, *schema.features)}
    times = {c for c, kind in kinds.items() if kind.startswith(("DATE", "TIMESTAMP"))}
    return (
        len(kinds) == 2 + len(schema.features)
        and all(
            kind in _TYPES or (kind.startswith("ENUM") and c in schema.features)
            for c, kind in kinds.items()
        )
        and times <= {schema.time}
        and kinds[schema.client] not in ("FLOAT", "DOUBLE", "BOOLEAN")
        and kinds[schema.time] not in ("VARCHAR", "BOOLEAN")
        and all(kind_of(schema, c).reads_whole(kinds[c]) for c in schema.features)
        and schema.time_format is None
    )


def _reader(
    source: EventSource,
    names: tuple[str, ...],
    limit: float,
    threads: int,
    stack: contextlib.ExitStack,
) -> _Reader | None:
    """Return a reader of some of these columns, or None if memory may not hold what they become.

    Text of Parquet files is read as dictionaries. The files stay open until the stack is left.
    """
    texts = [c for c in names if source.columns[c] == "VARCHAR"]
    if isinstance(source.whole, pa.Table):
        table = source.whole.select(names)
        return (
            table.select if _bytes(len(table), names, table.select(texts).nbytes) <= limit else None
        )
    if isinstance(source.whole, str):
        return _engine_reader(source, source.whole, names, texts, limit)
    if source.whole is None or len(source.whole) > _MAX_FILES:
        return None
    files = [stack.enter_context(pq.ParquetFile(f, read_dictionary=texts)) for f in source.whole]
    rows = sum(f.metadata.num_rows for f in files)
    text = sum(_text_bytes(f, texts) for f in files)
    if _bytes(rows, names, text) > limit or not all(
        {*names} <= {*f.schema_arrow.names} for f in files
    ):
        return None
    many = threads >= pa.cpu_count()  # Arrow uses all its threads or one

    def read(columns: list[str]) -> pa.Table:
        tables = [f.read(columns, use_threads=many).select(columns) for f in files]
        # A field may be "not null" in one file only.
        return pa.concat_tables(pa.table(t.columns, columns) for t in tables)

    return read


def _engine_reader(
    source: EventSource, table: str, names: tuple[str, ...], texts: list[str], limit: float
) -> _Reader | None:
    sizes = ", ".join(f"coalesce(sum(strlen({ident(c)})), 0)" for c in texts)
    rows, *text = source.row(f"SELECT count(*){', ' + sizes if texts else ''} FROM {table}")
    if _bytes(rows, names, sum(text)) > limit:
        return None
    return lambda columns: source.stream(
        f"SELECT {', '.join(map(ident, columns))} FROM {table}", _ROWS
    ).read_all()


def _bytes(rows: int, names: tuple[str, ...], text: int) -> int:
    return rows * (_ROW_BYTES + _VALUE_BYTES * len(names)) + _TEXT_COPIES * text


def _text_bytes(file: pq.ParquetFile, texts: list[str]) -> int:
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema in texts)


def _columns(
    source: EventSource, schema: EventSchema, read: _Reader, threads: int
) -> EventColumns | None:
    """Read all columns. Return None if any client or time is null.

    The order of the events is computed while their features are read.
    """
    with ThreadPoolExecutor(threads) as pool:  # columns are popped to free their memory early
        keys = dict(
            zip(("client", "time"), _typed(source, read([schema.client, schema.time])), strict=True)
        )
        micros = _micros(source, schema, keys.pop("time"))
        if micros is None:
            return None
        ordering = pool.submit(_order_events, keys.pop("client"), micros)
        features = dict(zip(schema.features, _typed(source, read([*schema.features])), strict=True))
        texted = (*schema.categorical, *schema.kinds)
        places = {c: pool.submit(_places, features.pop(c)) for c in texted}
        numbers = {c: pool.submit(_number, features.pop(c)) for c in schema.numeric}
        texts = {c: _texts(source, c, found.result()[0]) for c, found in places.items()}
        ordered = ordering.result()
        if ordered is None:
            return None
        ids, lengths, order = ordered
        time = pool.submit(take, micros, order)
        del micros
        indices = {c: pool.submit(take, places.pop(c).result()[1], order) for c in texted}
        values = {c: pool.submit(take, numbers.pop(c).result(), order) for c in schema.numeric}
    categories = {c: Category(index.result(), texts[c]) for c, index in indices.items()}
    return EventColumns(
        ids, lengths, time.result(), categories, {c: x.result() for c, x in values.items()}, threads
    )


def _order_events(
    client: pa.ChunkedArray, micros: npt.NDArray[np.int64]
) -> tuple[pa.Array, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """Number the clients and sort the events. Return None if a client is null.

    Returns:
        The clients in the order of their first events (C,), their numbers of events (C,), and the
        positions of the events sorted by client, time and position (n,).
    """
    encoded = _encoded(client)
    ids = _as_text(encoded.dictionary)
    places = encoded.indices
    if pa.types.is_dictionary(client.type):  # the dictionary of a file has its own order
        again = places.dictionary_encode()
        ids = ids.take(again.dictionary)
        places = again.indices
    if places.null_count or ids.null_count:
        return None
    number = places.to_numpy()
    return ids, np.bincount(number, minlength=len(ids)), sorted_positions(number, len(ids), micros)


def _typed(source: EventSource, table: pa.Table) -> list[pa.ChunkedArray]:
    """Return the columns in their DuckDB types. Text may be a dictionary.

    Raises:
        _UntypedError: A column has another type.
    """
    columns = [_in_type(table.column(name), source.columns[name]) for name in table.column_names]
    typed = [column for column in columns if column is not None]
    if len(typed) < len(columns):
        raise _UntypedError
    return typed


def _in_type(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray | None:
    wanted = _TYPES.get(kind, pa.string())
    if pa.types.is_dictionary(column.type):
        return column if _is_text(column.type.value_type) and wanted == pa.string() else None
    if wanted == pa.string():
        return column.cast(wanted) if _is_text(column.type) else None
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(column.type):
        alike = (column.type.tz is None) == (wanted.tz is None) and (column.type.unit == "ns") == (
            wanted.unit == "ns"
        )
        return column.cast(wanted) if alike else None
    return column if column.type == wanted else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        raise pa.ArrowInvalid("text of more than 2 GB")
    return whole


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return the column as a dictionary array.

    Text is checked to be valid UTF-8, as DuckDB does.
    """
    is_dictionary = pa.types.is_dictionary(column.type)
    encoded = (
        _one(column.unify_dictionaries()) if is_dictionary else _one(column).dictionary_encode()
    )
    if _is_text(encoded.dictionary.type):
        encoded.validate(full=True)
    return encoded


def _as_text(values: pa.Array) -> pa.Array:
    """Convert all Arrow types of text to one."""
    return values.cast(pa.string()) if _is_text(values.type) else values


def _places(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Return (V + 1,) distinct values, the last one null, and (n,) positions among them."""
    encoded = _encoded(column)
    values = _as_text(encoded.dictionary)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    index = encoded.indices.cast(pa.int32()).fill_null(len(values))
    return pa.concat_arrays([values, pa.nulls(1, values.type)]), index.to_numpy()


def _texts(source: EventSource, column: str, values: pa.Array) -> pa.Array:
    """Return the values of a category as text.

    Arrow formats text, integers and booleans like DuckDB. Floats are left to DuckDB.
    """
    if pa.types.is_floating(values.type):
        return pa.array(
            evaluate_sql(source, column, values, category_text(source, column)), pa.string()
        )
    return values.cast(pa.string())


def _number(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(_one(column.cast(pa.float64(), safe=False)).to_numpy(zero_copy_only=False))


def _micros(
    source: EventSource, schema: EventSchema, column: pa.ChunkedArray
) -> npt.NDArray[np.int64] | None:
    """Return (n,) times in microseconds in input order, or None if any is null or out of range."""
    if (
        column.type in (_TYPES["TIMESTAMP"], _TYPES["TIMESTAMP WITH TIME ZONE"])
        and schema.time_unit == "timestamp"
    ):
        micros = _one(column.cast(pa.int64()))  # equal to those of `time_sql` if in range
        bounds = pc.min_max(micros).as_py()
        if micros.null_count or bounds["min"] < -FARTHEST_US or bounds["max"] > FARTHEST_US:
            return None
        return np.asarray(micros.to_numpy())
    source.connection.register("times_given", pa.table([column], [schema.time]))
    table = source.stream(
        f"SELECT {time_sql(source, schema)} FROM times_given", len(column)
    ).read_all()
    source.connection.unregister("times_given")
    found = _one(table.column(0))
    return None if found.null_count else np.asarray(found.to_numpy())
