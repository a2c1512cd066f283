"""Labels of what happens next, made from the events themselves.

A row is a client and a moment. Its label is of the client's events in the window that begins `gap`
after the moment and is `within` long: [moment + gap, moment + gap + within). A model sees the
events strictly before the moment, so that nothing of the label leaks into the history.

A window that reaches past the end of the data would take what is not known yet for nothing. Such
moments are left out and counted.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from seqmel.core.errors import ConfigError, InputError, SchemaError, did_you_mean
from seqmel.core.units import DAY_US, DAYS_SINCE_MONDAY, count_words
from seqmel.data.fitting.schema_inference import infer_times
from seqmel.data.fitting.timeline import open_and_infer, open_single
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.checking import (
    MICROS_PER_UNIT,
    EventTimes,
    category_text,
    time_sql,
    times_of,
)
from seqmel.data.sources.reading import Events
from seqmel.data.sources.several import event_tables
from seqmel.data.sources.source import (
    EventSource,
    ident,
    is_integer,
    is_real,
    literal,
    type_in_words,
)
from seqmel.data.tables.vector_files import write_tables

__all__ = ["EventLabels", "LabelKind", "LabelOptions", "duration_us", "event_labels", "make_labels"]

LabelKind: TypeAlias = Literal["any", "count", "sum", "time_to_event"]
"""What the label is of the matching events in the window."""

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(min|h|d|w)\s*")
_STEPS_US = {"min": 60_000_000, "h": 3_600_000_000, "d": DAY_US, "w": 7 * DAY_US}
_MONDAY_US = (7 - DAYS_SINCE_MONDAY) * DAY_US  # the first one after 1970-01-01
_CONDITION = re.compile(r"\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_BATCH_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What labels are made of; the arguments of `make_labels`."""

    within: str
    event: tuple[str, ...] = ()
    every: str | None = None
    at: tuple[Any, ...] = ()
    gap: str = "0d"
    until: Any = None
    kind: LabelKind = "any"
    column: str | None = None
    target: str = "target"
    all_clients: bool = False

    def check(self) -> None:
        """Raise a `ConfigError` if an option is out of range or two do not go together."""
        if self.kind not in get_args(LabelKind):
            raise ConfigError(
                f"kind cannot be {self.kind!r}. Expected one of: {', '.join(get_args(LabelKind))}."
                f"{did_you_mean(str(self.kind), get_args(LabelKind))}"
            )
        if (self.kind == "sum") != (self.column is not None):
            raise ConfigError(
                "kind sum adds up a column of numbers: name it with column (--column), which no "
                "other kind takes."
            )
        if (self.every is None) == (not self.at):
            raise ConfigError(
                "Say when the moments are, either every (--every month) or at (--at 2024-01-31)."
            )
        if duration_us(self.within, "within") <= 0:
            raise ConfigError(f"within is {self.within!r}. Expected a window longer than zero.")
        duration_us(self.gap, "gap")

    @property
    def window_us(self) -> tuple[int, int]:
        """Begin and end of the window, in microseconds after the moment."""
        gap = duration_us(self.gap, "gap")
        return gap, gap + duration_us(self.within, "within")


@dataclass(frozen=True)
class EventLabels:
    """Labels in a table of DuckDB.

    Attributes:
        source: the events, whose connection holds the table `made_labels`.
        columns: the names of the columns: client, moment, target (and whether it was observed).
        summary: one row per moment: `moment`, `rows`, and the mean of the target as `mean`; for the
            kind time_to_event the fraction of rows with an event as `observed`.
        notes: what was left out, one line each.
    """

    source: EventSource
    columns: tuple[str, ...]
    summary: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def clients(self) -> int:
        """Number of distinct clients."""
        return int(self.source.row("SELECT count(DISTINCT client) FROM made_labels")[0])

    def tables(self) -> Iterable[pa.Table]:
        """Yield the rows in chunks, by moment, clients in the order of the events."""
        read = self.source.stream(
            "SELECT * EXCLUDE (place) FROM made_labels ORDER BY moment, place", _BATCH_ROWS
        )
        for batch in read:
            yield pa.Table.from_batches([batch]).rename_columns(list(self.columns))

    def write(self, path: Path) -> int:
        """Write a Parquet file and return the number of rows."""
        return write_tables(path, self.tables())


