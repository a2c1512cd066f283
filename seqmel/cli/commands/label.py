"""`seqmel label`: labels of what happens next, from the events themselves."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmel.cli.arguments import (
    Columns,
    ConfigFile,
    EventsOrConfig,
    Log,
    Overwrite,
    ParquetOutput,
    Settings,
    event_tables_of,
    event_words,
    read_options,
    with_columns,
)
from seqmel.core.errors import shell_words
from seqmel.core.units import count_words

if TYPE_CHECKING:
    from seqmel.data.tables.event_labels import EventLabels

__all__ = ["label"]

_SHOWN = 40


@functools.partial(with_columns, without=("time_zone",))
def label(
    within: Annotated[
        str, typer.Option(help="Length of the window: a number with min, h, d or w, such as 30d.")
    ],
    output: ParquetOutput,
    *,
    events: EventsOrConfig = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Events that count: COLUMN, COLUMN=VALUE or COLUMN>NUMBER. Repeatable: all must "
                "hold. Every event by default."
            )
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(help="Moments: day, week (Mondays), month (first days), or such as 30d."),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="A moment, in place of --every. Repeatable.")
    ] = None,
    gap: Annotated[str, typer.Option(help="Time between the moment and the window.")] = "0d",
    kind: Annotated[
        str,
        typer.Option(
            help=(
                "any (1 or 0), count, sum of --column, or time_to_event in days; without an event "
                "it is the end of the window, and TARGET_observed is false."
            )
        ),
    ] = "any",
    column: Annotated[str | None, typer.Option(help="Column to add up, for --kind sum.")] = None,
    target: Annotated[str, typer.Option(help="Name of the label column.")] = "target",
    until: Annotated[
        str | None,
        typer.Option(help="The data are complete up to this time; by default to the last event."),
    ] = None,
    all_clients: Annotated[
        bool,
        typer.Option("--all-clients", help="Keep clients without an event before a moment."),
    ] = False,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Label clients at moments by their events in the window [moment + gap, moment + gap + within).

    A window that reaches past the end of the data is left out.
    """
    from seqmel.cli.log import logged
    from seqmel.core.atomic_files import atomic_write, check_output, check_parquet_name
    from seqmel.core.progress import record
    from seqmel.data.tables.event_labels import LabelOptions, event_labels

    check_parquet_name(output)
    asked: dict[str, Any] = {
        "within": within,
        "event": tuple(event or ()),
        "every": every,
        "at": tuple(at or ()),
        "gap": gap,
        "kind": kind,
        "column": column,
        "target": target,
        "until": until,
        "all_clients": all_clients,
    }
    options = LabelOptions(**asked)
    options.check()
    checked = read_options(config, settings, **columns)
    table = event_tables_of(events, config)
    check_output(output, overwrite=overwrite, folder=False, reads=(table,))
    given = {"events": table, "output": output, **asked, "config": checked.to_dict()}
    with logged(log, "label", given) as progress:
        made = event_labels(table, options, checked.schema, **checked.resources)
        with atomic_write(output) as partial:
            rows = made.write(partial)
        for note in made.notes:
            progress.say(note)
        record(progress, "counted", rows=rows, clients=made.clients, moments=len(made.summary))
    _print_summary(made, options.kind)
    names = ", ".join(made.columns)
    typer.echo(
        f"{count_words(rows, 'row')} of {count_words(made.clients, 'client')} in {output}: {names}"
    )
    task = " --task survival" if options.kind == "time_to_event" else ""
    typer.echo(
        f"next: seqmel finetune MODEL {event_words(table)} {shell_words(output)} --target "
        f"{shell_words(target, '--time-column', made.columns[1])}{task} -o MODEL2"
    )


def _print_summary(made: EventLabels, kind: str) -> None:
    """Print one line per moment: rows and the mean label."""
    from rich.console import Console
    from rich.table import Table

    means = {"any": "positive", "time_to_event": "observed"}
    table = Table("moment", "rows", means.get(kind, "mean"))
    for column in table.columns[1:]:
        column.justify = "right"
    for moment, rows, mean in made.summary.head(_SHOWN).itertuples(index=False):
        value = f"{mean:.1%}" if kind in means else f"{mean:,.4g}"
        table.add_row(str(moment), f"{rows:,}", value)
    if len(made.summary) > _SHOWN:
        table.add_row(f"and {len(made.summary) - _SHOWN:,} more", "", "")
    Console(highlight=False).print(table)
