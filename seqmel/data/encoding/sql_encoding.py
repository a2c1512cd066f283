"""Codes of categories and scales of numbers in SQL: the vocabulary becomes small tables, and encoding is a join with them."""

from __future__ import annotations

import pyarrow as pa

from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, time_sql
from seqmel.data.sources.source import EventSource, ident, is_integer
from seqmel.data.vocabulary import CLIP, FIRST, UNSEEN, CategoryCodes, Vocabulary

__all__ = ["coded_sql", "logarithm_sql", "register_codes"]


def register_codes(source: EventSource, schema: EventSchema, vocabulary: Vocabulary) -> None:
    """One table a category (key, code), keyed in the type that the column has here; one table a scale within a category.

    Their column names begin with two underscores, so that they are not taken for columns of the events. They are joined as
    `(FROM table)`, which has no `rowid` that a column of the events could be confused with.
    """
    for i, column in enumerate(schema.categorical):
        values = vocabulary.categorical[column].values
        codes = pa.table(
            {"text": pa.array(values, pa.string()), "__code": pa.array(range(FIRST, FIRST + len(values)), pa.int32())}
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
    """Integers are joined as integers, which is faster than as text; "05" and "5.4" are no integer's text and have no key."""
    if is_integer(source.columns[column]):
        key = "TRY_CAST(text AS HUGEINT)"
        return f"SELECT {key} AS __key, __code FROM codes_given WHERE {key}::VARCHAR = text"
    return "SELECT text AS __key, __code FROM codes_given"


def _code_sql(source: EventSource, column: str, i: int, codes: CategoryCodes) -> str:
    """SQL for the code of a category, the `i`-th, where `codes_i` is joined by `_raw_sql`."""
    raw = _raw_sql(source, column)
    return f"CASE WHEN {raw} IS NULL THEN {codes.null_code} ELSE coalesce(codes_{i}.__code, {UNSEEN}) END"


def _raw_sql(source: EventSource, column: str) -> str:
    """SQL for what a category is looked up by in the `__key` of its codes."""
    if is_integer(source.columns[column]):
        return f"{ident(column)}::HUGEINT"
    return category_text(source, column)


def logarithm_sql(x: str, log_unit: str) -> str:
    """SQL for the signed logarithm of a number in units, for the number itself where the unit is null."""
    return f"CASE WHEN {log_unit} IS NULL THEN {x} ELSE sign({x}) * ln(1 + abs({x}) / {log_unit}) END"


def _scaled_sql(x: str, log_unit: str | None, center: str, scale: str) -> str:
    """SQL for a scaled number, NaN where it is null; all four are SQL, for the first and the scale's `log_unit`, center and scale."""
    z = f"(({logarithm_sql(x, log_unit) if log_unit else x}) - {center}) / {scale}"
    return f"CASE WHEN {x} IS NULL THEN 'NaN'::FLOAT ELSE greatest(-{CLIP}, least({CLIP}, {z}))::FLOAT END"


def coded_sql(
    source: EventSource, schema: EventSchema, vocabulary: Vocabulary, keys: tuple[str, ...], join: str = ""
) -> str:
    """SQL for the encoded events, in no order: `keys`, the time, then the features; after `register_codes`.

    Codes come first, then numbers, since a number may be scaled within a code.

    Args:
        source, schema, vocabulary: see `encode`.
        keys: more columns of the events that are wanted, or of what is joined.
        join: SQL that joins more to the events.
    """
    places = {c: i for i, c in enumerate(schema.categorical)}
    codes = [f"{_code_sql(source, c, i, vocabulary.categorical[c])} AS {ident(c)}" for c, i in places.items()]
    numbers = [f"{ident(c)}::DOUBLE AS {ident(c)}" for c in schema.numeric]
    joins = [
        f"LEFT JOIN (FROM codes_{i}) codes_{i} ON {_raw_sql(source, c)} = codes_{i}.__key" for c, i in places.items()
    ]
    coded = (
        f"SELECT {', '.join((*keys, f'{time_sql(source, schema)} AS {ident(schema.time)}', *codes, *numbers))}"
        f" FROM events {join} {' '.join(joins)}"
    )
    scaled, scale_joins = [], []
    for i, column in enumerate(schema.numeric):
        scales, x = vocabulary.numeric[column], ident(column)
        if scales.by:
            s = f"scales_{i}"
            scaled.append(f"{_scaled_sql(x, f'{s}.__log_unit', f'{s}.__center', f'{s}.__scale')} AS {x}")
            scale_joins.append(f"JOIN (FROM {s}) {s} ON {s}.__code = {ident(scales.by)}")
        else:
            unit = repr(scales.overall.log_unit) if scales.overall.log_unit else None
            scaled.append(f"{_scaled_sql(x, unit, repr(scales.overall.center), repr(scales.overall.scale))} AS {x}")
    columns = [*keys, ident(schema.time), *(ident(c) for c in schema.categorical), *scaled]
    return f"SELECT {', '.join(columns)} FROM ({coded}) {' '.join(scale_joins)}"
