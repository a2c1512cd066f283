"""What the prepare scripts share: find, read and check the raw files, and write Parquet.

A script states three things and nothing else: the file names, the columns of each file, and one
query per result. All results of a run are complete before the first of them replaces an older file.
"""

from __future__ import annotations

import argparse
import csv
import glob
import gzip
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

# Each raw file, as the names that it goes by.
Files = Sequence[tuple[str, ...]]
# Takes a connection and the path of each raw file; gives, by result name, the query for its rows in
# their final order.
Convert = Callable[..., Mapping[str, str]]


class RawDataError(Exception):
    """Raw files that are missing, or not as they were published."""


class Column(NamedTuple):
    """How text becomes a value: SQL over the column name {0}; null if it cannot be read."""

    sql: str
    may_be_empty: bool = False


# A cast alone would round '1.5' to 2, and take 'nan' for a number.
INTEGER = Column(
    r"CASE WHEN regexp_full_match({0}, '-?\d+(\.0*)?') THEN try_cast({0} AS BIGINT) END"
)
NUMBER = Column("CASE WHEN isfinite(try_cast({0} AS DOUBLE)) THEN try_cast({0} AS DOUBLE) END")
TEXT = Column("{0}")
TEXT_OR_NULL = Column("{0}", may_be_empty=True)


def main(script: str, description: str | None, files: Files, convert: Convert) -> int:
    """Run a prepare script from its command line; on bad input exit with code 2 and one line."""
    args = _arguments(description, Path(script).resolve().parent)
    try:
        _prepare(_find(args.raw_folder, files), args.out, convert)
    except (RawDataError, OSError, duckdb.Error) as error:
        print(f"{Path(script).name}: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def load(
    con: duckdb.DuckDBPyConnection, table: str, path: Path, columns: Mapping[str, Column]
) -> None:
    """Read the named columns of a delimited file; rowid is the order of the file."""
    header, delimiter = _header(path)
    _require(columns, header, path)
    values = ", ".join(f'{_parsed(name, column)} AS "{name}"' for name, column in columns.items())
    faults = " ".join(_fault(name, column) for name, column in columns.items())
    texts = ", ".join(f'nullif(trim("{name}"), \'\') AS "{name}"' for name in columns)
    query = f"""
        CREATE TABLE {table} AS SELECT {values}, CASE {faults} END AS fault
        FROM (SELECT {texts} FROM read_csv(?, columns = ?, delim = ?, header = true,
            auto_detect = false, quote = '"', escape = '"')) AS raw"""
    try:
        con.execute(query, [glob.escape(str(path)), dict.fromkeys(header, "VARCHAR"), delimiter])
    except duckdb.InvalidInputException as error:
        raise RawDataError(f"{path}: {_one_line(error)}") from None
    fault = f"SELECT rowid + 1, fault FROM {table} WHERE fault IS NOT NULL ORDER BY rowid"
    refuse(con, fault, path, "data row {}: {}")
    refuse(con, f"SELECT 1 WHERE NOT EXISTS (FROM {table})", path, "a header but no rows")


def refuse(con: duckdb.DuckDBPyConnection, query: str, path: Path, message: str) -> None:
    """Stop with a message about the file, filled from the first row of the query, if any."""
    row = con.execute(query + " LIMIT 1").fetchone()
    if row:
        raise RawDataError(f"{path}: {message.format(*row)}")


def refuse_repeats(con: duckdb.DuckDBPyConnection, table: str, column: str, path: Path) -> None:
    """Stop where a column that should name each row has a value twice."""
    query = f"SELECT {column} FROM {table} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
    refuse(con, query, path, f"more than one row for {column} {{}}")


def _arguments(description: str | None, default_out: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "raw_folder", type=Path, metavar="RAW_FOLDER", help="folder of the raw files"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=default_out,
        metavar="OUT_FOLDER",
        help="default: %(default)s",
    )
    return parser.parse_args()


def _prepare(raw_files: list[Path], out: Path, convert: Convert) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # Tables on disk and results beside their final place: no need for memory, and a move is then
    # one step.
    with tempfile.TemporaryDirectory(dir=out, prefix=".prepare-") as work:
        with duckdb.connect(Path(work) / "raw.duckdb") as con:
            queries = convert(con, *raw_files)
            rows = {name: _write(con, query, Path(work) / name) for name, query in queries.items()}
        for name, count in rows.items():
            os.replace(Path(work) / name, out / f"{name}.parquet")
            print(f"{out / name}.parquet: {count:,} rows")


def _write(con: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    target = str(path).replace("'", "''")
    row = con.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)").fetchone()
    return int(row[0]) if row else 0


def _find(folder: Path, files: Files) -> list[Path]:
    wanted = ", ".join(" or ".join(names) for names in files)
    if not folder.is_dir():
        raise RawDataError(f"no folder {folder}; it should hold {wanted}")
    return [_first_there(folder, names) for names in files]


def _first_there(folder: Path, names: tuple[str, ...]) -> Path:
    for name in (*names, *(f"{name}.gz" for name in names)):
        if (folder / name).is_file():
            return folder / name
    raise RawDataError(f"{folder} has no file {' or '.join(names)} (or the same with .gz)")


def _header(path: Path) -> tuple[list[str], str]:
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", encoding="utf-8-sig", errors="replace") as file:
        line = file.readline()
    delimiter = max(",;", key=line.count)  # copies of these sets go about with either
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))], delimiter


def _require(columns: Mapping[str, Column], header: list[str], path: Path) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise RawDataError(
            f"{path} has no column {', '.join(missing)}; it has: {', '.join(header) or 'nothing'}"
        )


def _parsed(name: str, column: Column) -> str:
    return column.sql.format(f'raw."{name}"')


def _fault(name: str, column: Column) -> str:
    unreadable = f'raw."{name}" IS NOT NULL AND {_parsed(name, column)} IS NULL'
    branch = f"WHEN {unreadable} THEN 'cannot read {name} ''' || raw.\"{name}\" || ''''"
    if column.may_be_empty:
        return branch
    return f"WHEN raw.\"{name}\" IS NULL THEN '{name} is empty' {branch}"


def _one_line(error: Exception) -> str:
    """DuckDB ends its messages with pages of advice; the first three lines say what was wrong."""
    return "; ".join(line.strip() for line in str(error).splitlines()[:3])
