"""Read events as whole columns where that is simple and they fit in memory: files and tables of one row an event, with
columns of plain types. Of all else, and of what is odd (a null client, a time that is none, text that is no UTF-8), there
are no whole columns, and DuckDB goes through the rows and says what is wrong with them.
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
from seqmel.data.encoding.columns import Category, EventColumns, ask, order_of, taken
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import FARTHEST_US, category_text, check_columns, time_sql, times_key
from seqmel.data.sources.source import EventSource, ident

__all__ = ["whole_columns"]

_Reader: TypeAlias = Callable[[list[str]], pa.Table]

SHARE_OF_MEMORY = 1 / 3
"""Of preparation.memory_limit, at most, in whole columns: beside them are a chunk of encoded events and what DuckDB holds."""

_ROWS = 131_072  # of a batch of Arrow
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


class _UntypedError(Exception):
    """A column is of another type in Arrow than in DuckDB."""


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
        limit, threads = _limits(source)
        with contextlib.ExitStack() as stack:
            read = _reader(source, (schema.client, schema.time, *schema.features), limit, threads, stack)
            return None if read is None else _columns(source, schema, read, threads)
    # whatever it is, DuckDB finds it too, and has words for it; a KeyError comes of files that lack a column that others have
    except (pa.ArrowException, OSError, InputError, KeyError, _UntypedError):
        return None


def _plain(source: EventSource, schema: EventSchema) -> bool:
    """Whether all columns have types for what they are here."""
    kinds = {c: source.columns[c] for c in (schema.client, schema.time, *schema.features)}
    moments = {c for c, kind in kinds.items() if kind.startswith(("DATE", "TIMESTAMP"))}
    return (
        len(kinds) == 2 + len(schema.features)
        and all(kind in _TYPES or (kind.startswith("ENUM") and c in schema.categorical) for c, kind in kinds.items())
        and moments <= {schema.time}
        and kinds[schema.client] not in ("FLOAT", "DOUBLE", "BOOLEAN")
        and kinds[schema.time] not in ("VARCHAR", "BOOLEAN")
        and all(kinds[c] != "VARCHAR" for c in schema.numeric)
        and schema.time_format is None
    )


def _reader(
    source: EventSource, names: tuple[str, ...], limit: float, threads: int, stack: contextlib.ExitStack
) -> _Reader | None:
    """What reads some of these columns of the input, text of files as dictionaries; None where memory may not hold what is made
    of them. Files are open until the stack is left."""
    texts = [c for c in names if source.columns[c] == "VARCHAR"]
    if isinstance(source.whole, pa.Table):
        table = source.whole.select(names)
        return table.select if _bytes(len(table), names, table.select(texts).nbytes) <= limit else None
    if isinstance(source.whole, str):
        return _engine_reader(source, source.whole, names, texts, limit)
    if source.whole is None or len(source.whole) > _MOST_FILES:
        return None
    files = [stack.enter_context(pq.ParquetFile(f, read_dictionary=texts)) for f in source.whole]
    rows, text = sum(f.metadata.num_rows for f in files), sum(_text_bytes(f, texts) for f in files)
    if _bytes(rows, names, text) > limit or not all({*names} <= {*f.schema_arrow.names} for f in files):
        return None
    many = threads >= pa.cpu_count()  # that is as many as Arrow takes, or one

    def read(columns: list[str]) -> pa.Table:
        tables = [f.read(columns, use_threads=many).select(columns) for f in files]
        return pa.concat_tables(
            pa.table(t.columns, columns) for t in tables
        )  # a field may be "not null" in one file only

    return read


def _engine_reader(
    source: EventSource, table: str, names: tuple[str, ...], texts: list[str], limit: float
) -> _Reader | None:
    sizes = ", ".join(f"coalesce(sum(strlen({ident(c)})), 0)" for c in texts)
    rows, *text = source.row(f"SELECT count(*){', ' + sizes if texts else ''} FROM {table}")
    if _bytes(rows, names, sum(text)) > limit:
        return None
    return lambda columns: source.stream(f"SELECT {', '.join(map(ident, columns))} FROM {table}", _ROWS).read_all()


def _limits(source: EventSource) -> tuple[float, int]:
    """How many bytes whole columns may take, and how many threads read them."""
    memory, threads = source.row("SELECT current_setting('memory_limit'), current_setting('threads')")
    number, unit = memory.split(" ")
    return SHARE_OF_MEMORY * float(number) * _UNITS.get(unit, 0), threads


def _bytes(rows: int, names: tuple[str, ...], text: int) -> int:
    return rows * (_ROW_BYTES + _VALUE_BYTES * len(names)) + _TEXT_COPIES * text


def _text_bytes(file: pq.ParquetFile, texts: list[str]) -> int:
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema in texts)


def _columns(source: EventSource, schema: EventSchema, read: _Reader, threads: int) -> EventColumns | None:
    """None where a client or a time is none. The order of the events is found while their features are read."""
    with ThreadPoolExecutor(threads) as pool:  # what is not needed any more is let go of at once
        keys = dict(zip(("client", "time"), _typed(source, read([schema.client, schema.time])), strict=True))
        moments = _micros(source, schema, keys.pop("time"))
        if moments is None:
            return None
        ordering = pool.submit(_ordered, keys.pop("client"), moments)
        features = dict(zip(schema.features, _typed(source, read([*schema.features])), strict=True))
        places = {c: pool.submit(_places, features.pop(c)) for c in schema.categorical}
        numbers = {c: pool.submit(_number, features.pop(c)) for c in schema.numeric}
        texts = {c: _texts(source, c, found.result()[0]) for c, found in places.items()}
        ordered = ordering.result()
        if ordered is None:
            return None
        ids, lengths, order = ordered
        time = pool.submit(taken, moments, order)
        del moments
        indices = {c: pool.submit(taken, places.pop(c).result()[1], order) for c in schema.categorical}
        values = {c: pool.submit(taken, numbers.pop(c).result(), order) for c in schema.numeric}
    categories = {c: Category(index.result(), texts[c]) for c, index in indices.items()}
    return EventColumns(ids, lengths, time.result(), categories, {c: x.result() for c, x in values.items()}, threads)


def _ordered(
    client: pa.ChunkedArray, moments: npt.NDArray[np.int64]
) -> tuple[pa.Array, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """(C,) the clients in the order of their first events, (C,) their numbers of events, and (n,) the places of the events by
    client, time and place; None where a client is null."""
    encoded = _encoded(client)
    ids, places = _as_text(encoded.dictionary), encoded.indices
    if pa.types.is_dictionary(client.type):  # that of a file has an order of its own
        again = places.dictionary_encode()
        ids, places = ids.take(again.dictionary), again.indices
    if places.null_count or ids.null_count:
        return None
    number = places.to_numpy()
    return ids, np.bincount(number, minlength=len(ids)), order_of(number, len(ids), moments)


def _typed(source: EventSource, table: pa.Table) -> list[pa.ChunkedArray]:
    """The columns in the types that DuckDB says; text also as a dictionary.

    Raises:
        _UntypedError: one of them has another one.
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
    """As a dictionary, of which text is checked to be text, as DuckDB does."""
    is_dictionary = pa.types.is_dictionary(column.type)
    encoded = _one(column.unify_dictionaries()) if is_dictionary else _one(column).dictionary_encode()
    if _is_text(encoded.dictionary.type):
        encoded.validate(full=True)
    return encoded


