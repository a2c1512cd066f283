"""Times in text: their meaning in SQL, and inference of their format.

ISO 8601 text (year, month, day) is parsed directly. Other text, such as 24.12.2023, needs one
format: the one given in `schema.time_format`, or one with day or month first that fits the whole
column. The format is part of the schema, so later files are parsed with it and never guessed.
"""

from __future__ import annotations

import re

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.units import count_words
from seqmel.data.schema import EventSchema, StatedZone
from seqmel.data.sources.source import EventSource, ident, literal

__all__ = [
    "DATE_TEXT",
    "DAY_OR_MONTH_FIRST",
    "ISO_DATE",
    "infer_time_format",
    "iso_type_sql",
    "other_zone",
    "stated_zone",
    "text_time_sql",
    "zone_words",
]

_END = r"\s*$"
_DAY = "(0?[1-9]|[12][0-9]|3[01])"
_ISO_DAY = rf"^\s*[0-9]{{4}}[-/](0?[1-9]|1[0-2])[-/]{_DAY}"

ISO_DATE = rf"{_ISO_DAY}([^0-9]|$)"
"""Start of the text of a date with the year first."""

DAY_OR_MONTH_FIRST = rf"^\s*{_DAY}([.]|/|-){_DAY}([.]|/|-)([0-9]{{4}}|[0-9]{{2}})([T, ]|{_END})"
"""Start of the text of a date with the day or the month first."""

DATE_TEXT = rf"{ISO_DATE}|{DAY_OR_MONTH_FIRST}"
"""Start of the text of a date, in either way."""

_ZONE = r"[0-9] ?([Zz]|[+-][0-9:]+)\s*$"  # a date ends like this too
_SAMPLE_ROWS = 10_000
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
    """Return SQL that parses text as TIMESTAMP WITH TIME ZONE: in the format, else as ISO 8601.

    Text that fits neither is null. Years below 100 are null too, because their century is unknown.

    Args:
        text: SQL of type VARCHAR.
        time_format: As in `EventSchema`.
    """
    moment = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    if time_format is not None:
        parsed = f"try_strptime({text}, {literal(time_format)})"  # it parses "infinity" as a day
        moment = f"coalesce(CASE WHEN regexp_matches({text}, '[0-9]') THEN {parsed} END, {moment})"
    first, end = _TWO_DIGITS
    return f"CASE WHEN {moment} < {first} OR {moment} >= {end} THEN {moment} END"


def iso_type_sql(text: str) -> str:
    """Return an SQL aggregate: DATE, TIMESTAMP or TIMESTAMPTZ if all values are such ISO 8601 text.

    It is null otherwise.
    """
    date = f"regexp_matches({text}, {literal(_ISO_DAY + _END)})"
    zone = f"regexp_matches({text}, {literal(_ZONE)})"
    return (
        f"CASE WHEN NOT bool_and(regexp_matches({text}, {literal(ISO_DATE)}) AND "
        f"{text_time_sql(text, None)} IS NOT NULL) THEN NULL WHEN bool_and({date}) THEN 'DATE' "
        f"WHEN bool_or(NOT {date} AND {zone}) THEN 'TIMESTAMPTZ' WHEN count({text}) > 0 THEN "
        "'TIMESTAMP' END"
    )


def stated_zone(source: EventSource, schema: EventSchema) -> StatedZone | None:
    """Return whether the timestamps state their zone; None for dates and numbers.

    With `schema.time_zone` it does not matter, so None: times without a zone are in UTC, as that
    option says.

    Args:
        source: The events.
        schema: The time column, its unit, its format and its time zone.
    """
    kind = source.columns[schema.time]
    if schema.time_unit != "timestamp" or schema.time_zone is not None:
        return None
    if kind == "VARCHAR":
        if schema.time_format is not None:
            return "present" if "%z" in schema.time_format.lower() else "absent"
        name = ident(schema.time)
        sample = f"(SELECT {name} FROM events WHERE {name} IS NOT NULL LIMIT {_SAMPLE_ROWS})"
        (kind,) = source.row(f"SELECT {iso_type_sql(name)} FROM {sample}")
    if kind in ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"):
        return "present"
    return "absent" if (kind or "").startswith("TIMESTAMP") else None


