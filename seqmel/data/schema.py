"""Roles of columns: client, time, categorical or numeric.

Roles are given, recognised by name, or inferred.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

from seqmel.core.errors import SchemaError, shown
from seqmel.core.time_zones import checked_time_zone

__all__ = [
    "AN_ID",
    "AS_ASKED",
    "NOT_NAMED",
    "UNNAMED_INDEX",
    "EventSchema",
    "Role",
    "SchemaOptions",
    "SourceOptions",
    "SourceSchema",
    "StatedZone",
    "TimeFormat",
    "TimeUnit",
    "TimeZone",
    "dump_without",
    "may_be_time",
    "recognise_client",
    "recognise_time",
]

AS_ASKED = "as asked"
NOT_NAMED = "not among the columns named"
"""Reasons why a column is left out on the user's request."""

AN_ID = "an id: nearly every value belongs to one client"
_NOTHING_TO_LEARN = (
    AN_ID,
    "only nulls",
    "constant",
    "a second time column",
    "an index that pandas wrote",
    "partition key of the data set",
    "partition key of the folder",
    "one value per client, not per event",
)

UNNAMED_INDEX = re.compile(r"__index_level_\d+__")
"""The name under which pandas writes an index that has none."""

Role: TypeAlias = Literal["categorical", "numeric"]
TimeUnit: TypeAlias = Literal[
    "timestamp", "day", "second", "millisecond", "microsecond", "nanosecond"
]

_CLIENT_NAMES = (
    "client customer user cl account card patient person member player visitor "
    "household owner subject"
).split()
_TIME_NAMES = (
    "event_time timestamp datetime event_timestamp event_date transaction_time transaction_date "
    "trans_time trans_date tr_datetime trdatetime date time ts event_day day created_at"
).split()


_DIRECTIVE = re.compile(r"%(.?)")
_DIRECTIVES = set("dmYybBjHIMSfgnpzaA%")


def _checked_format(text: str) -> str:
    """Return the format if it includes a day, and exactly once."""
    codes = [found[1] for found in _DIRECTIVE.finditer(text)]
    unknown = next((code for code in codes if code not in _DIRECTIVES or not code), None)
    if unknown is not None:
        raise ValueError(
            f"{text!r} has %{unknown}, an unknown code; expected codes of strptime, as in "
            f"%d.%m.%Y %H:%M"
        )
    dated = [code for code in codes if code in "YymbBdj"]
    year, month, day = ([code for code in dated if code in kind] for kind in ("Yy", "mbB", "d"))
    whole = len(year) == 1 and (
        (len(month) == len(day) == 1 and len(dated) == 3) or dated in (["Y", "j"], ["j", "Y"])
    )
    if not whole:
        raise ValueError(
            f"{text!r} has no day; expected year, month and day, each once, as in %d.%m.%Y %H:%M"
        )
    if dated[:2] in (["Y", "d"], ["Y", "j"]) and "m" in dated:
        raise ValueError(
            f"{text!r} has the day before the month after the year; with the year first only "
            f"%Y-%m-%d is read"
        )
    return text


TimeFormat: TypeAlias = Annotated[str, AfterValidator(_checked_format)]
"""A format of times, in strptime codes."""

TimeZone: TypeAlias = Annotated[str, AfterValidator(checked_time_zone)]
"""The name of a time zone, such as Europe/Paris."""

StatedZone: TypeAlias = Literal["present", "absent"]
"""Whether timestamps state their zone, such as 2024-01-31 12:00+03:00."""


def dump_without(
    dump: Callable[[Any], dict[str, Any]], model: BaseModel, *names: str
) -> dict[str, Any]:
    """Serialize a model without these fields if they are empty.

    So files and fingerprints of one table of events are what they were before the fields existed.
    """
    found = dump(model)
    return {k: v for k, v in found.items() if k not in names or getattr(model, k)}


SourceName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")]
"""The name of one of several event tables: letters, digits, _ and -."""