def make_labels(
    events: Events,
    *,
    within: str,
    event: str | Sequence[str] | None = None,
    every: str | None = None,
    at: Any = None,
    gap: str = "0d",
    until: Any = None,
    kind: LabelKind = "any",
    column: str | None = None,
    target: str = "target",
    all_clients: bool = False,
    client: str | None = None,
    time: str | None = None,
    time_format: str | None = None,
) -> pd.DataFrame:
    """Make labels of what happens next from the events: one row per client and moment.

    The label is of the client's events in [moment + gap, moment + gap + within). Moments with a
    window that reaches past the end of the data are left out, and so are clients without an event
    before a moment.

    Args:
        events: see `open_events`; or name -> events, for several tables. Their columns are then
            named `table.column`, and the table of an event is in the column `source`.
        within: the length of the window: a number with min, h, d or w, such as "30d".
        event: which events count: "is_purchase" (true, or a number other than 0), "kind=refund",
            "kind!=refund", "amount>100"; of several, all must hold. None counts every event.
        every: a grid of moments over the data: "day" (midnights, UTC), "week" (Mondays), "month"
            (first days), or a duration such as "30d" from the day of the first event on.
        at: one moment or several, in place of a grid.
        gap: time between moment and window, in which events are neither history nor label.
        until: the data are complete up to this time; None takes the last event.
        kind: "any" (1 if an event matches, else 0), "count" of matching events, "sum" of a column
            over them, or "time_to_event" in days from the moment to the first of them. Without one
            the time is censored: it is the end of the window, and `<target>_observed` is false.
        column: the column of numbers to add up, for the kind "sum"; nulls count as 0.
        target: the name of the label column.
        all_clients: keep clients without an event before a moment, whose history is empty.
        client: the client column; None recognises it by name.
        time: the time column; None recognises it by name.
        time_format: format of times in text that is not ISO 8601.

    Returns:
        Client, moment (under the name of the time column) and target, by moment, as
        `finetune(time_column=)`, `embed(as_of=)` and `read_labels(time_column=)` take them.

    Raises:
        ConfigError: an option is out of range, or two do not go together.
        SchemaError: a column is missing or has an unsuitable type.
        InputError: the events cannot be read, no event matches, or no window lies within the data.

    Examples:
        >>> import seqmel
        >>> events = seqmel.generate_card_data(20).events
        >>> labels = seqmel.make_labels(events, event="amount>100", within="30d", every="month")
        >>> labels.columns.tolist()
        ['client_id', 'event_time', 'target']
    """
    options = LabelOptions(
        within=within,
        event=() if event is None else (event,) if isinstance(event, str) else tuple(event),
        every=every,
        at=_several(at),
        gap=gap,
        until=until,
        kind=kind,
        column=column,
        target=target,
        all_clients=all_clients,
    )
    options.check()
    columns = SchemaOptions(client=client, time=time, time_format=time_format)
    made = event_labels(events, options, columns)
    frame: pd.DataFrame = pa.concat_tables(made.tables()).to_pandas()
    made.source.connection.close()
    return frame


def event_labels(
    events: Events, options: LabelOptions, columns: SchemaOptions, **resources: Any
) -> EventLabels:
    """Open events and make labels in their connection.

    Args:
        events: see `make_labels`.
        options: what labels are made of, checked.
        columns: the columns that the user named.
        **resources: limits of memory and threads, see `open_events`.

    Raises:
        SeqmelError: see `make_labels`.
    """
    source, schema = _opened(events, columns, resources)
    times = times_of(source, schema)
    names = [schema.client, schema.time, options.target]
    if options.kind == "time_to_event":
        names.append(f"{options.target}_observed")
    if len(set(names)) < len(names):
        raise ConfigError(
            f"The target is named {options.target!r}, like another column of the labels. Give it "
            "another name (--target)."
        )
    matches = _matches_sql(source, options)
    moments, left_out = _moments(options, schema, times)
    _make(source, schema, options, matches, moments)
    notes = [] if not left_out else [_left_out_words(left_out, options, times, schema)]
    if not options.all_clients:
        notes += _without_history(source, len(moments))
    return EventLabels(source, tuple(names), _summary(source, options), tuple(notes))