def other_zone(source: EventSource, schema: EventSchema) -> str | None:
    """Return a warning if the times state a zone and those of training did not, or the reverse.

    Args:
        source: The events.
        schema: The columns of one table, as in training.
    """
    if schema.stated_zone is None:
        return None
    found = stated_zone(source, schema)
    column = f"column {schema.time!r} of {source.label}"
    return None if found is None else zone_words(found, schema.stated_zone, column)


def zone_words(found: StatedZone, before: StatedZone, column: str) -> str | None:
    """Return a warning if times differ from those of training in whether they state a zone.

    Args:
        found: Whether the times state their zone.
        before: Whether those of training did.
        column: What they are called in the message.
    """
    if found == before:
        return None
    states, did = ("a", "did not") if found == "present" else ("no", "did")
    return (
        f"The times in {column} state {states} time zone, and those of the training {did}. Times "
        "without a zone are taken for UTC: if they are local times, all hours and weekdays are "
        "shifted. Write the times as in the training."
    )


def infer_time_format(
    source: EventSource, time: str, *, option: str = "--time-format, schema.time_format"
) -> str | None:
    """Infer the format of times in text that have the day or the month first.

    Args:
        source: The events.
        time: A column of type VARCHAR.
        option: How users name the option for the format, for messages.

    Returns:
        The format. None if the column has no such dates, for example ISO 8601 text.

    Raises:
        SchemaError: Day and month are ambiguous, or years have two digits.
        InputError: Some values have another format than the others.
    """
    name = ident(time)
    sample = f"(SELECT {name} FROM events WHERE {name} IS NOT NULL LIMIT {_SAMPLE_ROWS})"
    iso, example = source.row(
        f"SELECT count({text_time_sql(name, None)}), min({name}) FILTER (regexp_matches({name}, "
        f"{literal(DAY_OR_MONTH_FIRST)})) FROM {sample}"
    )
    shape = _SHAPE.fullmatch(example or "")
    clock = _clock(shape) if shape else None
    if iso or not shape or clock is None:
        return None  # invalid times are reported by the check of the events
    mark = shape[1]
    if len(shape[2]) == 2:
        raise SchemaError(
            f"The times in column {time!r} of {source.label}, such as {example!r}, have years of "
            "two digits, which are not guessed at. Say how they are written, such as "
            f"'%d{mark}%m{mark}%y{clock}' ({option})."
        )
    day_first = f"%d{mark}%m{mark}%Y{clock}"
    month_first = f"%m{mark}%d{mark}%Y{clock}"
    known, *fits = source.row(
        f"SELECT count({name}), count({text_time_sql(name, day_first)}), "
        f"count({text_time_sql(name, month_first)}) FROM events"
    )
    fitting = [
        form for form, fit in zip((day_first, month_first), fits, strict=True) if fit == known
    ]
    if len(fitting) == 2:
        raise SchemaError(
            f"The times in column {time!r} of {source.label}, such as {example!r}, may have the "
            "day first or the month: both parts are 12 or less in all of them. Say which: "
            f"{day_first!r} or {month_first!r} ({option})."
        )
    if fitting:
        return fitting[0]
    likelier, fit = (day_first, fits[0]) if fits[0] >= fits[1] else (month_first, fits[1])
    (other,) = source.row(
        f"SELECT min({name}) FROM events WHERE {text_time_sql(name, likelier)} IS NULL"
    )
    raise InputError(
        f"{fit:,} of {count_words(known, 'time')} in column {time!r} of {source.label} are written "
        f"as {likelier!r}, the others are not, such as {other!r}. Fix them, or give another format "
        f"({option})."
    )


def _clock(shape: re.Match[str]) -> str | None:
    """Return the format of the time of day after a date: "" if there is none, None if unknown."""
    if shape[4] is None:
        return ""
    return next((shape[3] + form for pattern, form in _CLOCKS if pattern.fullmatch(shape[4])), None)
