"""CSV files as the rows of the view or table `raw`: which type a column has is seen from all of its values.

DuckDB would guess at dates too, and reads 04/12/2023 as the 4th of December and 04/12/23 as the 23rd of December 2004, each file for
itself. So dates come as text here; a column of nothing but ISO 8601 text gets a type, and what else there is stays text until
the schema says how it is written. Ids are numbers only where these give their text back, and categories keep the text by which a
model knows them, whatever the file of a day looks like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import duckdb
import pyarrow as pa

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.schema import recognise_client
from seqmel.data.sources.source import ident, literal
from seqmel.data.sources.times import iso_type_sql
from seqmel.data.vocabulary import CategoryCodes

__all__ = ["CSV", "Categories", "csv_sql", "read_as_text", "register_csv", "with_texts"]

CSV = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz")
"""How the names of CSV files end."""

Categories: TypeAlias = Mapping[str, CategoryCodes | None]
"""The columns that are known to be categories, and their codes where a model has some."""

_NUMBERS = "auto_type_candidates = ['BIGINT', 'HUGEINT', 'DOUBLE', 'VARCHAR']"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_LOOKED_AT = 10_000
_NOT_KNOWN = ("NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "NaN", "nan", "<NA>")  # as pandas and R write it
_PLAIN_NUMBER = "regexp_full_match({0}, '-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?')"
_FARTHEST_WHOLE = 1e15  # beyond it the text of a category that is a real number has an exponent or a point


def csv_sql(files: Sequence[str], texts: Sequence[str] = ()) -> str:
    """SQL for the rows of CSV files: numbers typed but for the columns `texts`, all else as text.

    All rows are looked at for the types: one guessed from the first rows makes 4.5 a 5 where they were whole numbers.
    """
    types = "".join(f", {literal(name)}: 'VARCHAR'" for name in texts)[2:]
    return f"read_csv({_listed(files)}, sample_size = -1, {_NUMBERS}{f', types = {{{types}}}' if texts else ''})"


def _listed(files: Sequence[str]) -> str:
    return "[" + ", ".join(literal(f) for f in files) + "], union_by_name = true, header = true"


def register_csv(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    *,
    client: str | None = None,
    categories: Categories | None = None,
    read: bool,
) -> None:
    """Make `raw` of the rows of CSV files: a table, parsed once, if they are to be read; else a view of the files.

    Args:
        connection: where to make it.
        files: of which all rows are.
        client: the client column; recognised by name where None.
        categories: columns of which the text is kept, see `open_events`.
        read: whether they are to be read.

    Raises:
        duckdb.Error: they cannot be read.
        InputError: text in another encoding than UTF-8, as its first bytes show.
    """
    _check_encoding(files)
    texts = _texts(connection, files, client, categories or {})
    rows = csv_sql(files, list(texts))
    if not read:
        found = _types(connection, rows, texts)
        typed = ", ".join(f"{_typed(name, kind)} AS {ident(name)}" for name, kind in found.items())
        connection.execute(f"CREATE VIEW raw AS SELECT *{f' REPLACE ({typed})' if typed else ''} FROM {rows}")
        return
    kinds = read_as_text(connection, files, texts, "raw")
    if kinds is None:
        connection.execute(f"CREATE OR REPLACE TABLE raw AS FROM {rows}")
        kinds = _types(connection, "raw", texts)
    for name, kind in kinds.items():
        connection.execute(f"ALTER TABLE raw ALTER COLUMN {ident(name)} TYPE {kind} USING {_typed(name, kind)}")


def _check_encoding(files: Sequence[str]) -> None:
    """UTF-16 and UTF-32, in which spreadsheets write "Unicode text", begin with a mark or have zero bytes; the engine says neither."""
    for file in files:
        if file.lower().endswith((".csv", ".tsv")):
            with open(file, "rb") as opened:
                begin = opened.read(4)
            if begin[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in begin:
                found = "UTF-32" if b"\0\0" in begin else "UTF-16"
                raise InputError(f"{file} is text in {found}. Expected UTF-8: save it again as CSV in UTF-8.")


def _typed(name: str, kind: str) -> str:
    """SQL for a column of text in the type that was found; a number that is marked as not known is null."""
    text = ident(name)
    return f"CASE WHEN {text} NOT IN {_NOT_KNOWN} THEN {text}::DOUBLE END" if kind == "DOUBLE" else f"{text}::{kind}"


def read_as_text(
    connection: duckdb.DuckDBPyConnection, files: Sequence[str], texts: Mapping[str, str], table: str
) -> dict[str, str] | None:
    """Read CSV files as text into a new table, and say which types its columns have where that is plain to see.

    To have DuckDB look at all rows for the types takes ten times as long as to read them. So it does only where values are written
    in an unusual way, which may be a number or not, or seem to be quoted in one.

    Args:
        connection: where to make the table.
        files: to read.
        texts: column -> SQL aggregate of its type, see `_texts`; of the others the type is found here.
        table: its name.

    Returns:
        Column -> type, of those that are not to stay text; None where it is not plain, with or without the table.
    """
    rows = f"read_csv({_listed(files)}, all_varchar = true, quote = '\"', escape = '\"')"
    try:
        connection.execute(f"CREATE TABLE {table} AS FROM {rows}")
    except duckdb.Error:  # whatever it is, it is found again, and told of
        return None
    names = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall()]
    kinds = {name: () if name in texts else tuple(_CLEAR) for name in names}
    for looked_at in (f"(FROM {table} LIMIT {_LOOKED_AT})", table):
        asked = ", ".join(_plain_type(ident(name), kinds[name]) for name in names)
        found = dict(zip(names, connection.execute(f"SELECT {asked} FROM {looked_at}").fetchall()[0], strict=True))
        if "odd" in found.values():
            return None
        kinds = {name: _STILL_OPEN[kind] for name, kind in found.items()}
    typed = {name: kind for name, kind in found.items() if kind != "VARCHAR"}
    return typed | _types(connection, table, texts, [name for name in names if name not in typed])


_CLEAR = {
    "BIGINT": "bool_and(TRY_CAST({0} AS BIGINT)::VARCHAR IS NOT DISTINCT FROM {0})",
    "VARCHAR": "bool_or({0} IS NOT NULL AND TRY_CAST({0} AS DOUBLE) IS NULL AND TRY_CAST({0} AS HUGEINT) IS NULL)",
    "DOUBLE": f"bool_and({_PLAIN_NUMBER}) AND bool_or(contains({{0}}, '.') OR contains(lower({{0}}), 'e'))",
}
"""Type -> SQL aggregate for whether a column of text clearly has it, and not one before."""


_STILL_OPEN = {"VARCHAR": (), "BIGINT": ("BIGINT", "VARCHAR"), "DOUBLE": ("VARCHAR", "DOUBLE")}
"""What the first rows show -> what all rows may."""


def _plain_type(name: str, kinds: Sequence[str]) -> str:
    """SQL aggregate: the first of these types that the column clearly has, else 'odd'; VARCHAR is left where none is named."""
    whens = "".join(f" WHEN {_CLEAR[kind].format(name)} THEN '{kind}'" for kind in kinds)
    other = "odd" if kinds else "VARCHAR"
    quoted = f"count({name}) = 0 OR bool_or(contains({name}, '\\') OR starts_with({name}, ''''))"
    return f"CASE WHEN {quoted} THEN 'odd'{whens} ELSE '{other}' END"


def _texts(
    connection: duckdb.DuckDBPyConnection, files: Sequence[str], client: str | None, categories: Categories
) -> dict[str, str]:
    """Column -> SQL aggregate of its type, of the columns that are to be parsed as text; `{0}` stands for the column."""
    described = connection.execute(f"DESCRIBE SELECT * FROM read_csv({_listed(files)}, all_varchar = true)").fetchall()
    names = [name for name, *_ in described]
    texts = {
        name: _CATEGORY_TYPE if codes is None else "NULL"
        for name, codes in categories.items()
        if name in names and _may_be_text(codes)
    }
    if client is None:
        try:
            client = recognise_client(names, "")
        except SchemaError:  # who needs it says so
            return texts
    return texts | ({client: _CLIENT_TYPE} if client in names else {})


def with_texts(
    connection: duckdb.DuckDBPyConnection, table: pa.Table, texts: pa.Table, categories: Categories
) -> pa.Table:
    """A table of list columns with the text that CSV files had in those columns that `register_csv` would keep as text.

    Args:
        connection: to look at the text with.
        table: what was made of the files without knowing the categories.
        texts: the text of some of its columns.
        categories: see `open_events`.
    """
    for name in (name for name, codes in categories.items() if name in texts.column_names and _may_be_text(codes)):
        if categories[name] is None:
            connection.register("texts", pa.table({"value": texts.column(name)}))
            kinds = f"SELECT {_CATEGORY_TYPE.format('v')} FROM (SELECT unnest(value) AS v FROM texts)"
            ((kind,),) = connection.execute(kinds).fetchall()
            connection.unregister("texts")
            if kind is not None:
                continue
        table = table.set_column(table.column_names.index(name), name, texts.column(name))
    return table


def _may_be_text(codes: CategoryCodes | None) -> bool:
    """Whether a category is to be read as text; where no model knows its codes, all of the text says what it is."""
    return codes is None or not all(map(_is_parsed_back, codes.values))


def _is_parsed_back(value: str) -> bool:
    """Whether a category may come of numbers or booleans, which give this text in whatever way they are written."""
    if value in ("true", "false") or _WHOLE.fullmatch(value):
        return True
    try:
        number = float(value)
    except ValueError:
        return False
    whole = number.is_integer() and abs(number) < _FARTHEST_WHOLE
    return math.isfinite(number) and repr(number) == value and not whole


_GIVEN_BACK = "count({0}) > 0 AND bool_and(TRY_CAST({0} AS BIGINT)::VARCHAR IS NOT DISTINCT FROM {0})"
_BOOLEAN = "bool_and(lower({0}) IN ('true', 'false'))"
_CLOCK = (
    "bool_and({0} SIMILAR TO '[0-9]{{1,2}}:[0-9]{{2}}(:[0-9]{{2}}([.][0-9]+)?)?' AND TRY_CAST({0} AS TIME) IS NOT NULL)"
)
_NULLED = "bool_and(regexp_full_match({0}, '(0|-?[1-9][0-9]{{0,14}})([.]0)?'))"  # whole numbers beside nulls in pandas

_CLIENT_TYPE = f"CASE WHEN {_GIVEN_BACK} THEN 'BIGINT' END"
_CATEGORY_TYPE = (
    f"CASE WHEN {_GIVEN_BACK} THEN 'BIGINT' WHEN {_NULLED} THEN 'DOUBLE' WHEN {_BOOLEAN} THEN 'BOOLEAN' END"
)
_MARKED = f"bool_or({_PLAIN_NUMBER}) AND bool_and({_PLAIN_NUMBER} OR {{0}} IN {_NOT_KNOWN})"
_TYPE = f"CASE WHEN {_BOOLEAN} THEN 'BOOLEAN' WHEN {_CLOCK} THEN 'TIME' WHEN {_MARKED} THEN 'DOUBLE' END"


def _types(
    connection: duckdb.DuckDBPyConnection, rows: str, texts: Mapping[str, str], names: Sequence[str] | None = None
) -> dict[str, str]:
    """Column -> type, of the columns of text that all have one: ISO 8601, true and false, numbers of which some are marked as not
    known, and what `texts` says.

    What the first rows show to be none is not looked for in the others.
    """
    if names is None:
        described = connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()
        names = [name for name, kind, *_ in described if kind == "VARCHAR"]
    asked = {
        name: [texts[name].format(ident(name))]
        if name in texts
        else [iso_type_sql(ident(name)), _TYPE.format(ident(name))]
        for name in names
    }
    if not asked:
        return {}
    parts = [f"count({ident(name)}), {', '.join(sqls)}" for name, sqls in asked.items()]
    looked_at = f"(SELECT * FROM {rows} LIMIT {_LOOKED_AT})"
    first = list(connection.execute(f"SELECT {', '.join(parts)} FROM {looked_at}").fetchall()[0])
    left: dict[str, str] = {}
    for name, sqls in asked.items():
        known, *kinds = first[: 1 + len(sqls)]
        del first[: 1 + len(sqls)]
        open_kinds = [sql for sql, kind in zip(sqls, kinds, strict=True) if kind is not None or not known]
        if open_kinds:
            left[name] = f"coalesce({', '.join(open_kinds)}, NULL)"
    if not left:
        return {}
    found = connection.execute(f"SELECT {', '.join(left.values())} FROM {rows}").fetchall()[0]
    return {name: kind for name, kind in zip(left, found, strict=True) if kind is not None}