def _opened(
    events: Events, columns: SchemaOptions, resources: dict[str, Any]
) -> tuple[EventSource, EventSchema]:
    """Open events. The features of one table are not inferred: all its columns can be compared."""
    tables = event_tables(events)
    if tables is not None and len(tables) > 1:
        return open_and_infer(events, columns, **resources)
    source, own = open_single(events, columns, **resources)
    return source, infer_times(source, own)


def _make(
    source: EventSource,
    schema: EventSchema,
    options: LabelOptions,
    matches: str,
    moments: Sequence[int],
) -> None:
    """Create the table `made_labels`."""
    begin, end = options.window_us
    client = ident(schema.client)
    time = time_sql(source, schema)
    number = f"TRY_CAST({ident(options.column)} AS DOUBLE)" if options.column else "NULL"
    grid = ", ".join(f"({moment})" for moment in moments)
    label = {
        "any": "(coalesce(n, 0) > 0)::BIGINT",
        "count": "coalesce(n, 0)",
        "sum": "coalesce(total, 0)",
        "time_to_event": f"coalesce(first_match - moment, {end}) / {DAY_US}, coalesce(n, 0) > 0",
    }[options.kind]
    known = "" if options.all_clients else "WHERE first_event < moment"
    source.query(
        "CREATE OR REPLACE TABLE label_clients AS SELECT c.client, c.first AS place, f.first_event"
        f" FROM ({source.clients_sql(schema.client)}) AS c LEFT JOIN (SELECT {client} AS client,"
        f" min({time}) AS first_event FROM events GROUP BY 1) AS f USING (client)"
    )
    source.query(
        f"CREATE OR REPLACE TABLE label_matches AS SELECT {client} AS client, {time} AS event_us,"
        f" {number} AS x FROM events WHERE {matches}"
    )
    if not source.rows("SELECT 1 FROM label_matches LIMIT 1"):
        raise InputError(
            f"No event of {source.label} matches {' and '.join(map(repr, options.event))}, so that "
            "all labels would be the same. Check the column and its values."
        )
    source.query(
        "CREATE OR REPLACE TABLE made_labels AS"
        f" WITH grid AS (SELECT m::BIGINT AS moment FROM (VALUES {grid}) AS g(m)),"
        " inside AS (SELECT client, moment, count(*) AS n, min(event_us) AS first_match,"
        " sum(CASE WHEN isfinite(x) THEN x END) AS total FROM label_matches JOIN grid"
        f" ON event_us >= moment + {begin} AND event_us < moment + {end} GROUP BY ALL)"
        f" SELECT client, {_moment_sql(schema)} AS moment, {label}, place"
        f" FROM (SELECT * FROM label_clients, grid {known}) LEFT JOIN inside USING (client, moment)"
    )
    if not source.rows("SELECT 1 FROM made_labels LIMIT 1"):
        raise InputError(
            f"No client of {source.label} has an event before {_words(max(moments), schema)}. Give "
            "later moments, or keep clients without events (--all-clients)."
        )


def _moment_sql(schema: EventSchema) -> str:
    """Return SQL for a moment as the events write times: a timestamp, or a number in their unit."""
    if schema.time_unit == "timestamp":
        return "make_timestamp(moment)"
    if schema.time_unit == "nanosecond":
        return "moment * 1000"
    return f"moment // {MICROS_PER_UNIT[schema.time_unit]}"


