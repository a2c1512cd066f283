"""Convert Python tables to Arrow tables that DuckDB can read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from seqmel.core.errors import InputError, shown
from seqmel.data.sources.records import is_records, records_table
from seqmel.data.sources.several import event_tables
from seqmel.data.sources.source import first_line

__all__ = ["PERIOD", "arrow_table", "collected", "engine_table", "is_moment"]

PERIOD = "pandas.period"
"""Arrow's name for the type of pandas periods."""

_WANTED = "Expected a path, or a pandas, polars or Arrow table."


def is_moment(value: Any) -> bool:
    """Return whether a value is a date or timestamp of Python, numpy or pandas."""
    return isinstance(value, (dt.date, np.datetime64))


def collected(table: Any) -> Any:
    """Return a polars LazyFrame as the DataFrame that it stands for, and all else unchanged."""
    lazy = type(table).__name__ == "LazyFrame" and hasattr(table, "collect")
    return table.collect() if lazy else table


def arrow_table(table: Any) -> tuple[pa.Table, dict[str, str]]:
    """Convert any table to an Arrow table.

    Args:
        table: A pandas, polars (a LazyFrame is collected) or Arrow table, a dictionary of columns,
            or dictionaries.

    Returns:
        The table, and column -> why it cannot be read. Such a column is null.

    Raises:
        InputError: It is not a table.
    """
    kind = type(table).__name__
    if is_records(table):
        return records_table(table), {}
    table = collected(table)
    if event_tables(table) is not None:
        raise InputError(
            f"{', '.join(map(repr, table))} are several event tables, and one is read here. Give"
            " one; a model is trained on all of them by seqmel.train, or seqmel train NAME=PATH ..."
        )
    if isinstance(table, Mapping):
        table = pd.DataFrame(dict(table))
    if isinstance(table, pd.Series):
        table = table.to_frame(table.name if table.name is not None else "value")
    if isinstance(table, pd.DataFrame):
        return _of_pandas(table)
    if not (hasattr(table, "__arrow_c_stream__") or isinstance(table, pa.RecordBatch)):
        joined = " Join several tables of one kind first." if isinstance(table, list) else ""
        raise InputError(f"Cannot read events from a {kind}. {_WANTED}{joined}")
    try:
        return _readable(pa.table(table)), {}
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"Cannot read events from the given {kind}: {first_line(error)}. {_WANTED}"
        ) from None


def _of_pandas(frame: pd.DataFrame) -> tuple[pa.Table, dict[str, str]]:
    """Convert a DataFrame. Levels of a named index become columns. Unsupported columns are null."""
    again = [
        place
        for place, name in enumerate(frame.index.names)
        if name in frame.columns and _is_column(frame.index.get_level_values(place), frame[name])
    ]
    if again:  # as set_index(name, drop=False) makes it
        frame = frame.reset_index(level=again, drop=True)
    levels = [name for name in frame.index.names if name is not None]
    names = pd.Index([*levels, *frame.columns], dtype=object, tupleize_cols=False)
    if not names.is_unique:
        twice = shown(map(repr, names[names.duplicated()].unique()))
        raise InputError(f"The given DataFrame has two columns of one name: {twice}. Rename one.")
    sparse = {n: kind for n, kind in frame.dtypes.items() if isinstance(kind, pd.SparseDtype)}
    if sparse:
        frame = frame.astype({name: kind.subtype for name, kind in sparse.items()})
    try:
        if levels:
            frame = frame.reset_index()
        return _readable(pa.Table.from_pandas(frame, preserve_index=False)), {}
    except (pa.ArrowException, ValueError, TypeError):
        pass  # some columns, which are found below
    columns = {}
    odd = {}
    for name in frame.columns:
        try:
            part = _readable(pa.Table.from_pandas(frame[[name]], preserve_index=False))
            columns[str(name)] = part.column(0)
        except (pa.ArrowException, ValueError, TypeError):
            columns[str(name)] = pa.nulls(len(frame), pa.string())
            odd[str(name)] = "a column of Python objects without a common type"
    return pa.table(columns), odd


def _is_column(level: pd.Index[Any], column: pd.Series[Any] | pd.DataFrame) -> bool:
    """Return whether a level of an index is a column of the same values; not one of several."""
    return isinstance(column, pd.Series) and level.equals(pd.Index(column))


def _readable(table: pa.Table) -> pa.Table:
    """Cast to types that DuckDB supports. pandas periods become the times at which they start."""
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if pa.types.is_dictionary(field.type) and pa.types.is_string_view(field.type.value_type):
            table = table.set_column(place, field.name, _of_plain_strings(column))
        elif field.type == pa.float16():
            table = table.set_column(place, field.name, column.cast(pa.float32()))
        elif pa.types.is_decimal256(field.type):
            table = table.set_column(place, field.name, column.cast(pa.float64()))
        elif getattr(field.type, "extension_name", "") == PERIOD:
            starts = column.to_pandas().dt.to_timestamp()
            table = table.set_column(
                place, field.name, pa.chunked_array([pa.array(starts, pa.timestamp("us"))])
            )
    return table


def _of_plain_strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the categories of polars as text; DuckDB has no dictionaries of string views."""
    text = [
        pa.DictionaryArray.from_arrays(part.indices, part.dictionary.cast(pa.string())).cast(
            pa.string()
        )
        for part in column.chunks
    ]
    return pa.chunked_array(text, pa.string())


def engine_table(
    connection: duckdb.DuckDBPyConnection, table: pa.Table
) -> tuple[pa.Table, dict[str, str]]:
    """Replace columns of types that DuckDB lacks by nulls. Also return column -> why."""
    odd = {}
    for place, field in enumerate(table.schema):
        try:
            connection.from_arrow(pa.table({"x": pa.array([], field.type)})).types  # noqa: B018  evaluated lazily
        except (duckdb.Error, pa.ArrowException):
            odd[field.name] = f"a column of type {field.type}, which cannot be read"
            table = table.set_column(place, field.name, pa.nulls(len(table), pa.string()))
    return table, odd
