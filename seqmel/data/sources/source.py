"""Events as a DuckDB view with one row per event, whatever their source, and helpers for SQL."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from seqmel.core.errors import (
    InputError,
    OutputError,
    SchemaError,
    did_you_mean,
    shown,
)
from seqmel.core.memory import memory_bytes
from seqmel.core.threads import engine_threads

__all__ = [
    "RESERVED",
    "ROW",
    "EventSource",
    "connect",
    "first_line",
    "ident",
    "is_integer",
    "is_real",
    "literal",
    "no_column",
    "reading",
    "row_of_table",
    "type_in_words",
]

RESERVED = re.compile(
    r"__(row|client|client_index|time|key|code|log_unit|center|scale|value|us|asked|events|[nmrx]|text_\d+)",
    re.IGNORECASE,
)
"""Names of columns that are added to those of the events."""

ROW = "__row"
"""The column that `EventSource` adds. It increases with the position of an event in the input, and
breaks ties in time deterministically."""


@dataclass(frozen=True)
class EventSource:
    """Events as the DuckDB view `events`, with one row per event, and `__row`. NaN is null.

    Attributes:
        connection: The DuckDB connection that holds the view.
        label: The name of the events in messages, such as the path.
        columns: Column -> DuckDB type, without `__row`. List columns have the type of their
            elements.
        nested: Whether the input has one row per client and list columns.
        left_out: Column -> why it is not a column of events (a partition key, one value per
            client).
        unreadable: Column -> why its values cannot be used.
        notes: Remarks on how the events were read, one line each.
        client: The client column, if the input names it, see `EventSchema`.
        time: The time column, if the input names it.
        time_format: The format of times in text, if the input has it.
        whole: The input, if it has one row per event and Arrow and DuckDB read the same from it:
            Parquet files, a table, or the name of a table in DuckDB.
        decimal: The decimal mark of CSV files.
        files: The Parquet or CSV files of the events.
        memory: Memory limit of the engine in bytes, for what is read beside it.
        threads: Number of threads that may read.
        checked: Cached results of checks.
    """

    connection: duckdb.DuckDBPyConnection
    label: str
    columns: dict[str, str]
    nested: bool = False
    left_out: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    client: str | None = None
    time: str | None = None
    time_format: str | None = None
    decimal: Literal[".", ","] = "."
    whole: tuple[str, ...] | pa.Table | str | None = field(default=None, repr=False, compare=False)
    files: tuple[str, ...] = field(default=(), repr=False, compare=False)
    memory: int = field(default=0, repr=False, compare=False)
    threads: int = field(default=1, repr=False, compare=False)
    checked: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def query(self, sql: str, parameters: list[object] | None = None) -> duckdb.DuckDBPyConnection:
        """Run SQL. Errors in the input become an `InputError` with one line."""
        with reading(self.label):
            return self.connection.execute(sql, parameters)

    def stream(self, sql: str, rows: int, *, beside: bool = False) -> pa.RecordBatchReader:
        """Run a query and stream Arrow batches of `rows` rows.

        Args:
            sql: The query.
            rows: Number of rows per batch.
            beside: Whether other queries may run while the stream is read.
        """
        with reading(self.label):
            connection = self.connection.cursor() if beside else self.connection
            return connection.sql(sql).to_arrow_reader(rows)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query as Python values."""
        with reading(self.label):
            return self.connection.execute(sql).fetchall()

    def row(self, sql: str) -> tuple[Any, ...]:
        """Return the only row of a query."""
        return self.rows(sql)[0]

    def require(self, column: str, option: str) -> None:
        """Raise a `SchemaError` if the column is missing. `option` says how to name another one."""
        if column not in self.columns:
            others = [name for name in (*self.columns, *self.left_out) if name != column]
            raise no_column(column, others, self.label, option)
        if column in self.unreadable:
            raise SchemaError(
                f"Column {column!r} of {self.label} cannot be used: {self.unreadable[column]}. "
                "Convert it to one type, such as text."
            )

    def columns_of(self, file: str) -> list[str]:
        """Return the names of the columns of one of the files."""
        listed = f"[{literal(file)}]"
        read = (
            f"read_csv({listed}, header = true)"
            if ".csv" in file or ".tsv" in file
            else f"read_parquet({listed})"
        )
        return [name for name, *_ in self.rows(f"DESCRIBE SELECT * FROM {read}")]

    @property
    def is_empty(self) -> bool:
        """Whether there are neither events nor clients."""
        return not self.rows(f"SELECT 1 FROM {'nested' if self.nested else 'events'} LIMIT 1")

    def clients_sql(self, client: str) -> str:
        """Return SQL for one row per client: `client` and `first`, its order of appearance.

        Clients without events are included.
        """
        if self.nested:
            return f"SELECT {ident(client)} AS client, {ROW} AS first FROM nested"
        return f"SELECT {ident(client)} AS client, min({ROW}) AS first FROM events GROUP BY 1"