def _moments(
    options: LabelOptions, schema: EventSchema, times: EventTimes
) -> tuple[list[int], int]:
    """Return the moments with a window within the data, and how many others were left out."""
    end = _data_end(options, schema, times)
    if options.at:
        asked = sorted({_time_us(value, schema, "at") for value in options.at})
    else:
        asked = [m for m in _grid(options, schema, times.low_us, end) if times.low_us < m <= end]
    kept = [moment for moment in asked if moment + options.window_us[1] <= end]
    if not kept:
        raise InputError(
            f"No window of {options.within} after a moment lies within the data, which are from "
            f"{_words(times.low_us, schema)} to {_words(end, schema)}. Give earlier moments or a "
            "shorter window, or say how far the data are complete (--until)."
        )
    return kept, len(asked) - len(kept)


def _data_end(options: LabelOptions, schema: EventSchema, times: EventTimes) -> int:
    """Return the time up to which the data are complete: a last whole day is complete."""
    if options.until is not None:
        return _time_us(options.until, schema, "until")
    return times.high_us + (DAY_US if times.daily else 0)


def _grid(options: LabelOptions, schema: EventSchema, low: int, end: int) -> Iterable[int]:
    """Return the moments of `every`, from about the first event to the end of the data."""
    every = str(options.every)
    first_day = low // DAY_US * DAY_US
    if every in ("week", "month") and schema.time_unit != "timestamp":
        raise ConfigError(
            f"every is {every!r}, and the events count time in {schema.time_unit}s, which have no "
            "calendar. Give a duration, such as 30d."
        )
    if every == "month":
        months = np.arange(
            np.datetime64(low, "us").astype("datetime64[M]"),
            np.datetime64(end, "us").astype("datetime64[M]") + 1,
        )
        return [int(m) for m in months.astype("datetime64[us]").astype(np.int64)]
    if every == "week":
        monday = (first_day - _MONDAY_US) // (7 * DAY_US) * 7 * DAY_US + _MONDAY_US
        return range(monday, end + 1, 7 * DAY_US)
    if every == "day":
        return range(first_day, end + 1, DAY_US)
    step = duration_us(every, "every", "day, week, month, or a duration such as 30d")
    unit = (
        max(1, int(MICROS_PER_UNIT[schema.time_unit])) if schema.time_unit in MICROS_PER_UNIT else 1
    )
    if step <= 0 or step % unit:
        raise ConfigError(
            f"every is {every!r}. Expected a multiple of the {schema.time_unit} of the events."
        )
    return range(first_day, end + 1, step)


def _left_out_words(
    count: int, options: LabelOptions, times: EventTimes, schema: EventSchema
) -> str:
    end = _words(_data_end(options, schema, times), schema)
    ahead = f"{options.gap} and {options.within}" if options.window_us[0] else options.within
    left_out = count_words(count, "moment")
    return f"{left_out} left out: their windows ({ahead}) end after the data do ({end})"


def _without_history(source: EventSource, moments: int) -> list[str]:
    (clients,) = source.row("SELECT count(*) FROM label_clients")
    (rows,) = source.row("SELECT count(*) FROM made_labels")
    count = clients * moments - rows
    if not count:
        return []
    return [f"{count_words(count, 'row')} left out: the client has no event before the moment"]


def _summary(source: EventSource, options: LabelOptions) -> pd.DataFrame:
    mean = "avg(target)" if options.kind != "time_to_event" else "avg(observed::INT)"
    names = "client, moment, target" + (", observed" if options.kind == "time_to_event" else "")
    found: pd.DataFrame = source.query(
        f"SELECT moment, count(*) AS rows, {mean} AS mean FROM (SELECT * FROM made_labels) AS"
        f" t({names}, place) GROUP BY 1 ORDER BY 1"
    ).df()
    return found


def _matches_sql(source: EventSource, options: LabelOptions) -> str:
    """Return SQL for whether an event matches all conditions, and its column can be added up."""
    if options.column is not None:
        source.require(options.column, "Name the column to add up with --column.")
        if not _is_number(source.columns[options.column]):
            raise SchemaError(
                f"Column {options.column!r} of {source.label} holds "
                f"{type_in_words(source.columns[options.column])}. A sum needs numbers."
            )
    return " AND ".join(f"({_condition_sql(source, one)})" for one in options.event) or "true"


