"""Public holidays: a table of days, by which the calendar of events is read."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from seqmel.core.errors import InputError, SchemaError, shown
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.reading import event_files
from seqmel.data.sources.source import connect, ident, literal, reading

__all__ = ["read_holidays", "with_holidays"]


def with_holidays(schema: EventSchema, options: SchemaOptions) -> EventSchema:
    """Return the schema with the holidays that the options name, of all tables or of one.

    Args:
        schema: the roles of the columns.
        options: the user's options.

    Raises:
        SchemaError, InputError: see `read_holidays`.
    """
    if not options.names_holidays:
        return schema
    own = {
        name: read_holidays(table.holidays)
        for name, table in options.sources.items()
        if table.holidays is not None
    }
    common = () if options.holidays is None else read_holidays(options.holidays)
    if not schema.sources:  # one table, which may have a name
        return schema.model_copy(update={"holidays": next(iter(own.values()), common)})
    sources = {
        name: table.model_copy(update={"holidays": own[name]}) if name in own else table
        for name, table in schema.sources.items()
    }
    return schema.model_copy(update={"holidays": common, "sources": sources})


def read_holidays(given: str | tuple[dt.date, ...]) -> tuple[dt.date, ...]:
    """Return days in increasing order, each once.

    Args:
        given: the days, or the path of a Parquet or CSV file with one column of dates.

    Raises:
        SchemaError: the file has no column of dates, or several.
        InputError: the file cannot be read, holds a null or no day.
    """
    if not isinstance(given, str):
        return tuple(sorted(set(given)))
    files = event_files(given)
    read = "read_csv" if ".csv" in files[0].lower() else "read_parquet"
    listed = "[" + ", ".join(map(literal, files)) + "]"
    with reading(given):
        rows = connect().sql(f"FROM {read}({listed})")
        dated = [
            name
            for name, kind in zip(rows.columns, rows.types, strict=True)
            if str(kind).startswith(("DATE", "TIMESTAMP"))
        ]
        if len(dated) != 1:
            found = f"has {shown(dated)}" if dated else f"has {shown(rows.columns)}"
            raise SchemaError(
                f"{given} {found}. Expected one column of dates, the holidays, as 2024-12-25."
            )
        column: Any = rows.project(f"{ident(dated[0])}::DATE").fetchall()
    days = [day for (day,) in column]
    if not days or any(pd.isna(day) for day in days):
        lack = "a null among its holidays" if days else "no rows"
        raise InputError(f"{given} has {lack}. Expected one day per row.")
    return tuple(sorted(set(days)))
