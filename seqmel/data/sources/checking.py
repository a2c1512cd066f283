"""SQL for the clients, times and categories of events, and checks that events can be used."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from seqmel.core.errors import InputError, SchemaError, shown
from seqmel.core.units import DAY_US, count_words
from seqmel.data.schema import EventSchema
from seqmel.data.sources.source import (
    EventSource,
    ident,
    is_integer,
    is_real,
    literal,
    type_in_words,
)
from seqmel.data.sources.times import text_time_sql

__all__ = [
    "DAY_US",
    "FARTHEST_US",
    "MICROS_PER_UNIT",
    "EventTimes",
    "Unusable",
    "category_text",
    "check_columns",
    "missing",
    "no_numbers",
    "present_sql",
    "strange_times",
    "time_sql",
    "times_key",
    "times_of",
]

FARTHEST_US = 2**62
_YEAR_US = 365 * DAY_US
# A time is far if it is this many years, and times the middle half of all, away from that half.
_FAR = 10
_COARSE = ("TIMESTAMP_S", "TIMESTAMP_MS")
MICROS_PER_UNIT = {
    "day": DAY_US,
    "second": 1_000_000,
    "millisecond": 1_000,
    "microsecond": 1,
    "nanosecond": 1e-3,
}


def time_sql(source: EventSource, schema: EventSchema) -> str:
    """Return SQL for the time of an event in microseconds, null where it cannot be parsed.

    Timestamps count from 1970. Times more than 146,000 years away are null too, because a gap
    between two of them would overflow 64 bits.
    """
    micros = _micros_sql(source, schema)
    return f"CASE WHEN {micros} BETWEEN {-FARTHEST_US} AND {FARTHEST_US} THEN {micros} END"


def _micros_sql(source: EventSource, schema: EventSchema) -> str:
    column = ident(schema.time)
    kind = source.columns[schema.time]
    if schema.time_unit != "timestamp":
        unit_us = MICROS_PER_UNIT[schema.time_unit]
        if kind == "VARCHAR" or is_real(kind):
            return f"TRY_CAST(round(TRY_CAST({column} AS DOUBLE) * {unit_us}) AS BIGINT)"
        if schema.time_unit == "nanosecond":
            return f"TRY_CAST({column}::HUGEINT // 1000 AS BIGINT)"
        return f"TRY_CAST({column}::HUGEINT * {unit_us} AS BIGINT)"
    if kind == "VARCHAR":
        moment = text_time_sql(column, schema.time_format)
    elif schema.time_format is not None and is_integer(kind):
        moment = text_time_sql(f"{column}::VARCHAR", schema.time_format)
    else:
        moment = f"TRY_CAST({column} AS TIMESTAMP)"
    micros = f"CASE WHEN isfinite({moment}) THEN epoch_us({moment}) END"
    return f"TRY({micros})" if kind in _COARSE else micros  # TRY_CAST raises for these types


def no_numbers(source: EventSource, column: str) -> tuple[int, str] | None:
    """Return how many values of a column cannot be parsed as numbers, and one of them, or None."""
    kind = source.columns[column]
    if is_integer(kind) or is_real(kind) or kind == "BOOLEAN":
        return None
    text = f"{ident(column)}::VARCHAR"
    count, example = source.row(
        f"SELECT count(*), min({text}) FROM events WHERE {text} IS NOT NULL AND TRY_CAST({text} AS "
        "DOUBLE) IS NULL"
    )
    return (count, example) if count else None


def times_of(source: EventSource, schema: EventSchema) -> EventTimes:
    """Check clients and times, once per source, and return what is known of the times."""
    check_columns(source, schema)
    key = times_key(schema)
    if key not in source.checked:
        rows, clients, times, daily, low, high = source.row(
            f"SELECT count(*), count(__client), count(__time), bool_and(__time % {DAY_US} = 0), "
            f"min(__time), max(__time) FROM (SELECT {ident(schema.client)} AS __client, "
            f"{time_sql(source, schema)} AS __time FROM events)"
        )
        if not rows == clients == times:
            Unusable(*source.row(f"SELECT {Unusable.sql(source, schema)} FROM events")).check(
                schema, source.label, source
            )
        source.checked[key] = EventTimes(rows, daily, low, high)
    found: EventTimes = source.checked[key]
    return found


def strange_times(source: EventSource, schema: EventSchema) -> str | None:
    """Describe times that are probably no times of events, such as 9999-12-31 for "unknown".

    Args:
        source: the events.
        schema: of one table.

    Returns:
        A warning about times that are far from all others, or that lie more than a year ahead of
        the clock of this machine; None if there are none.
    """
    times = times_of(source, schema)
    if not times.events:
        return None
    ahead = time.time_ns() // 1_000 + _YEAR_US
    if times.high_us - times.low_us <= 2 * _FAR * _YEAR_US and times.high_us <= ahead:
        return None
    moments = f"(SELECT {time_sql(source, schema)} AS t FROM events)"
    low, high = source.row(
        f"SELECT approx_quantile(t, 0.25), approx_quantile(t, 0.75) FROM {moments}"
    )
    around = _FAR * max(high - low, _YEAR_US)
    column = f"in column {schema.time!r} of {source.label}"
    far, first, last = source.row(
        f"SELECT count(*), min(t), max(t) FROM {moments} WHERE t < {low - around} OR "
        f"t > {high + around}"
    )
    if far:
        return (
            f"{count_words(far, f'time {column} is', f'times {column} are')} far from the others: "
            f"{_days(first, last)}, while half of all are {_days(low, high)}. If such a date means "
            "that the time is unknown, leave these events out: they change the gaps, recency and "
            "calendar of their clients"
        )
    later, last = source.row(f"SELECT count(*), max(t) FROM {moments} WHERE t > {ahead}")
    if later:
        return (
            f"{count_words(later, f'time {column} lies', f'times {column} lie')} in the future, up "
            f"to {_days(last, last)}. Check the column, its unit (schema.time_unit), and the clock "
            "of this machine"
        )
    return None


def _days(first_us: int, last_us: int) -> str:
    first, last = (str(np.datetime64(t, "us").astype("datetime64[D]")) for t in (first_us, last_us))
    return first if first == last else f"{first} to {last}"


def times_key(schema: EventSchema) -> tuple[str | None, ...]:
    """Return the key of `EventTimes` in `EventSource.checked`: all that they depend on."""
    return schema.client, schema.time, schema.time_unit, schema.time_format


@dataclass(frozen=True)
class EventTimes:
    """The number of events, whether all times are whole days, and the first and last time."""

    events: int
    daily: bool
    low_us: int
    high_us: int


def check_columns(source: EventSource, schema: EventSchema) -> None:
    """Check the columns and their types, without reading events."""
    for column in (schema.client, schema.time, *schema.features):
        source.require(
            column, "The model was trained with that column; name the columns as they were then."
        )
    _check_time_kind(source, schema)


@dataclass(frozen=True)
class Unusable:
    """Counts of events without client, without time, and with invalid time (and an example)."""

    no_client: int
    no_time: int
    not_a_time: int
    example: str | None

    @staticmethod
    def sql(source: EventSource, schema: EventSchema) -> str:
        """Return the four fields as SQL aggregates over `events`.

        Those of parts can be added up.
        """
        client = ident(schema.client)
        time = ident(schema.time)
        moment = time_sql(source, schema)
        # DuckDB cannot format these types if the year is too large.
        coarse = source.columns[schema.time] in _COARSE
        shown_time = "'one beyond the year 290,000'" if coarse else f"{time}::VARCHAR"
        return (
            f"count(*) FILTER ({client} IS NULL), count(*) FILTER ({time} IS NULL),"
            f" count(*) FILTER ({time} IS NOT NULL AND {moment} IS NULL),"
            f" min({shown_time}) FILTER ({time} IS NOT NULL AND {moment} IS NULL)"
        )

    def check(self, schema: EventSchema, label: str, source: EventSource | None = None) -> None:
        """Raise an `InputError` if any count is positive. It names a file that lacks the column."""
        for nulls, column, what in (
            (self.no_client, schema.client, "client"),
            (self.no_time, schema.time, "time"),
        ):
            if nulls:
                raise missing(nulls, column, what, label, source)
        if self.not_a_time:
            written = f", text written as {schema.time_format!r}" if schema.time_format else ""
            numbers = "" if schema.time_format else ", or numbers with schema.time_unit"
            other = (
                ""
                if schema.time_format
                else (
                    ". Other text is understood where schema.time_format says how; a trained "
                    "model keeps to its own"
                )
            )
            raise InputError(
                f"{count_words(self.not_a_time, 'time')} in column {schema.time!r} of {label} "
                f"cannot be understood, such as {self.example!r}. Expected timestamps, "
                f"dates{written}, ISO 8601 text (2023-01-31 12:00:00){numbers}{other}."
            )


def missing(
    count: int, column: str, what: str, label: str, source: EventSource | None = None
) -> InputError:
    """Build the error for events without a client or a time."""
    for file in source.files if source is not None else ():
        names = source.columns_of(file) if source is not None else []
        if column.casefold() not in map(str.casefold, names):
            return InputError(
                f"{file} has no column {column!r}, which other files of {label} have. It has: "
                f"{shown(names)}. Name the files of one table, or give the column one name."
            )
    return InputError(
        f"{count_words(count, f'event in {label} has', f'events in {label} have')} no {what} "
        f"(column {column!r} is null). Drop or fix these rows."
    )


def _check_time_kind(source: EventSource, schema: EventSchema) -> None:
    kind = source.columns[schema.time]
    if schema.time_format is not None:
        _check_formatted(source, schema, kind)
    if schema.time_unit != "timestamp" and not (
        kind == "VARCHAR" or is_integer(kind) or is_real(kind)
    ):
        raise SchemaError(
            f"The time column {schema.time!r} of {source.label} holds {type_in_words(kind)}. "
            f"Expected numbers that count {schema.time_unit}s, as schema.time_unit says; for dates "
            "and timestamps it is 'timestamp'."
        )


def _check_formatted(source: EventSource, schema: EventSchema, kind: str) -> None:
    """Check that the type has a unique text form: numbers must begin with the year.

    Numbers have no leading zeros, so other formats would be ambiguous.
    """
    if is_real(kind) or (is_integer(kind) and not str(schema.time_format).startswith("%Y%m")):
        raise SchemaError(
            f"The time column {schema.time!r} of {source.label} holds {type_in_words(kind)}, which "
            f"are not written as {schema.time_format!r} (schema.time_format). Expected text, "
            "timestamps, dates, or whole numbers such as 20240131 and '%Y%m%d'."
        )


def present_sql(schema: EventSchema, column: str) -> str:
    """Return SQL for whether an event comes from a table that has this column.

    It is "true" for one table, and for columns of all tables.
    """
    names = schema.sources_of(column)
    if schema.source is None or column == schema.source or len(names) == len(schema.sources):
        return "true"
    return f"{ident(schema.source)} IN ({', '.join(map(literal, names))})"


def category_text(source: EventSource, column: str) -> str:
    """Return SQL for the text of a category. Whole numbers have no decimal point."""
    name = ident(column)
    kind = source.columns[column]
    if is_real(kind):
        number = f"{name}::DOUBLE"
        return (
            f"CASE WHEN {number} = trunc({number}) AND abs({number}) < 1e15"
            f" THEN CAST({number} AS BIGINT)::VARCHAR ELSE {name}::VARCHAR END"
        )
    return f"{name}::VARCHAR"
