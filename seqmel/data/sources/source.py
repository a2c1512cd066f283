"""Events as one shape, whatever they came from: a DuckDB view with one row an event; and the SQL that is built on it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from seqmel.core.errors import ConfigError, InputError, OutputError, SchemaError, did_you_mean, shown
from seqmel.core.threads import asked_threads, usable_cores

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
]

RESERVED = re.compile(
    r"__(row|client|client_index|time|key|code|log_unit|center|scale|value|us|asked|events|[nmrx]|text_\d+)",
    re.IGNORECASE,
)
"""The names of columns that are added to those of the events."""

ROW = "__row"
"""The column that `EventSource` adds: a number that grows with the place of an event in the input. It breaks ties in time,
always the same way."""


@dataclass(frozen=True)
class EventSource:
    """Events as the DuckDB view `events`, one row an event, columns as they came but for NaN, which is null; and `__row`.

    Attributes:
        connection: the DuckDB connection that holds the view.
        label: what to call the events in a message, such as the path.
        columns: column name -> DuckDB type, without `__row`; list columns appear with the type of their elements.
        nested: True when the input has one row a client and list columns.
        left_out: column name -> why it is no event column (a partition key, one value a client).
        unreadable: column name -> why its values cannot be used.
        notes: what is to be said of how the events were read, a line each.
        client, time, time_format: what the input itself says of its columns, see `EventSchema`.
        whole: where the input has one row an event and Arrow reads the same in it as DuckDB, the input: Parquet files, a table, or the
            name of one of DuckDB's.
        files: the files of Parquet or CSV that the events lie in.
        checked: what was found when these events were checked, so that it is done once.
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
    whole: tuple[str, ...] | pa.Table | str | None = field(default=None, repr=False, compare=False)
    files: tuple[str, ...] = field(default=(), repr=False, compare=False)
    checked: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def query(self, sql: str, parameters: list[object] | None = None) -> duckdb.DuckDBPyConnection:
        """Run SQL; whatever goes wrong in the input becomes an `InputError` with one line."""
        with reading(self.label):
            return self.connection.execute(sql, parameters)

    def stream(self, sql: str, rows: int, *, beside: bool = False) -> pa.RecordBatchReader:
        """The result of a query as a stream of Arrow batches of `rows` rows; `beside` lets another query run meanwhile."""
        with reading(self.label):
            connection = self.connection.cursor() if beside else self.connection
            return connection.sql(sql).to_arrow_reader(rows)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query, as Python values."""
        with reading(self.label):
            return self.connection.execute(sql).fetchall()

    def row(self, sql: str) -> tuple[Any, ...]:
        """The only row of a query."""
        return self.rows(sql)[0]

    def require(self, column: str, option: str) -> None:
        """Raise a `SchemaError` when there is no such column; `option` says how another one is named."""
        if column not in self.columns:
            raise no_column(column, self.columns, self.label, option)
        if column in self.unreadable:
            raise SchemaError(f"Column {column!r} of {self.label} cannot be used: {self.unreadable[column]}.")

    def columns_of(self, file: str) -> list[str]:
        """The names of the columns of one of the files."""
        listed = f"[{literal(file)}]"
        read = f"read_csv({listed}, header = true)" if ".csv" in file or ".tsv" in file else f"read_parquet({listed})"
        return [name for name, *_ in self.rows(f"DESCRIBE SELECT * FROM {read}")]

    @property
    def is_empty(self) -> bool:
        """Whether there is no event and no client."""
        return not self.rows(f"SELECT 1 FROM {'nested' if self.nested else 'events'} LIMIT 1")

    def clients_sql(self, client: str) -> str:
        """SQL for one row a client: `client` and `first`, its order of appearance; clients with no events included."""
        if self.nested:
            return f"SELECT {ident(client)} AS client, {ROW} AS first FROM nested"
        return f"SELECT {ident(client)} AS client, min({ROW}) AS first FROM events GROUP BY 1"


def ident(name: str) -> str:
    """A column name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def is_integer(kind: str) -> bool:
    """Whether a DuckDB type is an integer of any size."""
    return bool(re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?", kind))


def is_real(kind: str) -> bool:
    """Whether a DuckDB type is a number with a fractional part."""
    return kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")


def row_of_table(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """SQL for the place of a row in a table of DuckDB; a column named `rowid` hides the engine's own."""
    names = (name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall())
    return "row_number() OVER () - 1" if any(name.casefold() == "rowid" for name in names) else "rowid"


def no_column(column: str, columns: dict[str, str], label: str, option: str) -> SchemaError:
    return SchemaError(
        f"No column {column!r} in {label}.{did_you_mean(column, columns)} It has: {shown(columns)}. {option}"
    )


@contextlib.contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn DuckDB's and Arrow's errors into one line that names the input."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise OutputError(
            f"The memory limit or the disk for temporary files was reached while reading {label}."
            f" Raise preparation.memory_limit or free space. ({first_line(error)})"
        ) from None
    except MemoryError:  # Arrow's is an ArrowException too
        raise
    except (duckdb.Error, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {label}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """What went wrong; of an error in a CSV file also the lines that follow, which say where or why."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    telling = 3 if "CSV Error" in lines[0] else 2 if "sniffing" in lines[0] else 1
    return re.sub(r"^[A-Za-z ]*Error: ", "", " ".join(lines[:telling]))


def connect(
    *, memory_limit: str | None = None, threads: int | None = None, temp_folder: str | os.PathLike[str] | None = None
) -> duckdb.DuckDBPyConnection:
    """A private in-memory DuckDB that spills to `temp_folder` and works in UTC.

    Its threads do not spin, so that OMP_NUM_THREADS, which keeps others from that, does not count here.
    """
    connection = duckdb.connect(":memory:")
    folder = Path(temp_folder) if temp_folder else Path(tempfile.gettempdir()) / f"seqmel-{os.getpid()}"
    connection.execute(f"SET temp_directory = {literal(str(folder))}")
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    if memory_limit:
        try:
            connection.execute(f"SET memory_limit = {literal(memory_limit)}")
        except duckdb.Error as error:
            raise ConfigError(f"preparation.memory_limit cannot be {memory_limit!r}: {first_line(error)}") from None
    connection.execute(f"SET threads = {int(threads or asked_threads() or usable_cores())}")
    return connection