def ident(name: str) -> str:
    """Quote a column name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for SQL."""
    return "'" + text.replace("'", "''") + "'"


def is_integer(kind: str) -> bool:
    """Return whether a DuckDB type is an integer."""
    return bool(re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?", kind))


def is_real(kind: str) -> bool:
    """Return whether a DuckDB type has a fractional part."""
    return kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")


def type_in_words(kind: str) -> str:
    """Return what a column of a DuckDB type holds, for messages."""
    if is_integer(kind):
        return "whole numbers"
    if is_real(kind):
        return "numbers"
    if kind.endswith("]"):
        return f"lists of {type_in_words(kind[: kind.rindex('[')])}"
    return next(
        (words for name, words in _TYPES_IN_WORDS.items() if kind.startswith(name)), kind.lower()
    )


_TYPES_IN_WORDS = {
    '"NULL"': "nulls",
    "VARCHAR": "text",
    "ENUM": "text",
    "BOOLEAN": "booleans",
    "TIMESTAMP": "timestamps",
    "DATE": "dates",
    "TIME": "times of day",
    "INTERVAL": "durations",
    "BLOB": "bytes",
    "STRUCT": "structures",
    "MAP": "maps",
    "UNION": "values of several types",
}
"""Start of a DuckDB type -> what a column of it holds."""


def row_of_table(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Return SQL for the position of a row in a table. A column `rowid` hides DuckDB's own."""
    names = (name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall())
    return (
        "row_number() OVER () - 1" if any(name.casefold() == "rowid" for name in names) else "rowid"
    )


def no_column(column: str, columns: Iterable[str], label: str, option: str) -> SchemaError:
    """Build the error for a column that does not exist."""
    columns = list(columns)
    return SchemaError(
        f"No column {column!r} in {label}.{did_you_mean(column, columns)} It has: "
        f"{shown(columns)}. {option}"
    )


@contextlib.contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn errors of DuckDB and Arrow into one line that names the input."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise OutputError(
            f"The memory limit or the disk for temporary files was reached while reading {label}."
            f" Raise preparation.memory_limit or free space. ({first_line(error)})"
        ) from None
    except MemoryError:  # Arrow's MemoryError is an ArrowException too
        raise
    except (duckdb.Error, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) or "Invalid unicode" in str(error):
            line = re.search(r"on Line: (\d+)", str(error))
            where = f" (line {line[1]})" if line else ""
            raise InputError(
                f"{label} is not text in UTF-8{where}. Save it again as CSV in UTF-8."
            ) from None
        if "sniffing" in str(error):
            raise InputError(
                f"Cannot read {label} as CSV. Expected the same number of fields, with quotes that "
                "are closed, on every line."
            ) from None
        raise InputError(f"Cannot read {label}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """Return the message of an error.

    For CSV files it includes the lines that say where and why.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    telling = 3 if "CSV Error" in lines[0] else 1
    return re.sub(r"^[A-Za-z ]*Error: ", "", " ".join(lines[:telling]))


def connect(
    *,
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_folder: str | os.PathLike[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a private in-memory DuckDB that spills to `temp_folder` and uses UTC.

    Limits are those of `memory_bytes` and `engine_threads`.
    """
    connection = duckdb.connect(":memory:")
    folder = (
        Path(temp_folder) if temp_folder else Path(tempfile.gettempdir()) / f"seqmel-{os.getpid()}"
    )
    connection.execute(f"SET temp_directory = {literal(str(folder))}")
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    connection.execute(f"SET memory_limit = '{memory_bytes(memory_limit)}B'")
    connection.execute(f"SET threads = {engine_threads(threads)}")
    return connection
