"""SQL for category codes and scaled numbers: encoding is a join with tables of the vocabulary."""

from __future__ import annotations

import pyarrow as pa

from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, present_sql, time_sql
from seqmel.data.sources.source import EventSource, ident, is_integer
from seqmel.data.vocabulary import CLIP, FIRST, NULL, UNSEEN, CategoryCodes, Vocabulary

__all__ = ["coded_sql", "logarithm_sql", "register_codes"]


def register_codes(source: EventSource, schema: EventSchema, vocabulary: Vocabulary) -> None:
    """Create a table (key, code) per category, and a table of scales per number within a category.

    Keys have the type of the column in this source. Column names begin with two underscores, to
    avoid clashes with columns of the events. The tables are joined as `(FROM table)`, which has no
    `rowid` to confuse with a column of the events.
    """
    for i, column in enumerate(schema.categorical):
        values = vocabulary.categorical[column].values
        codes = pa.table(
            {
                "text": pa.array(values, pa.string()),
                "__code": pa.array(range(FIRST, FIRST + len(values)), pa.int32()),
            }
        )
        source.connection.register("codes_given", codes)
        source.query(f"CREATE OR REPLACE TABLE codes_{i} AS {_keys_sql(source, column)}")
        source.connection.unregister("codes_given")
    for i, column in enumerate(schema.numeric):
        scales = vocabulary.numeric[column]
        if scales.by:
            rows = [scales.of_code(code) for code in range(vocabulary.categorical[scales.by].size)]
            table = pa.table({
                "__code": pa.array(range(len(rows)), pa.int32()),
                "__log_unit": pa.array([s.log_unit for s in rows], pa.float64()),
                "__center": pa.array([s.center for s in rows], pa.float64()),
                "__scale": pa.array([s.scale for s in rows], pa.float64()),
            })  # fmt: skip
            source.connection.register("scales_given", table)
            source.query(f"CREATE OR REPLACE TABLE scales_{i} AS SELECT * FROM scales_given")
            source.connection.unregister("scales_given")


def _keys_sql(source: EventSource, column: str) -> str:
    """Return SQL for keys. Integers are joined as integers, which is faster than as text.

    "05" and "5.4" are not the text of an integer and have no key.
    """
    if is_integer(source.columns[column]):
        key = "TRY_CAST(text AS HUGEINT)"
        return f"SELECT {key} AS __key, __code FROM codes_given WHERE {key}::VARCHAR = text"
    return "SELECT text AS __key, __code FROM codes_given"


def _code_sql(
    source: EventSource, schema: EventSchema, column: str, i: int, codes: CategoryCodes
) -> str:
    """Return SQL for the code of the `i`-th category, with `codes_i` joined by `_raw_sql`.

    It is that of null for events of a table without the column.
    """
    raw = _raw_sql(source, column)
    there = present_sql(schema, column)
    absent = "" if there == "true" else f"WHEN NOT {there} THEN {NULL} "
    return (
        f"CASE {absent}WHEN {raw} IS NULL THEN {codes.null_code} ELSE "
        f"coalesce(codes_{i}.__code, {UNSEEN}) END"
    )


def _raw_sql(source: EventSource, column: str) -> str:
    """Return SQL for the value that is joined with `__key`."""
    if is_integer(source.columns[column]):
        return f"{ident(column)}::HUGEINT"
    return category_text(source, column)


def logarithm_sql(x: str, log_unit: str) -> str:
    """Return SQL for the signed logarithm of a number, or the number itself if the unit is null."""
    return (
        f"CASE WHEN {log_unit} IS NULL THEN {x} ELSE sign({x}) * ln(1 + abs({x}) / {log_unit}) END"
    )


def _scaled_sql(x: str, log_unit: str | None, center: str, scale: str) -> str:
    """Return SQL for a scaled number, NaN for null. All arguments are SQL expressions."""
    z = f"(({logarithm_sql(x, log_unit) if log_unit else x}) - {center}) / {scale}"
    return (
        f"CASE WHEN {x} IS NULL THEN 'NaN'::FLOAT ELSE greatest(-{CLIP}, least({CLIP}, "
        f"{z}))::FLOAT END"
    )


def coded_sql(
    source: EventSource,
    schema: EventSchema,
    vocabulary: Vocabulary,
    keys: tuple[str, ...],
    join: str = "",
) -> str:
    """Return SQL for the encoded events, unordered: `keys`, time and features.

    `register_codes` must run first. Codes are computed before numbers, because a number may be
    scaled within a category.

    Args:
        source: See `encode`.
        schema: See `encode`.
        vocabulary: See `encode`.
        keys: Further columns of the events or of the join.
        join: SQL that joins more tables to the events.
    """
    places = {c: i for i, c in enumerate(schema.categorical)}
    codes = [
        f"{_code_sql(source, schema, c, i, vocabulary.categorical[c])} AS {ident(c)}"
        for c, i in places.items()
    ]
    numbers = [f"{ident(c)}::DOUBLE AS {ident(c)}" for c in schema.numeric]
    joins = [
        f"LEFT JOIN (FROM codes_{i}) codes_{i} ON {_raw_sql(source, c)} = codes_{i}.__key"
        for c, i in places.items()
    ]
    time = f"{time_sql(source, schema)} AS {ident(schema.time)}"
    coded_columns = ", ".join((*keys, time, *codes, *numbers))
    coded = f"SELECT {coded_columns} FROM events {join} {' '.join(joins)}"
    scaled: list[str] = []
    scale_joins: list[str] = []
    for i, column in enumerate(schema.numeric):
        scales = vocabulary.numeric[column]
        x = ident(column)

        if scales.by:
            s = f"scales_{i}"
            scaled.append(
                f"{_scaled_sql(x, f'{s}.__log_unit', f'{s}.__center', f'{s}.__scale')} AS {x}"
            )
            scale_joins.append(f"JOIN (FROM {s}) {s} ON {s}.__code = {ident(scales.by)}")
        else:
            unit = repr(scales.overall.log_unit) if scales.overall.log_unit else None
            scaled.append(
                f"{_scaled_sql(x, unit, repr(scales.overall.center), repr(scales.overall.scale))} "
                f"AS {x}"
            )
    chosen = [*keys, ident(schema.time), *(ident(c) for c in schema.categorical), *scaled]
    return f"SELECT {', '.join(chosen)} FROM ({coded}) {' '.join(scale_joins)}"
