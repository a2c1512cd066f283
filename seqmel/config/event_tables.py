"""Event tables in a YAML file: where each one lies, and the options of its columns.

events:
  cards: {path: cards.parquet, time: booked_at}
  clicks: clicks.csv
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from seqmel.config.validation_errors import explain
from seqmel.core.errors import ConfigError, InputError
from seqmel.data.schema import TableOptions
from seqmel.data.sources.several import event_tables

__all__ = ["EventTable", "EventTables", "check_event_tables", "event_paths", "with_sources"]

_UNNAMED = ""


class EventTable(TableOptions):
    """One of several event tables: its path, and the options of its columns."""

    path: Annotated[str, Field(min_length=1)]


def _by_name(value: Any) -> Any:
    """Return name -> {path, options}. One table without a name has an empty one."""
    if isinstance(value, str):
        return {_UNNAMED: {"path": value}}
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"found {value!r}. Expected a path, or NAME: PATH or NAME: {{path: PATH, time: COLUMN}}"
            " for each of several tables"
        )
    try:
        event_tables(dict.fromkeys(value, ""))
    except InputError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return {n: {"path": table} if isinstance(table, str) else table for n, table in value.items()}


def _as_written(tables: Mapping[str, EventTable]) -> Any:
    if _UNNAMED in tables:
        return tables[_UNNAMED].path
    return {n: table.model_dump(mode="json", exclude_unset=True) for n, table in tables.items()}


EventTables: TypeAlias = Annotated[
    dict[str, EventTable], BeforeValidator(_by_name), PlainSerializer(_as_written)
]
"""A path, or name -> path, or path with options of the columns, for each of several tables."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    events: EventTables


def check_event_tables(events: Any, source: str) -> dict[str, EventTable]:
    """Check the option `events` of a config file.

    Args:
        events: the value in YAML.
        source: where it is from, for messages.

    Raises:
        ConfigError: an option is unknown or out of range.
    """
    try:
        return _File.model_validate({"events": events}).events
    except ValidationError as error:
        raise ConfigError(explain(error, source, _File)) from None


def event_paths(tables: Mapping[str, EventTable]) -> Any:
    """Return the path of one table without a name, or name -> path of each."""
    if _UNNAMED in tables:
        return tables[_UNNAMED].path
    return {name: table.path for name, table in tables.items()}


def with_sources(
    schema: Mapping[str, Any], tables: Mapping[str, EventTable], source: str
) -> dict[str, Any]:
    """Return the options of a schema with those of the tables under `sources`.

    Args:
        schema: the section `schema`.
        tables: the tables.
        source: where they are from, for messages.

    Raises:
        ConfigError: a table has options in both places.
    """
    own = {
        name: table.model_dump(exclude_unset=True, exclude={"path"})
        for name, table in tables.items()
        if table.model_fields_set > {"path"}
    }
    sources = schema.get("sources") or {}
    if not own or not isinstance(sources, Mapping):
        return dict(schema)
    twice = next((name for name in own if name in sources), None)
    if twice is not None:
        raise ConfigError(
            f"{source}: {twice} has options in events and in schema.sources. Write them in one"
            " place."
        )
    return {**schema, "sources": {**sources, **own}}