def _as_text(values: pa.Array) -> pa.Array:
    """All kinds of text as one."""
    return values.cast(pa.string()) if _is_text(values.type) else values


def _places(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """(V + 1,) the values as they came, of which the last is null, and (n,) places among them."""
    encoded = _encoded(column)
    values = _as_text(encoded.dictionary)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    index = encoded.indices.cast(pa.int32()).fill_null(len(values))
    return pa.concat_arrays([values, pa.nulls(1, values.type)]), index.to_numpy()


def _texts(source: EventSource, column: str, values: pa.Array) -> pa.Array:
    """The values of a category in text form. Text, whole numbers, true and false have but one, and Arrow the same."""
    if pa.types.is_floating(values.type):
        return pa.array(ask(source, column, values, category_text(source, column)), pa.string())
    return values.cast(pa.string())


def _number(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(_one(column.cast(pa.float64(), safe=False)).to_numpy(zero_copy_only=False))


def _micros(source: EventSource, schema: EventSchema, column: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """(n,) the times in microseconds, in their order; None where one of them is none."""
    if column.type in (_TYPES["TIMESTAMP"], _TYPES["TIMESTAMP WITH TIME ZONE"]) and schema.time_unit == "timestamp":
        moments = _one(column.cast(pa.int64()))  # as many microseconds as `time_sql` says, where they are not too many
        bounds = pc.min_max(moments).as_py()
        if moments.null_count or bounds["min"] < -FARTHEST_US or bounds["max"] > FARTHEST_US:
            return None
        return np.asarray(moments.to_numpy())
    source.connection.register("times_given", pa.table([column], [schema.time]))
    table = source.stream(f"SELECT {time_sql(source, schema)} FROM times_given", len(column)).read_all()
    source.connection.unregister("times_given")
    found = _one(table.column(0))
    return None if found.null_count else np.asarray(found.to_numpy())
