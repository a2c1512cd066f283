"""One timeline from several event tables, such as card payments, transfers and clicks.

Each table is opened and inferred by itself. The joint events are a view over all of them, with one
client and one time column, the name of the table as a category, and the columns of each table under
`table.column`. The columns of other tables are null. So everything after this module reads several
tables as it reads one. At equal times, events are in the order in which the tables are named.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from seqmel.core.errors import InputError, SchemaError, did_you_mean, shown
from seqmel.data.fitting.holidays import with_holidays
from seqmel.data.fitting.schema_inference import explain_schema
from seqmel.data.kinds.registry import check_events, kind_of
from seqmel.data.schema import EventSchema, SchemaOptions, SourceOptions, SourceSchema
from seqmel.data.sequences.prepared import is_prepared
from seqmel.data.sources.checking import time_sql
from seqmel.data.sources.csv_files import CSV
from seqmel.data.sources.reading import Events, open_events, open_member
from seqmel.data.sources.several import event_tables, only_table
from seqmel.data.sources.source import (
    RESERVED,
    ROW,
    EventSource,
    connect,
    ident,
    is_integer,
    is_real,
    literal,
    type_in_words,
)
from seqmel.data.vocabulary import CategoryCodes

__all__ = ["open_and_explain", "open_and_infer", "open_for_schema", "open_single"]

_MOST = 31  # sources
_SHIFT = 58  # bits of a position within a source
_SOURCE_COLUMNS = ("source", "event_source", "source_name")


@dataclass(frozen=True)
class _Member:
    """One of several tables.

    Attributes:
        name: its name.
        number: the number of its views.
        source: the table; its view `events` is that of `number`.
        schema: its own columns.
    """

    name: str
    number: int
    source: EventSource
    schema: EventSchema


def open_and_infer(
    events: Events, options: SchemaOptions, **how: Any
) -> tuple[EventSource, EventSchema]:
    """Open events that no model knows yet, and infer their schema.

    Args:
        events: as `open_events` takes them; or name -> events, for several tables.
        options: the columns that the user named.
        **how: limits of memory and threads, and `temp_folder`, of `open_events`.

    Returns:
        The opened events and their schema.

    Raises:
        InputError: the events cannot be read; ids of two tables have different types; or a table
            has no client of any other.
        SchemaError: a column is missing or unsuitable.
    """
    return open_and_explain(events, options, **how)[:2]


def open_and_explain(
    events: Events, options: SchemaOptions, **how: Any
) -> tuple[EventSource, EventSchema, dict[str, str]]:
    """Return what `open_and_infer` does, and feature -> why it is a category or a number."""
    tables = event_tables(events)
    if tables is None or len(tables) == 1:
        source, of_table = open_single(events, options, **how)
        schema, reasons = explain_schema(source, of_table)
        return source, with_holidays(schema, options), reasons
    _check_options(options, tables)
    connection = connect(**how)
    members: list[_Member] = []
    reasons = {}
    for number, (name, table) in enumerate(tables.items()):
        own = options.for_source(name)
        with _of_source(name):
            _check_table(table)
            source = open_member(connection, table, number, empty=False, **own.reading)
            _show(connection, number)
            schema, why = explain_schema(source, own)
            check_events(source, schema)
        members.append(_Member(name, number, source, schema))
        reasons |= {_joint(name, column, options.share): words for column, words in why.items()}
    _check_shared(members, options.share)
    schema = with_holidays(_joint_schema(members, options.share), options)
    source = _joint_source(connection, members, schema)
    _check_overlap(source, schema, members)
    return (
        source,
        schema,
        {column: reasons[column] for column in schema.features[1:]}
        | {str(schema.source): "the name of the source"},
    )


def open_single(
    events: Events, options: SchemaOptions, **how: Any
) -> tuple[EventSource, SourceOptions]:
    """Open events of one table, and return the schema options of that table.

    Args:
        events: one table, or one by its name.
        options: the schema options of the config.
        **how: see `open_and_infer`.
    """
    tables = event_tables(events)
    own: SourceOptions = options.for_source(next(iter(tables))) if tables else options
    return open_events(only_table(events), **own.reading, **how), own


def open_for_schema(
    events: Events,
    schema: EventSchema,
    categories: Mapping[str, CategoryCodes | None],
    *,
    empty: bool = False,
    **how: Any,
) -> EventSource:
    """Open events with the columns of a model.

    Args:
        events: see `open_and_infer`. Of several tables, some may be missing: they have no events.
        schema: the columns.
        categories: column -> its codes.
        empty: accept events without rows.
        **how: see `open_and_infer`.

    Returns:
        The opened events.

    Raises:
        InputError: the events cannot be read, or are of other sources than those of the schema.
        SchemaError: a column is missing or unsuitable.
    """
    tables = event_tables(events)
    if not schema.sources:
        if tables is not None and len(tables) > 1:
            raise InputError(
                f"The model was trained on one table of events; found the sources {shown(tables)}."
                " Give one, or train a model on all."
            )
        return open_events(
            only_table(events),
            client=schema.client,
            time=schema.time,
            skip=schema.skips,
            empty=empty,
            decimal="," if schema.decimal == "," else None,
            categories=categories,
            **how,
        )
    tables = _known_tables(tables, schema)
    connection = connect(**how)
    members = []
    for number, (name, table) in enumerate(schema.sources.items()):
        if name not in tables:
            continue
        with _of_source(name):
            _check_table(tables[name])
            source = open_member(
                connection, tables[name], number, client=table.client, time=table.time,
                skip=table.skips, empty=True, decimal="," if table.decimal == "," else None,
                categories={
                    own: categories[joint]
                    for own, joint in table.columns.items()
                    if joint in categories
                },
            )  # fmt: skip
            _show(connection, number)
            member = _Member(name, number, source, schema.of_source(name))
            check_events(source, member.schema)
        members.append(member)
    source = _joint_source(connection, members, schema)
    if not empty and source.is_empty:
        raise InputError(f"{source.label} have no rows. Expected one row per event.")
    return source


def _known_tables(tables: dict[str, Any] | None, schema: EventSchema) -> dict[str, Any]:
    """Return the tables, checked to be sources of the schema."""
    names = list(schema.sources)
    if tables is None:
        example = f"{names[0]}=PATH"
        raise InputError(
            f"The model was trained on the sources {shown(names)}. Name those of the events, as in"
            f" {example}, or in Python {{{names[0]!r}: ...}}."
        )
    for name in tables:
        if name not in schema.sources:
            raise InputError(
                f"The model has no source {name!r}.{did_you_mean(name, names)} It was trained on:"
                f" {shown(names)}."
            )
    return tables


def _check_options(options: SchemaOptions, tables: Mapping[str, Any]) -> None:
    """Check that options say which source they are for, and that there are such sources."""
    if len(tables) > _MOST:
        raise InputError(
            f"{len(tables)} sources of events. Expected at most {_MOST}: join tables with the same"
            " columns."
        )
    for option in ("categorical", "numeric", "numeric_by", "kinds"):
        if getattr(options, option) is not None:
            name = next(iter(tables))
            raise SchemaError(
                f"schema.{option} does not say for which source. Write"
                f" schema.sources.{name}.{option}."
            )
    for name in options.sources:
        if name not in tables:
            raise SchemaError(
                f"schema.sources names {name!r}, and the events have no such source."
                f"{did_you_mean(name, tables)} They are: {shown(tables)}."
            )


@contextlib.contextmanager
def _of_source(name: str) -> Iterator[None]:
    """Name the source in errors, and its options."""
    try:
        yield
    except (InputError, SchemaError) as error:
        words = re.sub(r"\bschema\.(?!sources|share)", f"schema.sources.{name}.", str(error))
        raise type(error)(f"Source {name}: {words}") from None


def _check_table(table: Events) -> None:
    if is_prepared(table):
        raise InputError(
            f"{table} is a folder of prepared sequences, which is used alone. Name the table of"
            " events, or prepare all tables together."
        )


def _show(connection: duckdb.DuckDBPyConnection, number: int) -> None:
    """Make `events` the view of one table."""
    connection.execute(f"CREATE OR REPLACE VIEW events AS FROM events_{number}")


def _joint(source: str, column: str, share: tuple[str, ...]) -> str:
    """Return the name of a column on the joint timeline."""
    return column if column in share else f"{source}.{column}"


def _check_shared(members: list[_Member], share: tuple[str, ...]) -> None:
    """Check that each shared column has one role, in at least two tables."""
    for column in share:
        roles = {m.name: m.schema.role_of(column) for m in members if column in m.schema.features}
        if len(roles) < 2:
            found = f"only {next(iter(roles))} has" if roles else "no source has"
            raise SchemaError(
                f"schema.share names {column!r}, which {found} among the columns to learn from."
                " Expected a column of at least two sources."
            )
        if len(set(roles.values())) > 1:
            words = ", ".join(f"{role} in {name}" for name, role in roles.items())
            raise SchemaError(
                f"The shared column {column!r} is {words}. Name it in categorical or numeric of"
                " each source, or leave it out of schema.share."
            )


def _joint_schema(members: list[_Member], share: tuple[str, ...]) -> EventSchema:
    """Return the schema of the joint timeline. Client and time are named as in the first table."""
    first = members[0].schema
    units = {m.schema.time_unit for m in members}
    categorical = dict[str, None]()
    numeric = dict[str, None]()
    left_out = dict[str, str]()
    by: dict[str, set[str | None]] = {}
    kinds: dict[str, str] = {}
    for m in members:
        kinds |= {_joint(m.name, c, share): kind for c, kind in m.schema.kinds.items()}
        categorical |= dict.fromkeys(_joint(m.name, c, share) for c in m.schema.categorical)
        numeric |= dict.fromkeys(_joint(m.name, c, share) for c in m.schema.numeric)
        left_out |= {f"{m.name}.{c}": why for c, why in m.schema.left_out.items()}
        for number in m.schema.numeric:
            kind = m.schema.numeric_by.get(number)
            by.setdefault(_joint(m.name, number, share), set()).add(
                None if kind is None else _joint(m.name, kind, share)
            )
    taken = {n.casefold() for n in (first.client, first.time, *categorical, *numeric, *kinds)}
    source = next((n for n in _SOURCE_COLUMNS if n not in taken), None)
    names = (first.client, first.time, str(source), *categorical, *numeric, *kinds)
    odd = next((n for n in names if RESERVED.fullmatch(n)), None)
    if odd is not None or source is None or len(taken) < len(names) - 1:
        clash = odd or shown(sorted({n for n in names if _often(n, names)}))
        raise SchemaError(
            f"Columns of the sources clash: {clash}. Rename them, or leave"
            " shared ones out of schema.share."
        )
    return EventSchema(
        client=first.client,
        time=first.time,
        time_unit=units.pop() if len(units) == 1 else "timestamp",
        categorical=(source, *categorical),
        numeric=(*numeric,),
        # A number that is shared but not scaled within the same category has one scale.
        numeric_by={n: str(*k) for n, k in by.items() if len(k) == 1 and None not in k},
        kinds=kinds,
        left_out=left_out,
        source=source,
        sources={
            m.name: SourceSchema(
                client=m.schema.client,
                time=m.schema.time,
                time_unit=m.schema.time_unit,
                time_format=m.schema.time_format,
                time_zone=m.schema.time_zone,
                decimal=m.schema.decimal,
                columns={c: _joint(m.name, c, share) for c in m.schema.features},
                stated_zone=m.schema.stated_zone,
            )
            for m in members
        },
    )


def _often(name: str, names: tuple[str, ...]) -> bool:
    return sum(name.casefold() == other.casefold() for other in names) > 1


def _joint_source(
    connection: duckdb.DuckDBPyConnection, members: list[_Member], schema: EventSchema
) -> EventSource:
    """Make `events` the view over all tables."""
    client = _client_type(members)
    time = _time_type(members, schema)
    columns = {schema.client: client, schema.time: time, ROW: "BIGINT"}
    columns |= {name: kind_of(schema, name).sql_type for name in schema.features}
    nothing = ", ".join(f"NULL::{kind} AS {ident(name)}" for name, kind in columns.items())
    parts = [f"SELECT {nothing} WHERE false"]
    parts += [_member_sql(m, schema, client, time) for m in members]
    connection.execute(f"CREATE OR REPLACE VIEW events AS {' UNION ALL BY NAME '.join(parts)}")
    nested = any(m.source.nested for m in members)
    if nested:  # a client of list columns may have no events
        clients = " UNION ALL ".join(
            f"SELECT {ident(m.schema.client)}::{client} AS {ident(schema.client)},"
            f" {_place(m)} AS {ROW} FROM {'nested' if m.source.nested else 'events'}_{m.number}"
            for m in members
        )
        connection.execute(
            f"CREATE OR REPLACE VIEW nested AS SELECT {ident(schema.client)}, min({ROW}) AS {ROW}"
            f" FROM ({clients}) GROUP BY 1"
        )
    return EventSource(
        connection,
        " and ".join(f"{m.name} ({m.source.label})" for m in members),
        {name: kind for name, kind in columns.items() if name != ROW},
        nested=nested,
        notes=tuple(f"{m.name}: {note}" for m in members for note in m.source.notes),
        client=schema.client,
        time=schema.time,
    )


def _place(member: _Member) -> str:
    """Return SQL for the position of an event of a table among those of all."""
    return f"{ROW} + ({member.number}::BIGINT << {_SHIFT})"


def _member_sql(member: _Member, schema: EventSchema, client: str, time: str) -> str:
    """Return SQL for the events of one table, with the names of the joint timeline."""
    own = member.schema
    source = member.source
    moment = (
        f"make_timestamp({time_sql(source, own)})"
        if schema.time_unit == "timestamp"
        else f"{ident(own.time)}::{time}"
    )
    columns = [
        f"{ident(own.client)}::{client} AS {ident(schema.client)}",
        f"{moment} AS {ident(schema.time)}",
        f"{_place(member)} AS {ROW}",
        f"{literal(member.name)} AS {ident(str(schema.source))}",
    ]
    for column, joint in schema.sources[member.name].columns.items():
        value = kind_of(schema, joint).value_sql(source, column)
        columns.append(f"{value} AS {ident(joint)}")
    return f"SELECT {', '.join(columns)} FROM events_{member.number}"


def _client_type(members: list[_Member]) -> str:
    """Return the type of client ids of all tables.

    Ids of a CSV file that look like numbers are text if another table has text: their digits are
    the same.

    Raises:
        InputError: the types of two tables differ.
    """
    kinds = {m.name: m.source.columns[m.schema.client] for m in members}
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    if all(map(is_integer, kinds.values())):
        return "HUGEINT" if any(k in ("HUGEINT", "UBIGINT") for k in kinds.values()) else "BIGINT"
    text = {name: _is_text(kind) for name, kind in kinds.items()}
    digits = {m.name: _is_csv(m) and is_integer(kinds[m.name]) for m in members}
    if any(text.values()) and all(text[name] or digits[name] for name in kinds):
        return "VARCHAR"
    first, *others = kinds
    other = next(n for n in others if kinds[n] != kinds[first])
    raise InputError(
        f"Client ids are {_ids_in_words(kinds[first])} in the source {first} and"
        f" {_ids_in_words(kinds[other])} in {other}. Use one type:"
        " a client has the same id in all sources."
    )


def _ids_in_words(kind: str) -> str:
    if is_real(kind):
        return f"numbers that may have fractions ({kind.split('(')[0].lower()})"
    return type_in_words(kind)


def _is_text(kind: str) -> bool:
    return kind.startswith(("VARCHAR", "ENUM"))


def _is_csv(member: _Member) -> bool:
    return any(os.fspath(file).lower().endswith(CSV) for file in member.source.files)


def _time_type(members: list[_Member], schema: EventSchema) -> str:
    """Return the type of times: timestamps, or numbers if all tables count in one unit."""
    if schema.time_unit == "timestamp":
        return "TIMESTAMP"
    kinds = [m.source.columns[m.schema.time] for m in members]
    return "BIGINT" if all(map(is_integer, kinds)) else "DOUBLE"


def _check_overlap(source: EventSource, schema: EventSchema, members: list[_Member]) -> None:
    """Check that each table has a client of another one. Ids in another format would have none."""
    client = ident(schema.client)
    name = ident(str(schema.source))
    alone = dict(
        source.rows(
            f"SELECT __key, min(__client::VARCHAR) FROM (SELECT {client} AS __client, {name} AS"
            f" __key, count(*) OVER (PARTITION BY {client}) AS __n FROM (SELECT DISTINCT {client},"
            f" {name} FROM events)) GROUP BY 1 HAVING max(__n) = 1"
        )
    )
    found = next((m for m in members if m.name in alone), None)
    if found is not None:
        others = [m for m in members if m is not found]
        ids = alone.get(others[0].name)
        other = f", and in {others[0].name} {ids!r}" if ids else ""
        raise InputError(
            f"No client of the source {found.name} is in another source. Its column"
            f" {found.schema.client!r} has ids such as {alone[found.name]!r}{other}. Name the same"
            " clients in all sources."
        )
