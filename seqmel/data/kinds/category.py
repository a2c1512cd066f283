"""Categories: names, even if they are written as numbers, with one code per known value.

Codes: 0 is null, 1 is "unseen or rare", and from 2 on come the values by falling frequency. Null
has a code of its own only if training saw nulls. Otherwise a null is as unseen as any new value and
gets code 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import model_validator

from seqmel.core.errors import SchemaError
from seqmel.core.units import count_words
from seqmel.data.kinds.base import ColumnKind, ColumnSQL, FitOptions, Fitted
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, present_sql
from seqmel.data.sources.source import EventSource, ident, is_integer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FIRST",
    "NULL",
    "UNSEEN",
    "CategoryCodes",
    "CategoryKind",
    "NameKind",
    "category_codes",
    "category_counts_sql",
    "percent",
]

NULL = 0
UNSEEN = 1
FIRST = 2
_TOP = 30
"""Values with a bin of their own in the drift histogram."""
_SHOWN = 60  # characters of a value in words
_READ = 1_000
_COMMONEST = 3


class CategoryCodes(Fitted):
    """The known values of one column, most frequent first.

    They are in text form: 5411 and 5411.0 are both "5411".
    """

    values: tuple[str, ...]
    null: bool
    """Whether training saw nulls."""

    @model_validator(mode="after")
    def _known_once(self) -> CategoryCodes:
        if len(set(self.values)) < len(self.values):
            raise ValueError("a category has two codes")
        return self

    @property
    def size(self) -> int:
        """Number of codes: null, unseen or rare, and the known values."""
        return FIRST + len(self.values)

    @property
    def null_code(self) -> int:
        """The code of a null."""
        return NULL if self.null else UNSEEN


class NameKind:
    """What kinds of columns of names have in common: their values are text."""

    sql_type: ClassVar[str] = "VARCHAR"
    arrow_type: ClassVar[pa.DataType] = pa.int32()
    has_edges: ClassVar[bool] = False

    def value_sql(self, source: EventSource, column: str) -> str:
        """Return SQL for the text of the value."""
        return category_text(source, column)

    def facts(self, source: EventSource, column: str, where: str) -> dict[str, Any]:
        """Return nulls, number of values and the commonest values."""
        name = ident(column)
        nulls, distinct = source.row(
            f"SELECT count(*) FILTER ({name} IS NULL), count(DISTINCT {name}) FROM events "
            f"WHERE {where}"
        )
        common = source.rows(
            f"SELECT {name}::VARCHAR, count(*) AS n FROM events WHERE {name} IS NOT NULL GROUP BY "
            f"1 ORDER BY n DESC, 1 LIMIT {_COMMONEST}"
        )
        found = {"nulls": nulls, "distinct": distinct, "commonest": dict(common)}
        if where != "true":
            (found["events"],) = source.row(f"SELECT count(*) FROM events WHERE {where}")
        return found

    def contents(self, facts: Mapping[str, Any], events: int) -> str:
        """Return the commonest values and their fractions."""
        of = facts.get("events", events)
        return (
            f"{count_words(facts['distinct'], 'value')}: "
            f"{commonest_in_words(facts['commonest'], of)}"
        )


class CategoryKind(NameKind, ColumnKind[CategoryCodes]):
    """A category is a row of the embedding table, and has one logit per code."""

    role: ClassVar[str] = "categorical"
    rows_per_value: ClassVar[int] = 1
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("distinct", "count(DISTINCT {x})", "number of different values of {name}"),
    )
    fitted = CategoryCodes

    def fit(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        codes: Mapping[str, CategoryCodes],
        options: FitOptions,
    ) -> CategoryCodes:
        """Fit the codes on all events."""
        # No table is too rare to have a code.
        min_count = 1 if column == schema.source else options.min_count
        counts = category_counts_sql(source, column, present_sql(schema, column))
        (_, nulls, known), *frequent = source.rows(
            f"WITH counted AS MATERIALIZED ({counts}), sums AS (SELECT NULL::VARCHAR AS value, "
            "NULL::BIGINT AS n, coalesce(sum(n) FILTER (value IS NULL), 0) AS nulls, "
            "coalesce(sum(n) FILTER (value IS NOT NULL), 0) AS known FROM counted), frequent AS "
            f"(SELECT value, n, 0, 0 FROM counted WHERE value IS NOT NULL AND n >= {min_count} "
            f"ORDER BY n DESC, value LIMIT {options.max_categories}) SELECT value, nulls, known "
            "FROM (FROM sums UNION ALL FROM frequent) ORDER BY n DESC NULLS FIRST, value"
        )
        values = [value for value, *_ in frequent]
        return category_codes(column, values, nulls=nulls, known=known, label=source.label)

    def register(self, source: EventSource, column: str, index: int, fitted: CategoryCodes) -> None:
        """Create the table of (key, code), whose keys have the type of the column."""
        table = pa.table(
            {
                "text": pa.array(fitted.values, pa.string()),
                "__code": pa.array(range(FIRST, fitted.size), pa.int32()),
            }
        )
        source.connection.register("codes_given", table)
        source.query(f"CREATE OR REPLACE TABLE codes_{index} AS {_keys_sql(source, column)}")
        source.connection.unregister("codes_given")

    def encode_sql(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        index: int,
        fitted: CategoryCodes,
    ) -> ColumnSQL:
        """Return SQL for the code: that of null for events of a table without the column."""
        raw = _raw_sql(source, column)
        table = f"codes_{index}"
        there = present_sql(schema, column)
        absent = "" if there == "true" else f"WHEN NOT {there} THEN {NULL} "
        return ColumnSQL(
            f"CASE {absent}WHEN {raw} IS NULL THEN {fitted.null_code} ELSE "
            f"coalesce({table}.__code, {UNSEEN}) END",
            f"LEFT JOIN (FROM {table}) {table} ON {raw} = {table}.__key",
        )

    def initial_rows(self, fitted: CategoryCodes, size: int) -> Tensor:
        """Return one random row per code."""
        import torch

        return torch.randn(fitted.size, size)

    def embed(
        self, columns: list[Tensor], codes: Tensor, layout: Mapping[str, Tensor], dtype: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the row of each code, with weight 1."""
        return codes + layout["begins"], codes.new_ones(codes.shape, dtype=dtype)

    def countable(self, fitted: CategoryCodes) -> int:
        """Return the number of codes."""
        return fitted.size

    def codes_of(self, values: Tensor, fitted: CategoryCodes) -> Tensor:
        """Return the codes."""
        return values

    def classes(self, fitted: CategoryCodes) -> int:
        """Return the number of codes."""
        return fitted.size

    def class_of(self, values: Tensor, edges: Tensor) -> Tensor:
        """Return the codes."""
        return values.long()

    def about(self, fitted: CategoryCodes) -> str:
        """Return the number of values."""
        return f"{len(fitted.values):,} categories" + (", nulls" if fitted.null else "")

    def bins(self, fitted: CategoryCodes, values: Sequence[npt.NDArray[Any]]) -> tuple[int, None]:
        """Return one bin per code; the last is for all values beyond the first ones."""
        return min(fitted.size, FIRST + _TOP + 1), None

    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return whether a value is unseen or rare."""
        unknown: npt.NDArray[np.bool_] = values == UNSEEN
        return unknown

    unknown_bin: ClassVar[int] = UNSEEN
    unknown_words: ClassVar[str] = "has values that the training did not see"


def category_counts_sql(source: EventSource, column: str, where: str = "true") -> str:
    """Return SQL of the values of a category as text, and their counts.

    Counts of partitions of the events can be added.
    """
    counts = f"(SELECT {ident(column)}, count(*) AS __n FROM events WHERE {where} GROUP BY 1)"
    return (
        f"SELECT {category_text(source, column)} AS value, sum(__n)::BIGINT AS n FROM "
        f"{counts} GROUP BY 1"
    )


def category_codes(
    column: str, frequent: list[str], *, nulls: int, known: int, label: str
) -> CategoryCodes:
    """Return the codes of a column: values by falling frequency, ties in byte order.

    Args:
        column: name of the column.
        frequent: the frequent values, most frequent first.
        nulls: number of nulls.
        known: number of events with a value.
        label: name of the input, for the message.

    Raises:
        SchemaError: there are no values.
    """
    if not known:
        raise SchemaError(
            f"Column {column!r} of {label} holds only nulls. Leave it out of schema.categorical."
        )
    return CategoryCodes(values=tuple(frequent), null=nulls > 0)


def _keys_sql(source: EventSource, column: str) -> str:
    """Return SQL for keys. Integers are joined as integers, which is faster than as text.

    "05" and "5.4" are not the text of an integer and have no key.
    """
    if is_integer(source.columns[column]):
        key = "TRY_CAST(text AS HUGEINT)"
        return f"SELECT {key} AS __key, __code FROM codes_given WHERE {key}::VARCHAR = text"
    return "SELECT text AS __key, __code FROM codes_given"


def _raw_sql(source: EventSource, column: str) -> str:
    """Return SQL for the value that is joined with `__key`."""
    if is_integer(source.columns[column]):
        return f"{ident(column)}::HUGEINT"
    return category_text(source, column)


def commonest_in_words(counts: Mapping[str, int], of: int) -> str:
    """Return values and their fractions in words. Long values are shortened."""
    return ", ".join(f"{shortened(value)} ({percent(n / of)})" for value, n in counts.items())


def shortened(text: str) -> str:
    """Return a value on one line, and the beginning of one of more than 60 characters."""
    line = " ".join(text[:_READ].split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def percent(part: float) -> str:
    """Return a fraction in words, in percent."""
    return f"{part:.0%}" if part >= 0.01 else f"{part:.1%}" if part >= 0.001 else "<0.1%"
