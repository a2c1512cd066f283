"""Times written as text: what they mean in SQL, and in which format a column writes them.

ISO 8601 text (year, month, day) is understood as it is. Other text, such as 24.12.2023, only in one format: the one that is said
(`schema.time_format`), or the one of day and month first that a whole column settles. The format is part of the schema from
then on, so later files are read in it and never guessed at.
"""

from __future__ import annotations

import re

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.sources.source import EventSource, ident, literal

__all__ = ["DATE_TEXT", "DAY_OR_MONTH_FIRST", "ISO_DATE", "infer_time_format", "iso_type_sql", "text_time_sql"]

_END = r"\s*$"
_DAY = "(0?[1-9]|[12][0-9]|3[01])"
_ISO_DAY = rf"^\s*[0-9]{{4}}[-/](0?[1-9]|1[0-2])[-/]{_DAY}"

ISO_DATE = rf"{_ISO_DAY}([^0-9]|$)"
"""How text of a date begins that has the year first."""

DAY_OR_MONTH_FIRST = rf"^\s*{_DAY}([.]|/|-){_DAY}([.]|/|-)([0-9]{{4}}|[0-9]{{2}})([T, ]|{_END})"
"""How text of a date begins that has the day or the month first."""

DATE_TEXT = rf"{ISO_DATE}|{DAY_OR_MONTH_FIRST}"
"""How text of a date begins, in either way."""

_LOOKED_AT = 10_000
_SHAPE = re.compile(r"\s*\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})(?:(,? |T)(\S.*?))?\s*")
_CLOCKS = (
    (re.compile(r"\d{1,2}:\d\d"), "%H:%M"),
    (re.compile(r"\d{1,2}:\d\d:\d\d"), "%H:%M:%S"),
    (re.compile(r"\d{1,2}:\d\d:\d\d[.]\d{1,6}"), "%H:%M:%S.%f"),
    (re.compile(r"\d{1,2}:\d\d [AaPp][Mm]"), "%I:%M %p"),
    (re.compile(r"\d{1,2}:\d\d:\d\d [AaPp][Mm]"), "%I:%M:%S %p"),
)
_TWO_DIGITS = "TIMESTAMPTZ '0000-01-01 00:00:00+00'", "TIMESTAMPTZ '0100-01-01 00:00:00+00'"


def text_time_sql(text: str, time_format: str | None) -> str:
    """SQL for text as a TIMESTAMP WITH TIME ZONE: in the format, else as ISO 8601; null where it is neither.

    A year below 100 is one of two digits, of which nobody knows the century: null too.

    Args:
        text: SQL of type VARCHAR.
        time_format: as in `EventSchema`.
    """
    moment = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    if time_format is not None:
        parsed = f"try_strptime({text}, {literal(time_format)})"  # of "infinity" it makes a day
        moment = f"coalesce(CASE WHEN regexp_matches({text}, '[0-9]') THEN {parsed} END, {moment})"
    first, end = _TWO_DIGITS
    return f"CASE WHEN {moment} < {first} OR {moment} >= {end} THEN {moment} END"


def iso_type_sql(text: str) -> str:
    """SQL aggregate: DATE, TIMESTAMP or TIMESTAMPTZ where all values of a column are ISO 8601 text of that, else null."""
    date = f"regexp_matches({text}, {literal(_ISO_DAY + _END)})"
    zone = f"regexp_matches({text}, '[0-9] ?([Zz]|[+-][0-9:]+)\\s*$')"
    return (
        f"CASE WHEN NOT bool_and(regexp_matches({text}, {literal(ISO_DATE)}) AND {text_time_sql(text, None)} IS NOT NULL)"
        f" THEN NULL WHEN bool_and({date}) THEN 'DATE' WHEN bool_or(NOT {date} AND {zone}) THEN 'TIMESTAMPTZ'"
        f" WHEN count({text}) > 0 THEN 'TIMESTAMP' END"
    )


def infer_time_format(
    source: EventSource, time: str, *, option: str = "--time-format, schema.time_format"
) -> str | None:
    """The format of a column of text that has the day or the month first; None where it has not, as ISO 8601 text.

    Args:
        source: the events.
        time: a column of type VARCHAR.
        option: how a user says the format.

    Raises:
        SchemaError: day and month cannot be told apart, or the years have two digits.
        InputError: some values fit the others' format and some do not.
    """
    name = ident(time)
    looked_at = f"(SELECT {name} FROM events WHERE {name} IS NOT NULL LIMIT {_LOOKED_AT})"
    iso, example = source.row(
        f"SELECT count({text_time_sql(name, None)}), min({name}) FILTER (regexp_matches({name}, {literal(DAY_OR_MONTH_FIRST)}))"
        f" FROM {looked_at}"
    )
    shape = _SHAPE.fullmatch(example or "")
    clock = _clock(shape) if shape else None
    if iso or not shape or clock is None:
        return None  # what cannot be understood is told of where the events are checked
    mark = shape[1]
    if len(shape[2]) == 2:
        raise SchemaError(
            f"The times in column {time!r} of {source.label}, such as {example!r}, have years of two digits, which are not"
            f" guessed at. Say how they are written, such as '%d{mark}%m{mark}%y{clock}' ({option})."
        )
    day_first, month_first = f"%d{mark}%m{mark}%Y{clock}", f"%m{mark}%d{mark}%Y{clock}"
    known, *fits = source.row(
        f"SELECT count({name}), count({text_time_sql(name, day_first)}), count({text_time_sql(name, month_first)}) FROM events"
    )
    fitting = [form for form, fit in zip((day_first, month_first), fits, strict=True) if fit == known]
    if len(fitting) == 2:
        raise SchemaError(
            f"The times in column {time!r} of {source.label}, such as {example!r}, may have the day first or the month: both"
            f" parts are 12 or less in all of them. Say which: {day_first!r} or {month_first!r} ({option})."
        )
    if fitting:
        return fitting[0]
    likelier, fit = (day_first, fits[0]) if fits[0] >= fits[1] else (month_first, fits[1])
    (other,) = source.row(f"SELECT min({name}) FROM events WHERE {text_time_sql(name, likelier)} IS NULL")
    raise InputError(
        f"{fit:,} of {known:,} times in column {time!r} of {source.label} are written as {likelier!r}, the others are not,"
        f" such as {other!r}. Mend them, or say another format ({option})."
    )


def _clock(shape: re.Match[str]) -> str | None:
    """The format of what follows the date: nothing, or a time of day; None where it is something else."""
    if shape[4] is None:
        return ""
    return next((shape[3] + form for pattern, form in _CLOCKS if pattern.fullmatch(shape[4])), None)
