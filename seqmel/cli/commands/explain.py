"""`seqmel explain`: which events, columns and facts moved a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import Device, Events, Facts, Log, Overwrite, device_option

__all__ = ["explain"]


def explain(
    model: Annotated[Path, typer.Argument(help="Model folder, fine-tuned or not.")],
    events: Events,
    clients: Annotated[
        list[str], typer.Option("--client", help="The id of a client to explain. Repeatable.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            help="A column of the predictions: churn=yes for the probability of a class, churn "
            "for the most likely one."
        ),
    ] = None,
    near: Annotated[
        str | None,
        typer.Option(help="Explain the cosine similarity with the vector of this client."),
    ] = None,
    facts: Facts = None,
    as_of: Annotated[
        str | None, typer.Option(help="Use only events before this time, such as 2024-01-31.")
    ] = None,
    last: Annotated[
        int, typer.Option(help="Explain this many of the last events; those before are one part.")
    ] = 200,
    orders: Annotated[
        int | None,
        typer.Option(help="Random orders to average over; 2 to 64 by default, by the events."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the orders.")] = 0,
    top: Annotated[int, typer.Option(min=1, help="Columns and events to print.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Parquet file for the contribution of each part."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw a timeline of the reasons to this PNG file."),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Explain which events, columns and facts moved the prediction of a client, or its vector."""
    from seqmel.api.model import load
    from seqmel.cli.log import logged
    from seqmel.cli.reasons import in_short
    from seqmel.core.atomic_files import atomic_write, check_output, check_parquet_name
    from seqmel.core.progress import record
    from seqmel.data.sources.several import named_events

    tables = named_events(events)
    if output is not None:
        check_parquet_name(output)
        check_output(output, overwrite=overwrite, folder=False, reads=(tables, facts))
    if plot is not None:
        check_output(plot, overwrite=overwrite, folder=False, reads=(tables, facts))
    given: dict[str, Any] = {
        "target": target,
        "near": near,
        "facts": facts,
        "as_of": as_of,
        "last": last,
        "orders": orders,
        "seed": seed,
    }
    with logged(log, "explain", {"model": model, "events": tables, "output": output}) as progress:
        found = load(model).explain(
            tables, clients, **given, device=device_option(device), progress=progress
        )
        record(progress, "counted", clients=len(set(clients)), rows=len(found))
    typer.echo(in_short(found, top))
    if output is not None:
        with atomic_write(output) as partial:
            found.to_parquet(partial, index=False)
        typer.echo(f"\n{len(found):,} contributions in {output}")
    if plot is not None:
        from seqmel.evaluation.reasons_picture import draw_reasons

        with atomic_write(plot) as partial:
            draw_reasons(partial, found)
        typer.echo(f"timeline in {plot}")
