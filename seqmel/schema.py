"""Which column is what: the client, the time, the categories, the numbers. Given, recognised by name, or inferred."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from seqmel.errors import SchemaError, shown

__all__ = ["EventSchema", "SchemaOptions", "TimeUnit", "recognise_client", "recognise_time"]

TimeUnit: TypeAlias = Literal["timestamp", "day", "second", "millisecond", "microsecond"]

_CLIENT_NAMES = (
    "client customer user cl account card patient person member player visitor household owner subject".split()
)
_TIME_NAMES = (
    "event_time timestamp datetime event_timestamp event_date transaction_time transaction_date trans_time trans_date"
    " tr_datetime trdatetime date time ts event_day day created_at"
).split()


class EventSchema(BaseModel):
    """The columns that a model learns from, and what each of them is.

    Attributes:
        client: whose event it is; any type that can be compared.
        time: when it happened.
        time_unit: "timestamp" for dates, timestamps and ISO strings; for plain numbers the unit that they count.
        categorical: columns whose values are names, also when they are written as numbers (MCC).
        numeric: columns whose values are quantities.
        numeric_by: numeric column -> the categorical column within which it is scaled and embedded, for numbers that
            mean something only together with their kind (`value` by `parameter`).
        left_out: column -> why the model does not see it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: str
    time: str
    time_unit: TimeUnit = "timestamp"
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    numeric_by: dict[str, str] = {}
    left_out: dict[str, str] = {}

    @property
    def features(self) -> tuple[str, ...]:
        """All columns that become features, categories first."""
        return self.categorical + self.numeric


class SchemaOptions(BaseModel):
    """What a user says of the columns. Whatever is not said is inferred; `ignore` leaves columns out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: str | None = None
    time: str | None = None
    time_unit: TimeUnit | None = None
    categorical: tuple[str, ...] | None = None
    numeric: tuple[str, ...] | None = None
    numeric_by: dict[str, str] | None = None
    ignore: tuple[str, ...] = ()


def recognise_client(columns: Iterable[str], label: str) -> str:
    """The one column that is named like a client id; a `SchemaError` where there is none, or more than one."""
    pattern = re.compile(rf"^({'|'.join(_CLIENT_NAMES)})[ _-]?(id|uid|no|nr|key|number)?$|^uid$", re.IGNORECASE)
    return _only([c for c in columns if pattern.match(c)], columns, label, "client")


def recognise_time(columns: dict[str, str], label: str) -> str:
    dated = [c for c, kind in columns.items() if kind.startswith(("TIMESTAMP", "DATE"))]
    if len(dated) == 1:
        return dated[0]
    named = [c for c in (dated or columns) if c.casefold() in _TIME_NAMES]
    return _only(named, columns, label, "time")


def _only(found: list[str], columns: Iterable[str], label: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    reason = (
        f"Several columns could be the {what}: {shown(found)}." if found else f"Found no {what} column by its name."
    )
    raise SchemaError(f"{reason} {label} has: {shown(columns)}. Name it with --{what} (schema.{what}).")
