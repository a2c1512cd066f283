"""Read CSV files into the view or table `raw`.

The type of a column is inferred from all its values.

DuckDB also guesses date formats, for each file by itself: 04/12/2023 becomes 4 December, and
04/12/23 becomes 23 December 2004. So dates are read as text here. A column of ISO 8601 text only
gets a type. All other text stays text until the schema gives its format. Ids are numbers only if
the numbers give back their text. Categories keep the text that a model knows, in every file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import duckdb
import pyarrow as pa

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.schema import recognise_client
from seqmel.data.sources.source import ident, literal
from seqmel.data.sources.times import iso_type_sql
from seqmel.data.vocabulary import CategoryCodes

__all__ = ["CSV", "Categories", "Decimal", "csv_sql", "read_as_text", "register_csv", "with_texts"]

CSV = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz")
"""Suffixes of CSV files."""

Categories: TypeAlias = Mapping[str, CategoryCodes | None]
"""Columns known to be categories, with their codes if a model has them."""

Decimal: TypeAlias = Literal[".", ","]
"""Decimal mark of numbers in CSV files."""

_NUMBERS = "auto_type_candidates = ['BIGINT', 'HUGEINT', 'DOUBLE', 'VARCHAR']"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_SAMPLE_ROWS = 10_000
# Markers of missing values in pandas and R.
_NULL_TEXTS = ("NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "NaN", "nan", "<NA>")
_PLAIN_NUMBER = "regexp_full_match({0}, '-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?')"
# Larger real numbers have an exponent or a decimal point in the text of a category.
_FARTHEST_WHOLE = 1e15


def csv_sql(files: Sequence[str], texts: Sequence[str] = ()) -> str:
    """Return SQL for the rows of CSV files, with typed numbers and all else as text.

    All rows are read to infer types. A guess from the first rows could turn 4.5 into 5.

    Args:
        files: The CSV files.
        texts: Columns that stay text.
    """
    types = "".join(f", {literal(name)}: 'VARCHAR'" for name in texts)[2:]
    return (
        f"read_csv({_listed(files)}, sample_size = -1, "
        f"{_NUMBERS}{f', types = {{{types}}}' if texts else ''})"
    )


def _listed(files: Sequence[str]) -> str:
    return "[" + ", ".join(literal(f) for f in files) + "], union_by_name = true, header = true"


def register_csv(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    raw: str = "raw",
    *,
    client: str | None = None,
    categories: Categories | None = None,
    decimal: Decimal | None = None,
    read: bool,
) -> Decimal:
    """Create `raw` from CSV files: a table that is parsed once if `read`, else a view of the files.

    Args:
        connection: The DuckDB connection.
        files: The CSV files.
        raw: The name of the table or view.
        client: The client column. None recognises it by name.
        categories: Columns whose text is kept, see `open_events`.
        decimal: The decimal mark. None recognises a comma from the values, such as 12,50 or
            1.234,5. If all have three digits after the comma, it may separate thousands, and they
            stay text.
        read: Whether the files are read now.

    Returns:
        The decimal mark of the files.

    Raises:
        duckdb.Error: The files cannot be read.
        InputError: The text is UTF-16 or UTF-32, as its first bytes show.
    """
    _check_encoding(files)
    texts = _texts(connection, files, client, categories or {})
    everything = f"SELECT * FROM read_csv({_listed(files)}, all_varchar = true)"
    if decimal == ",":  # then 1.234 is no fraction, which only its text tells
        names = (name for name, *_ in connection.execute(f"DESCRIBE {everything}").fetchall())
        texts |= {name: _TYPE_BESIDE_COMMAS for name in names if name not in texts}
    rows = csv_sql(files, list(texts))
    if not read:
        found = _types(connection, rows, texts, commas=decimal is None)
        typed = ", ".join(f"{_typed(name, kind)} AS {ident(name)}" for name, kind in found.items())
        connection.execute(
            f"CREATE VIEW {raw} AS SELECT *{f' REPLACE ({typed})' if typed else ''} FROM {rows}"
        )
        return _mark_of(found, decimal)
    kinds = read_as_text(connection, files, texts, raw, commas=decimal is None)
    if kinds is None:
        connection.execute(f"CREATE OR REPLACE TABLE {raw} AS FROM {rows}")
        kinds = _types(connection, raw, texts, commas=decimal is None)
    for name, kind in kinds.items():
        as_type = "DOUBLE" if kind == _COMMA else kind
        connection.execute(
            f"ALTER TABLE {raw} ALTER COLUMN {ident(name)} TYPE {as_type} "
            f"USING {_typed(name, kind)}"
        )
    return _mark_of(kinds, decimal)


def _mark_of(kinds: Mapping[str, str], decimal: Decimal | None) -> Decimal:
    return decimal or ("," if _COMMA in kinds.values() else ".")


def _check_encoding(files: Sequence[str]) -> None:
    """Refuse UTF-16 and UTF-32, which spreadsheets call "Unicode text".

    DuckDB gives no clear error.
    """
    for file in files:
        if file.lower().endswith((".csv", ".tsv")):
            with open(file, "rb") as opened:
                begin = opened.read(4)
            if begin[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in begin:
                found = "UTF-32" if b"\0\0" in begin else "UTF-16"
                raise InputError(
                    f"{file} is text in {found}. Expected UTF-8: save it again as CSV in UTF-8."
                )


def _typed(name: str, kind: str) -> str:
    """Return SQL that casts a column of text to a type. Markers of missing numbers become null."""
    text = ident(name)
    if kind == _COMMA:
        plain = f"replace(replace(replace({text}, ' ', ''), '.', ''), ',', '.')"
        return f"CASE WHEN {text} NOT IN {_NULL_TEXTS} THEN {plain}::DOUBLE END"
    return (
        f"CASE WHEN {text} NOT IN {_NULL_TEXTS} THEN {text}::DOUBLE END"
        if kind == "DOUBLE"
        else f"{text}::{kind}"
    )


def read_as_text(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    texts: Mapping[str, str],
    table: str,
    *,
    commas: bool = False,
) -> dict[str, str] | None:
    """Read CSV files as text into a new table, and infer clear types.

    DuckDB's own inference over all rows takes ten times as long as reading. It is only needed if
    values may or may not be numbers, or may be quoted in an unusual way.

    Args:
        connection: The DuckDB connection.
        files: The CSV files.
        texts: Column -> SQL aggregate of its type, see `_texts`. The types of the others are
            inferred.
        table: The name of the new table.
        commas: Whether numbers with decimal commas are recognised too.

    Returns:
        Column -> type, for columns that do not stay text. None if a type is not clear; the table
        may then exist or not.
    """
    rows = f"read_csv({_listed(files)}, all_varchar = true, quote = '\"', escape = '\"')"
    try:
        connection.execute(f"CREATE TABLE {table} AS FROM {rows}")
    except duckdb.Error:  # the caller reads the files again, and reports the error
        return None
    names = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall()]
    kinds = {name: () if name in texts else tuple(_CLEAR_TYPE) for name in names}
    for sample in (f"(FROM {table} LIMIT {_SAMPLE_ROWS})", table):
        asked = ", ".join(_clear_type_sql(ident(name), kinds[name]) for name in names)
        found = dict(
            zip(
                names,
                connection.execute(f"SELECT {asked} FROM {sample}").fetchall()[0],
                strict=True,
            )
        )
        if "odd" in found.values():
            return None
        kinds = {name: _POSSIBLE_TYPES[kind] for name, kind in found.items()}
    typed = {name: kind for name, kind in found.items() if kind != "VARCHAR"}
    return typed | _types(
        connection, table, texts, [name for name in names if name not in typed], commas=commas
    )


_CLEAR_TYPE = {
    "BIGINT": "bool_and(TRY_CAST({0} AS BIGINT)::VARCHAR IS NOT DISTINCT FROM {0})",
    "VARCHAR": (
        "bool_or({0} IS NOT NULL AND TRY_CAST({0} AS DOUBLE) IS NULL AND TRY_CAST({0} AS "
        "HUGEINT) IS NULL)"
    ),
    "DOUBLE": (
        f"bool_and({_PLAIN_NUMBER}) AND bool_or(contains({{0}}, '.') OR "
        f"contains(lower({{0}}), 'e'))"
    ),
}
"""Type -> SQL aggregate: whether text clearly has this type and none of the previous ones."""


_POSSIBLE_TYPES = {"VARCHAR": (), "BIGINT": ("BIGINT", "VARCHAR"), "DOUBLE": ("VARCHAR", "DOUBLE")}
"""Type of the first rows -> possible types of all rows."""


def _clear_type_sql(name: str, kinds: Sequence[str]) -> str:
    """Return an SQL aggregate: the first type that the column clearly has, else 'odd'.

    Without any types to test it is VARCHAR.
    """
    whens = "".join(f" WHEN {_CLEAR_TYPE[kind].format(name)} THEN '{kind}'" for kind in kinds)
    other = "odd" if kinds else "VARCHAR"
    quoted = f"count({name}) = 0 OR bool_or(contains({name}, '\\') OR starts_with({name}, ''''))"
    return f"CASE WHEN {quoted} THEN 'odd'{whens} ELSE '{other}' END"


def _texts(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    client: str | None,
    categories: Categories,
) -> dict[str, str]:
    """Return the columns to parse as text.

    Column -> SQL aggregate of its type, with `{0}` the column.
    """
    described = connection.execute(
        f"DESCRIBE SELECT * FROM read_csv({_listed(files)}, all_varchar = true)"
    ).fetchall()
    names = [name for name, *_ in described]
    texts = {
        name: _CATEGORY_TYPE if codes is None else "NULL"
        for name, codes in categories.items()
        if name in names and _may_be_text(codes)
    }
    if client is None:
        try:
            client = recognise_client(names, "")
        except SchemaError:  # reported when the client column is needed
            return texts
    return texts | ({client: _CLIENT_TYPE} if client in names else {})


def with_texts(
    connection: duckdb.DuckDBPyConnection, table: pa.Table, texts: pa.Table, categories: Categories
) -> pa.Table:
    """Replace columns by the text of the CSV files where `register_csv` would have kept the text.

    Args:
        connection: A DuckDB connection to examine the text.
        table: List columns that were read without knowing the categories.
        texts: The text of some of its columns.
        categories: See `open_events`.
    """
    for name in (
        name
        for name, codes in categories.items()
        if name in texts.column_names and _may_be_text(codes)
    ):
        if categories[name] is None:
            connection.register("texts", pa.table({"value": texts.column(name)}))
            kinds = (
                f"SELECT {_CATEGORY_TYPE.format('v')} FROM (SELECT unnest(value) AS v FROM texts)"
            )
            ((kind,),) = connection.execute(kinds).fetchall()
            connection.unregister("texts")
            if kind is not None:
                continue
        table = table.set_column(table.column_names.index(name), name, texts.column(name))
    return table


def _may_be_text(codes: CategoryCodes | None) -> bool:
    """Return whether a category must be read as text. Without known codes the text decides."""
    return codes is None or not all(map(_may_be_number, codes.values))


def _may_be_number(value: str) -> bool:
    """Return whether this category text could be the rendering of a number or boolean."""
    if value in ("true", "false") or _WHOLE.fullmatch(value):
        return True
    try:
        number = float(value)
    except ValueError:
        return False
    whole = number.is_integer() and abs(number) < _FARTHEST_WHOLE
    return math.isfinite(number) and repr(number) == value and not whole


_ROUND_TRIP = (
    "count({0}) > 0 AND bool_and(TRY_CAST({0} AS BIGINT)::VARCHAR IS NOT DISTINCT FROM {0})"
)
_BOOLEAN = "bool_and(lower({0}) IN ('true', 'false'))"
_CLOCK = (
    "bool_and({0} SIMILAR TO '[0-9]{{1,2}}:[0-9]{{2}}(:[0-9]{{2}}([.][0-9]+)?)?' AND "
    "TRY_CAST({0} AS TIME) IS NOT NULL)"
)
# Integers with nulls in pandas.
_NULLED = "bool_and(regexp_full_match({0}, '(0|-?[1-9][0-9]{{0,14}})([.]0)?'))"

_CLIENT_TYPE = f"CASE WHEN {_ROUND_TRIP} THEN 'BIGINT' END"
_CATEGORY_TYPE = (
    f"CASE WHEN {_ROUND_TRIP} THEN 'BIGINT' WHEN {_NULLED} THEN 'DOUBLE' WHEN "
    f"{_BOOLEAN} THEN 'BOOLEAN' END"
)
_MARKED = f"bool_or({_PLAIN_NUMBER}) AND bool_and({_PLAIN_NUMBER} OR {{0}} IN {_NULL_TEXTS})"
_TYPE = (
    f"CASE WHEN {_BOOLEAN} THEN 'BOOLEAN' WHEN {_CLOCK} THEN 'TIME' WHEN {_MARKED} THEN "
    f"'DOUBLE' END"
)

_COMMA = "COMMA"
"""Stands for numbers with a decimal comma, which become DOUBLE."""
_COMMA_NUMBER = "regexp_full_match({0}, '[-+]?([0-9]+|[0-9]{{1,3}}([. ][0-9]{{3}})+)(,[0-9]+)?')"
_MOSTLY = f"bool_or({_COMMA_NUMBER}) AND bool_and({_COMMA_NUMBER} OR {{0}} IN {_NULL_TEXTS})"
_CLEAR_COMMA = (
    f"CASE WHEN {_MOSTLY} AND bool_or(regexp_matches({{0}}, "
    f"',([0-9]{{{{1,2}}}}|[0-9]{{{{4,}}}})$')) THEN '{_COMMA}' END"
)
_TYPE_BESIDE_COMMAS = (
    f"CASE WHEN {_ROUND_TRIP} THEN 'BIGINT' WHEN {_MOSTLY} THEN '{_COMMA}' ELSE {_TYPE} END"
)
"""The type of a column if commas are known to be decimal marks: 1.234 is a number of thousands."""


def _types(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    texts: Mapping[str, str],
    names: Sequence[str] | None = None,
    *,
    commas: bool = False,
) -> dict[str, str]:
    """Infer the types of columns of text: ISO 8601, booleans, and numbers.

    The types in `texts` are inferred too. What the first rows rule out is not tested on the others.

    Returns:
        Column -> type, for columns that have one.
    """
    if names is None:
        described = connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()
        names = [name for name, kind, *_ in described if kind == "VARCHAR"]
    asked = {
        name: [texts[name].format(ident(name))]
        if name in texts
        else [
            iso_type_sql(ident(name)),
            _TYPE.format(ident(name)),
            *([_CLEAR_COMMA.format(ident(name))] if commas else ()),
        ]
        for name in names
    }
    if not asked:
        return {}
    parts = [f"count({ident(name)}), {', '.join(sqls)}" for name, sqls in asked.items()]
    sample = f"(SELECT * FROM {rows} LIMIT {_SAMPLE_ROWS})"
    first = list(connection.execute(f"SELECT {', '.join(parts)} FROM {sample}").fetchall()[0])
    left: dict[str, str] = {}
    for name, sqls in asked.items():
        known, *kinds = first[: 1 + len(sqls)]
        del first[: 1 + len(sqls)]
        open_kinds = [
            sql for sql, kind in zip(sqls, kinds, strict=True) if kind is not None or not known
        ]
        if open_kinds:
            left[name] = f"coalesce({', '.join(open_kinds)}, NULL)"
    if not left:
        return {}
    found = connection.execute(f"SELECT {', '.join(left.values())} FROM {rows}").fetchall()[0]
    return {name: kind for name, kind in zip(left, found, strict=True) if kind is not None}
