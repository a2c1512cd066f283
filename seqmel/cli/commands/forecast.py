"""`seqmel forecast`: what each client does within a horizon."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seqmel.cli.arguments import Device, Events, Log, Model, Overwrite, ParquetOutput, device_option
from seqmel.core.units import count_words

__all__ = ["forecast"]


def forecast(
    model: Model,
    events: Events,
    within: Annotated[
        str, typer.Option(help="The horizon: a number with min, h, d or w, such as 30d.")
    ],
    output: ParquetOutput,
    by: Annotated[
        str | None,
        typer.Option(
            help="Categorical column with the kind of an event; by default the one that events "
            "are pooled by."
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(help="Number of most frequent values to forecast each; the others together."),
    ] = 10,
    amount: Annotated[
        str | None,
        typer.Option(help="Numeric column: forecast it for the next event too, such as amount."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Moment of the forecast, such as 2024-01-31; the end by default."),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Forecast the number of events of each kind within a horizon, the next event and its time."""
    from seqmel.api.model import load
    from seqmel.cli.log import logged
    from seqmel.core.atomic_files import atomic_write, check_output, check_parquet_name
    from seqmel.core.progress import record
    from seqmel.data.sources.several import named_events

    check_parquet_name(output)
    tables = named_events(events)
    check_output(output, overwrite=overwrite, folder=False, reads=(tables,))
    asked: dict[str, Any] = {
        "within": within,
        "by": by,
        "top": top,
        "amount": amount,
        "as_of": as_of,
    }
    given = {"model": model, "events": tables, "output": output, **asked}
    with logged(log, "forecast", given) as progress:
        found = load(model).forecast(
            tables, **asked, device=device_option(device), progress=progress
        )
        with atomic_write(output) as partial:
            found.table.reset_index().to_parquet(partial, index=False)
        record(progress, "counted", clients=len(found.table))
    typer.echo(
        f"in the latest {within} of the data ({count_words(found.rows, 'client')}), lower is "
        "better:"
    )
    typer.echo(found.scores.reset_index().to_string(index=False, float_format="{:.4f}".format))
    typer.echo(
        f"{count_words(len(found.table), 'client')} in {output}: forecasts of {within} from "
        f"{found.moment} on"
    )
