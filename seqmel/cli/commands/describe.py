"""`seqmel describe`: what a model would learn from, for people and as JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from seqmel.cli.arguments import (
    Columns,
    ConfigFile,
    EventsOrConfig,
    JsonFile,
    Settings,
    event_tables_of,
    read_options,
    with_columns,
)
from seqmel.core.units import count_words, duration_words

if TYPE_CHECKING:
    from rich.table import Table

    from seqmel.data.schema import EventSchema

__all__ = ["describe"]

_EPOCH = datetime(1970, 1, 1)


@with_columns
def describe(
    *,
    events: EventsOrConfig = None,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    json_file: JsonFile = None,
) -> None:
    """Show what a model would learn from: column roles, sequence lengths, gaps between events."""
    checked = read_options(config, settings, **columns)
    from rich.console import Console
    from rich.markup import escape

    from seqmel.core.atomic_files import check_result, write_json
    from seqmel.data.fitting.description import describe_source
    from seqmel.data.fitting.timeline import open_and_explain
    from seqmel.data.sequences.repeated_events import repeats_words

    tables = event_tables_of(events, config)
    check_result(json_file, tables)
    source, schema, reasons = open_and_explain(tables, checked.schema, **checked.resources)
    facts = describe_source(source, schema)
    for column, why in reasons.items():
        facts["columns"][column]["why"] = why
    write_json(json_file, facts, default=str)
    console = Console(highlight=False, width=max(100, Console().width))
    layout = "one row per client, list columns" if source.nested else "one row per event"
    console.print(
        f"[bold]{escape(source.label)}[/]: {count_words(facts['events'], 'event')} of "
        f"{count_words(facts['clients'], 'client')} ({layout})",
        soft_wrap=True,
    )
    console.print(_spread("events per client", facts["events_per_client"], lambda x: f"{x:,.0f}"))
    repeats = repeats_words(round(facts["repeated_events"] * facts["events"]), facts["events"])
    for note in (*source.notes, *([repeats] if repeats else [])):
        console.print(escape(note), soft_wrap=True)
    if facts["gap_seconds"]:
        console.print(_spread("gap between events", facts["gap_seconds"], duration_words))
    console.print(
        f"time: {schema.time} ({schema.time_kind}), "
        f"{_period(schema, facts['from_us'], facts['to_us'])}"
    )
    console.print(_table(schema, facts))


def _period(schema: EventSchema, first_us: int, last_us: int) -> str:
    """Return the first and the last time; as dates unless the time is a plain count.

    Dates reveal a wrong time unit.
    """
    long = duration_words((last_us - first_us) / 1e6)
    try:
        first, last = (_EPOCH + timedelta(microseconds=us) for us in (first_us, last_us))
    except OverflowError:
        return (
            f"{long} from first to last, beyond the years 1 to 9999: is that the right column "
            f"and unit?"
        )
    shown = "%Y-%m-%d" if last - first >= timedelta(days=2) else "%Y-%m-%d %H:%M"
    counted = "" if schema.time_unit == "timestamp" else ", counted from 1970-01-01"
    odd = (
        "; before 1970 or after 2100: is that right?"
        if first.year < 1970 or last.year >= 2100
        else ""
    )
    zones = " and ".join(schema.time_zones)
    calendar = f"; the calendar is read in {zones}" if zones else ""
    for name, days in schema.calendars.items():
        among = sum(first.date() <= day <= last.date() for day in days)
        of = f" of {name}" if name else ""
        calendar += f"; {among:,} of {len(days):,} holidays{of} are among these days"
    return f"{first:{shown}} to {last:{shown}} ({long}{counted}){calendar}{odd}"


def _spread(name: str, quantiles: dict[str, float], show: Any) -> str:
    low, q1, middle, q3, p95, high = (show(v) for v in quantiles.values())
    return (
        f"{name}: median {middle}, middle half {q1} to {q3}, 95 % up to {p95}, range {low} to "
        f"{high}"
    )


def _table(schema: EventSchema, facts: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from seqmel.data.kinds.registry import kind_of

    table = Table("column", "is", "contents", "why", box=None, header_style="bold", pad_edge=False)
    ids = facts["client_ids"]
    first = ", ".join(
        repr(client) if isinstance(client, str) else str(client) for client in ids["first"]
    )
    table.add_row(escape(schema.client), "client", escape(f"{ids['type']}, such as {first}"))
    table.add_row(escape(schema.time), "time", schema.time_kind)
    for column, about in facts["columns"].items():
        nulls = f"; {about['nulls']:,} nulls" if about["nulls"] else ""
        within = f" within {schema.numeric_by[column]}" if column in schema.numeric_by else ""
        contents = kind_of(schema, column).contents(about, facts["events"])
        table.add_row(
            escape(column), about["role"] + within, escape(contents) + nulls, escape(about["why"])
        )
    for column, why in schema.left_out.items():
        table.add_row(escape(column), "[dim]left out[/]", f"[dim]{escape(why)}[/]")
    return table
