"""`seqmel report`: one HTML page on a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import (
    Device,
    Events,
    LabelsClient,
    Model,
    Overwrite,
    device_option,
    not_given,
)

__all__ = ["report"]


def report(
    model: Model,
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    embeddings: Annotated[
        str | None, typer.Option(help="Show these embeddings instead of computing them.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Table with one row per client, to colour the map by.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Column of the labels. Repeatable.")
    ] = None,
    client: LabelsClient = None,
    scores: Annotated[
        list[str] | None, typer.Option(help="File written by evaluate --json. Repeatable.")
    ] = None,
    reasons: Annotated[
        Path | None, typer.Option(help="File written by explain -o, for a timeline per client.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="File written by audit -o, for a section on privacy.")
    ] = None,
    clients: Annotated[
        int, typer.Option(help="Maximum number of clients to show.", min=2, max=5_000)
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Seed of the sample and the map.", min=0)] = 0,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one HTML page: training run, data, scores, a map of the clients, nearest neighbours."""
    if labels is None:
        not_given("a report without labels", client=client)
    import datetime as dt

    from seqmel.core.progress import console_progress
    from seqmel.data.sources.several import named_events
    from seqmel.model import load_model
    from seqmel.report.writing import write_report

    size = write_report(
        load_model(model),
        named_events(events),
        output,
        embeddings=embeddings,
        labels=labels,
        targets=target or (),
        client=client,
        scores=scores or (),
        reasons=reasons,
        audit=audit,
        clients=clients,
        seed=seed,
        title=model.resolve().name,
        written=dt.datetime.now(),
        device=device_option(device),
        overwrite=overwrite,
        progress=console_progress(),
    )
    typer.echo(f"report in {output} ({size / 1e6:.1f} MB); open it in a browser")
