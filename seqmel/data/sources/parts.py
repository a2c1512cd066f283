"""Events in parts: row ranges of files or batches of a table, each opened as an `EventSource`.

Used by engines that distribute the parts over machines. A part is read by the same code as the
whole, with the columns and types of the whole. Its `__row` is the position among all events, so
results of parts can be merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from seqmel.data.sources.csv_files import CSV
from seqmel.data.sources.reading import check_even, event_files, nan_as_null, partitioned
from seqmel.data.sources.source import ROW, EventSource, connect, ident, literal, reading

__all__ = ["CLIENT_ROW", "Part", "PartReader", "Shape", "parts_of", "shape_of"]

CLIENT_ROW = "__client_row"
"""Column beside `__row`: its minimum over the rows of a client is the rank of the client."""

_FILE_ROWS = 40  # bits of a position for the rows of one file


@dataclass(frozen=True)
class Shape:
    """What all parts have in common.

    Attributes:
        label: The name of the events in messages.
        raw: Column -> DuckDB type in the input, without `__row`.
        columns: Column -> DuckDB type, with one row per event.
        nested: Whether a row is a client with list columns.
        client: The client column.
    """

    label: str
    raw: dict[str, str]
    columns: dict[str, str]
    nested: bool
    client: str


@dataclass(frozen=True)
class Part:
    """Rows `begin` to `end` of the `number`-th file. Without `end` it is the whole file."""

    number: int
    file: str
    begin: int = 0
    end: int | None = None


def shape_of(source: EventSource, client: str) -> Shape:
    """Return the shape of the parts of these events."""
    raw = {name: kind for name, kind, *_ in source.rows("DESCRIBE raw")}
    return Shape(
        source.label,
        {n: k for n, k in raw.items() if n != ROW},
        source.columns,
        source.nested,
        client,
    )


def parts_of(path: str, rows: int) -> Iterator[Part]:
    """Yield the parts of a file, folder or glob.

    `rows` rows of Parquet files, or a whole CSV file.
    """
    files = event_files(path)
    parquet = [f for f in files if not f.lower().endswith(CSV)]
    sizes: dict[str, int] = {}
    if parquet:
        listed = ", ".join(literal(f) for f in parquet)
        with reading(path):
            found = (
                connect()
                .execute(f"SELECT file_name, num_rows FROM parquet_file_metadata([{listed}])")
                .fetchall()
            )
        sizes = dict(found)
    for number, file in enumerate(files):
        if file not in sizes:
            yield Part(number, file)
        for begin in range(0, sizes.get(file, 0), rows):
            yield Part(number, file, begin, min(begin + rows, sizes[file]))


class PartReader:
    """Opens parts one after another. The views of `source` show the current part.

    Args:
        shape: The shape of all parts.
        memory_limit: See `open_events`.
        threads: See `open_events`.
        temp_folder: See `open_events`.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        memory_limit: str | None = None,
        threads: int = 1,
        temp_folder: Path | None = None,
    ) -> None:
        connection = connect(memory_limit=memory_limit, threads=threads, temp_folder=temp_folder)
        self.shape = shape
        self.source = EventSource(connection, shape.label, shape.columns, nested=shape.nested)

    def file(self, part: Part) -> EventSource:
        """Open the events of a part of a file."""
        self.source.query(f"CREATE OR REPLACE VIEW raw AS {self._file_sql(part)}")
        return self._open_views()

    def table(self, table: pa.Table) -> EventSource:
        """Open the events of a table with the column `__row`."""
        self.source.connection.register("raw_given", table)
        self.source.query("CREATE OR REPLACE VIEW raw AS FROM raw_given")
        return self._open_views()

    def _file_sql(self, part: Part) -> str:
        """Return SQL for the rows of a part, with the columns and types of all files."""
        file = literal(part.file)
        base = part.number << _FILE_ROWS
        if part.end is not None:
            hive = "true" if partitioned(self.shape.label, [part.file]) else "false"
            read = f"read_parquet({file}, hive_partitioning = {hive})"
            row = "file_row_number"
            if row in map(str.casefold, self._columns(f"SELECT * FROM {read}")):
                # A column of this name hides DuckDB's own.
                read = f"(SELECT *, row_number() OVER () - 1 AS {ROW} FROM {read})"
                row = ROW
            where = f"WHERE {row} >= {part.begin} AND {row} < {part.end}"
        else:
            there = self._columns(f"SELECT * FROM read_csv({file}, header = true)")
            types = ", ".join(
                f"{literal(n)}: {literal(_parse_type(k))}"
                for n, k in self.shape.raw.items()
                if n in there
            )
            read = f"read_csv({file}, header = true, types = {{{types}}})"
            where = ""
            row = "row_number() OVER () - 1"
        there = self._columns(f"SELECT * FROM {read}")
        columns = ", ".join(
            f"{ident(name)}::{kind} AS {ident(name)}"
            if name in there
            else f"NULL::{kind} AS {ident(name)}"
            for name, kind in self.shape.raw.items()
        )
        return f"SELECT {columns}, {row} + {base} AS {ROW} FROM {read} {where}"

    def _columns(self, sql: str) -> set[str]:
        return {name for name, *_ in self.source.rows(f"DESCRIBE {sql}")}

    def _open_views(self) -> EventSource:
        shape = self.shape
        client = ident(self.shape.client)
        if not shape.nested:
            chosen = ", ".join(ident(name) for name in (*shape.columns, ROW))
            self.source.query(
                f"CREATE OR REPLACE VIEW events AS SELECT {nan_as_null(shape.columns)}, {ROW} AS "
                f"{CLIENT_ROW} FROM (SELECT {chosen} FROM raw)"
            )
            return self.source
        lists = [name for name in shape.columns if name != shape.client]
        check_even(self.source.connection, shape.label, shape.client, lists)
        unnested = ", ".join(f"unnest({ident(name)}) AS {ident(name)}" for name in lists)
        self.source.query("CREATE OR REPLACE VIEW nested AS FROM raw")
        self.source.query(
            f"CREATE OR REPLACE VIEW events AS SELECT {nan_as_null(shape.columns)}, row_number() "
            f"OVER () AS {ROW} FROM (SELECT {client}, {ROW} AS {CLIENT_ROW}, {unnested} FROM raw)"
        )
        return self.source

    def without_events(self) -> str:
        """Return SQL for the clients without events in a part with list columns.

        Its columns are `client` and `__client_row`.
        """
        first = next(name for name in self.shape.columns if name != self.shape.client)
        return (
            f"SELECT {ident(self.shape.client)} AS client, {ROW} AS {CLIENT_ROW} FROM nested"
            f" WHERE coalesce(len({ident(first)}), 0) = 0"
        )


def _parse_type(kind: str) -> str:
    """Return the type to parse a CSV column with. Dates are parsed as text, and then cast."""
    return "VARCHAR" if kind.startswith(("DATE", "TIMESTAMP")) else kind