class SourceSchema(BaseModel):
    """One of several event tables: how to read it, and its columns on the joint timeline.

    Attributes:
        client, time, time_unit, time_format, time_zone, decimal: as in `EventSchema`, for this
            table.
        columns: column of the table -> its name on the joint timeline.
        holidays: public holidays of this table alone; empty if it has those of all.
        stated_zone: as in `EventSchema`, for this table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: str
    time: str
    time_unit: TimeUnit = "timestamp"
    time_format: TimeFormat | None = None
    time_zone: TimeZone | None = None
    decimal: Literal[".", ","] = "."
    columns: dict[str, str]
    holidays: tuple[dt.date, ...] = ()
    stated_zone: StatedZone | None = None

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "time_zone", "holidays", "stated_zone")

    def skips(self, column: str) -> bool:
        """Return whether the model ignores a column."""
        return column not in (self.client, self.time, *self.columns)


class EventSchema(BaseModel):
    """The columns that a model learns from, and their roles.

    Attributes:
        client: the client column; any comparable type.
        time: the time column.
        time_unit: "timestamp" for dates, timestamps and ISO strings; for plain numbers, their unit.
        time_format: the format of times given as text that is not ISO 8601, in strptime codes
            (%d.%m.%Y %H:%M). ISO 8601, timestamps and dates are understood in any case.
        time_zone: the zone in which the calendar is read: hour, weekday, day of the month and of
            the year. Times themselves are UTC. None reads the calendar in UTC.
        decimal: the decimal mark of numbers in CSV files; 12,50 and 1.234,5 have a comma.
        categorical: columns of names, even if they are written as numbers (MCC).
        numeric: columns of quantities.
        numeric_by: numeric column -> the categorical column within which it is scaled and embedded.
            It is for numbers that are comparable only within a category (`value` by `parameter`).
        kinds: column -> its kind, for other kinds than these two; see `seqmel.data.kinds`.
        left_out: column -> the reason why the model does not see it.
        holidays: public holidays in local time, in increasing order; of several tables those that
            have no own ones.
        source: the categorical column that names the table of an event; None for one table.
        sources: name -> one of several event tables; empty for one table.
        stated_zone: whether the timestamps of the training stated their zone. Those without one are
            taken for UTC. None if that is unknown, or the times are dates or numbers.

    Examples:
        >>> import seqmel
        >>> schema = seqmel.infer_schema(seqmel.open_events(seqmel.generate_card_data(3).events))
        >>> schema.client, schema.time, schema.categorical, schema.numeric
        ('client_id', 'event_time', ('mcc', 'city', 'channel'), ('amount',))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: str
    time: str
    time_unit: TimeUnit = "timestamp"
    time_format: TimeFormat | None = None
    time_zone: TimeZone | None = None
    decimal: Literal[".", ","] = "."
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    numeric_by: dict[str, str] = {}
    kinds: dict[str, str] = {}
    left_out: dict[str, str] = {}
    holidays: tuple[dt.date, ...] = ()
    source: str | None = None
    sources: dict[SourceName, SourceSchema] = {}
    stated_zone: StatedZone | None = None

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        names = ("time_zone", "kinds", "holidays", "source", "sources", "stated_zone")
        return dump_without(dump, self, *names)

    @property
    def time_zones(self) -> tuple[str, ...]:
        """The zones in which the calendar is read, each once; empty if it is read in UTC."""
        zones = (self.time_zone, *(source.time_zone for source in self.sources.values()))
        return tuple(dict.fromkeys(zone for zone in zones if zone))

    @property
    def calendars(self) -> dict[str, tuple[dt.date, ...]]:
        """Table with its own holidays -> these; "" has those of all others, if there are some."""
        own = {name: table.holidays for name, table in self.sources.items() if table.holidays}
        return ({"": self.holidays} if self.holidays else {}) | own

    @model_validator(mode="after")
    def _sources_have_a_column(self) -> EventSchema:
        if bool(self.sources) != (self.source in self.categorical):
            raise ValueError("sources without the column that names them")
        return self

    def sources_of(self, column: str) -> tuple[str, ...]:
        """Return the names of the tables that have a column of the joint timeline."""
        return tuple(
            name for name, source in self.sources.items() if column in source.columns.values()
        )

    @property
    def time_kind(self) -> str:
        """A description of the kind of times."""
        return f"{self.time_unit}, {self.time_format}" if self.time_format else self.time_unit

    @property
    def left_out_words(self) -> str:
        """The columns left out without a request, with reasons; empty if there are none."""
        unsaid = (
            f"{c} ({why})" for c, why in self.left_out.items() if why not in (AS_ASKED, NOT_NAMED)
        )
        names = shown(unsaid)
        return f"left out: {names}" if names else ""

    @property
    def loses_columns(self) -> bool:
        """Whether a column that may matter is left out because its values cannot be used."""
        return any(
            why not in (AS_ASKED, *_NOTHING_TO_LEARN) and not why.startswith("not among")
            for why in self.left_out.values()
        )

    def skips(self, column: str) -> bool:
        """Return whether the model ignores a column."""
        return column not in (self.client, self.time, *self.features)

    def role_of(self, column: str) -> str:
        """Return the role of a feature."""
        if column in self.kinds:
            return self.kinds[column]
        return "categorical" if column in self.categorical else "numeric"

    def of_source(self, name: str) -> EventSchema:
        """Return the schema of one of several tables, with its own names.

        Args:
            name: one of `sources`.
        """
        table = self.sources[name]
        columns = table.columns
        return EventSchema(
            client=table.client,
            time=table.time,
            time_unit=table.time_unit,
            time_format=table.time_format,
            decimal=table.decimal,
            categorical=tuple(own for own, joint in columns.items() if joint in self.categorical),
            numeric=tuple(own for own, joint in columns.items() if joint in self.numeric),
            kinds={own: self.kinds[joint] for own, joint in columns.items() if joint in self.kinds},
            stated_zone=table.stated_zone,
        )

    @property
    def features(self) -> tuple[str, ...]:
        """All feature columns: categories, numbers, and those of other kinds."""
        return (*self.categorical, *self.numeric, *self.kinds)


