"""CSV files as the rows of the view or table `raw`: which type a column has is seen from all of its values.

DuckDB would guess at dates too, and reads 04/12/2023 as the 4th of December and 04/12/23 as the 23rd of December 2004, each file for
itself. So dates come as text here; a column of nothing but ISO 8601 text gets a type, and what else there is stays text until
the schema says how it is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from seqmel.data.source import ident, literal
from seqmel.data.times import iso_type_sql

__all__ = ["CSV", "csv_sql", "register_csv"]

CSV = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz")
"""How the names of CSV files end."""

_NO_DATES = "auto_type_candidates = ['BOOLEAN', 'BIGINT', 'DOUBLE', 'TIME', 'VARCHAR']"


def csv_sql(files: Sequence[str]) -> str:
    """SQL for the rows of CSV files, dates as text.

    All rows are looked at for the types: one guessed from the first rows makes 4.5 a 5 where they were whole numbers.
    """
    listed = "[" + ", ".join(literal(f) for f in files) + "]"
    return f"read_csv({listed}, union_by_name = true, header = true, sample_size = -1, {_NO_DATES})"


def register_csv(connection: duckdb.DuckDBPyConnection, rows: str, *, read: bool) -> None:
    """Make `raw` of the rows that `csv_sql` names: a table, parsed once, if they are to be read; else a view of the files.

    Raises:
        duckdb.Error: they cannot be read.
    """
    if read:
        connection.execute(f"CREATE TABLE raw AS FROM {rows}")
    found = _dates(connection, "raw" if read else rows)
    if not read:
        typed = ", ".join(f"{ident(name)}::{kind} AS {ident(name)}" for name, kind in found.items())
        connection.execute(f"CREATE VIEW raw AS SELECT *{f' REPLACE ({typed})' if typed else ''} FROM {rows}")
        return
    for name, kind in found.items():
        connection.execute(f"ALTER TABLE raw ALTER COLUMN {ident(name)} TYPE {kind}")


def _dates(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[str, str]:
    """Column -> type, of the columns of ISO 8601 text."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()
    texts = [name for name, kind, *_ in described if kind == "VARCHAR"]
    if not texts:
        return {}
    kinds = connection.execute(
        f"SELECT {', '.join(iso_type_sql(ident(name)) for name in texts)} FROM {rows}"
    ).fetchone()
    return {name: kind for name, kind in zip(texts, kinds or (), strict=True) if kind is not None}