def _condition_sql(source: EventSource, condition: str) -> str:
    """Return SQL for one condition: a column, or a column, a comparison and a value."""
    column, operator, value = _parsed(source, condition)
    kind = source.columns[column]
    name = ident(column)
    if operator is None:
        if kind == "BOOLEAN":
            return f"coalesce({name}, false)"
        if _is_number(kind):
            return f"coalesce({name} <> 0, false)"
        raise ConfigError(
            f"event is {condition!r}, and that column holds {type_in_words(kind)}. Compare it with "
            f"a value: {condition}=..."
        )
    if kind == "BOOLEAN":
        truth = _TRUTH.get(value.lower())
        if truth is None or operator not in ("=", "!="):
            raise ConfigError(
                f"event is {condition!r}, and column {column!r} holds booleans. Expected "
                f"{column}=true or {column}=false."
            )
        sql = f"{name} = {truth}"
    elif _is_number(kind):
        sql = f"{name} {'=' if operator == '!=' else operator} {_number(condition, value)}"
    elif operator in ("=", "!="):
        sql = f"{category_text(source, column)} = {literal(value)}"
    else:
        raise ConfigError(
            f"event is {condition!r}, and column {column!r} holds {type_in_words(kind)}. Only "
            "numbers are compared by size; others by = and !=."
        )
    return f"NOT coalesce({sql}, false)" if operator == "!=" else f"coalesce({sql}, false)"


def _parsed(source: EventSource, condition: str) -> tuple[str, str | None, str]:
    """Return column, operator (None if there is none) and value of a condition."""
    text = condition.strip()
    for column in sorted(source.columns, key=len, reverse=True):
        if text == column:
            return column, None, ""
        found = _CONDITION.fullmatch(text[len(column) :]) if text.startswith(column) else None
        if found:
            return column, found[1], found[2]
    column = re.split(r"[!=<>]", text, maxsplit=1)[0].strip()
    source.require(column, "An event is a column, column=value, or column>number (--event).")
    raise ConfigError(
        f"event is {condition!r}. Expected a column, column=value, column!=value or column>number."
    )


def _number(condition: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise ConfigError(
            f"event is {condition!r}, and {value!r} is not a number, and the column holds numbers."
        )
    return number


def _is_number(kind: str) -> bool:
    return is_integer(kind) or is_real(kind)


def duration_us(text: str, option: str, wanted: str = "a duration such as 30d") -> int:
    """Return a duration such as "30d" in microseconds."""
    found = _DURATION.fullmatch(str(text))
    if not found:
        raise ConfigError(
            f"{option} cannot be {text!r}. Expected {wanted}: a number with min, h, d or w."
        )
    return round(float(found[1]) * _STEPS_US[found[2]])


def _several(at: Any) -> tuple[Any, ...]:
    if at is None:
        return ()
    one = isinstance(at, (str, int, np.integer, dt.date, np.datetime64))
    return (at,) if one else tuple(at)


def _time_us(value: Any, schema: EventSchema, option: str) -> int:
    """Return a time that the user gave, in microseconds, written like the times of the events."""
    try:
        if schema.time_unit != "timestamp":
            return int(int(str(value)) * MICROS_PER_UNIT[schema.time_unit])
        if isinstance(value, (int, np.integer)):
            raise ValueError
        said = pd.Timestamp(value)
        said = said.tz_convert("UTC").tz_localize(None) if said.tzinfo else said
        return int(said.to_datetime64().astype("datetime64[us]").astype(np.int64))
    except (ValueError, OverflowError):
        like = "2024-01-31" if schema.time_unit == "timestamp" else f"365, in {schema.time_unit}s"
        raise ConfigError(
            f"{option} cannot be {str(value)!r}. Expected a time like those of the events: {like}."
        ) from None


def _words(time_us: int, schema: EventSchema) -> str:
    """Format a time as the events write it."""
    if schema.time_unit == "timestamp":
        return str(np.datetime64(time_us, "us").astype("datetime64[s]")).replace("T", " ")
    return f"{schema.time_unit} {time_us / MICROS_PER_UNIT[schema.time_unit]:,.0f}"