class SourceOptions(BaseModel):
    """The user's options for the columns of one table.

    Whatever is not set is inferred; `ignore` leaves columns out. A list of columns replaces the
    inferred one: `categorical: [mcc, city]`. Names with a plus add to it: `categorical:
    [+is_cancel]`. `kinds` gives columns another kind: `kinds: {merchant: hashed, purpose: text}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: str | None = None
    time: str | None = None
    time_unit: TimeUnit | None = None
    time_format: TimeFormat | None = None
    time_zone: TimeZone | None = None
    decimal: Literal[".", ","] | None = None
    categorical: tuple[str, ...] | None = None
    numeric: tuple[str, ...] | None = None
    numeric_by: dict[str, str] | None = None
    kinds: dict[str, str] | None = None
    ignore: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "time_zone", "kinds")

    @model_validator(mode="after")
    def _lists_add_or_say_all(self) -> SourceOptions:
        for role, names in (("categorical", self.categorical), ("numeric", self.numeric)):
            added = [name for name in names or () if name.startswith("+")]
            if added and len(added) < len(names or ()):
                raise ValueError(
                    f"{role} names {added[0]}, which adds to what is inferred, beside names that "
                    f"replace it"
                )
        return self

    def named(self, role: Role) -> tuple[str, ...]:
        """Return the columns that the user gave this role."""
        names: tuple[str, ...] | None = getattr(self, role)
        return tuple(name.removeprefix("+") for name in names or ())

    def is_open(self, role: Role) -> bool:
        """Return whether further columns may get this role.

        That is the case if no column is named, or all are named with a plus (`[+mcc]`).
        """
        names: tuple[str, ...] | None = getattr(self, role)
        return names is None or (bool(names) and names[0].startswith("+"))

    @model_validator(mode="after")
    def _one_kind_of_time(self) -> SourceOptions:
        if self.time_format is not None and self.time_unit not in (None, "timestamp"):
            raise ValueError(
                f"time_format is for text of dates, and time_unit: {self.time_unit} for numbers; "
                f"leave one out"
            )
        return self

    def skips(self, column: str) -> bool:
        """Return whether a column is skipped.

        It is if it is ignored, or if the user named all columns to use and it is not among them.
        """
        every = (
            not self.is_open("categorical")
            and not self.is_open("numeric")
            and self.time is not None
        )
        named = (*self.named("numeric"), *(self.numeric_by or {}), self.client, self.time)
        return column in self.ignore or (every and column not in (*named, *self.categories))

    @property
    def categories(self) -> dict[str, None]:
        """Return the columns whose text is kept: those that the user gave a kind but numbers.

        Their codes are not known yet.
        """
        by = (self.numeric_by or {}).values()
        return dict.fromkeys((*self.named("categorical"), *by, *(self.kinds or {})))

    @property
    def reading(self) -> dict[str, Any]:
        """The keywords of `open_events` for a table without a model."""
        return {
            "client": self.client,
            "time": self.time,
            "skip": self.skips,
            "decimal": self.decimal,
            "categories": self.categories,
        }


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class TableOptions(SourceOptions):
    """The options of one table, and its public holidays: the path of a table of days, or days."""

    holidays: Annotated[
        str | Annotated[tuple[dt.date, ...], Field(min_length=1)] | None, BeforeValidator(_path)
    ] = None

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "time_zone", "kinds", "holidays")


class SchemaOptions(TableOptions):
    """The user's options for the columns: of one table, or of several in `sources`.

    With several tables, `client`, `time`, `time_unit`, `time_format`, `time_zone`, `decimal`,
    `holidays` and `ignore` are for all of them, and an option of a source goes before. `share`
    names columns that are one column in all tables that have them; other columns of equal name are
    separate.
    """

    share: tuple[str, ...] = ()
    sources: dict[SourceName, TableOptions] = {}

    @property
    def names_holidays(self) -> bool:
        """Whether there are holidays, of all tables or of one."""
        own = (table.holidays for table in self.sources.values())
        return any(days is not None for days in (self.holidays, *own))

    @model_serializer(mode="wrap")
    def _dump(self, dump: Any) -> dict[str, Any]:
        return dump_without(dump, self, "time_zone", "kinds", "share", "holidays", "sources")

    def for_source(self, name: str) -> SourceOptions:
        """Return the options of one of several tables."""
        own = self.sources.get(name, TableOptions())
        given = own.model_dump(exclude_unset=True, exclude={"holidays"})
        common = ("client", "time", "time_unit", "time_format", "time_zone", "decimal")
        every = {k: v for k in common if (v := getattr(self, k)) is not None}
        ignore = tuple(dict.fromkeys((*own.ignore, *self.ignore)))
        return SourceOptions.model_validate({**every, **given, "ignore": ignore})


def recognise_client(columns: Iterable[str], label: str) -> str:
    """Return the only column with a name of a client id.

    Args:
        columns: names of all columns.
        label: name of the input, for the message.

    Raises:
        SchemaError: there is no such column, or more than one.
    """
    pattern = re.compile(
        rf"^({'|'.join(_CLIENT_NAMES)})[ _-]?(id|uid|no|nr|key|number)?$|^uid$", re.IGNORECASE
    )
    return _only([c for c in columns if pattern.match(c)], columns, label, "client")


def may_be_time(name: str, kind: str) -> bool:
    """Return whether a column may be the time, by its DuckDB type or its name.

    Args:
        name: the column.
        kind: its DuckDB type.
    """
    return kind.startswith(("TIMESTAMP", "DATE")) or name.casefold() in _TIME_NAMES


def recognise_time(columns: dict[str, str], label: str) -> str:
    """Return the time column: the only one with dates, or the one with a known name.

    Args:
        columns: column -> DuckDB type.
        label: name of the input, for the message.

    Raises:
        SchemaError: there is no such column, or more than one.
    """
    dated = [c for c, kind in columns.items() if kind.startswith(("TIMESTAMP", "DATE"))]
    if len(dated) == 1:
        return dated[0]
    named = [c for c in (dated or columns) if c.casefold() in _TIME_NAMES]
    return _only(named, columns, label, "time")


def _only(found: list[str], columns: Iterable[str], label: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    reason = (
        f"Several columns could be the {what}: {shown(found)}."
        if found
        else f"Found no {what} column by its name."
    )
    raise SchemaError(
        f"{reason} {label} has: {shown(columns)}. Name it with --{what} (schema.{what})."
    )
