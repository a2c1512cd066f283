"""`seqmel audit`: what vectors give away, beside plain aggregates and chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Device, Events, LabelsClient, Model, device_option
from seqmel.core.errors import ConfigError

__all__ = ["audit"]


def audit(
    model: Model,
    events: Events,
    sensitive: Annotated[
        Path | None,
        typer.Option(help="Table with one row per client, with columns not to be known."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Column of SENSITIVE to predict. Repeatable.")
    ] = None,
    members: Annotated[
        Path | None,
        typer.Option(help="Table with the ids of the clients that the model was trained on."),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "The training events of the model, in place of --members. Repeatable, as NAME=PATH."
            )
        ),
    ] = None,
    weaken: Annotated[
        str | None,
        typer.Option(
            help=(
                "Attack weakened embeddings too: int8,binary,noise=0.5,dim=16 or several joined by "
                "+, such as dim=16+int8."
            )
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Table with one row per client, to see what weakened vectors cost."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Column of LABELS to predict. Repeatable.")
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(help="Numbers of events that the attacker has; 5,10,20 by default."),
    ] = None,
    clients: Annotated[
        int, typer.Option(help="Maximum number of clients to find, and of members.")
    ] = 2_000,
    client: LabelsClient = None,
    folds: Annotated[int, typer.Option(help="Cross-validation folds.")] = 5,
    trees: Annotated[int, typer.Option(help="LightGBM trees.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    device: Device = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", "--json", help="Write a JSON file.")
    ] = None,
) -> None:
    """Attack the vectors: re-identification, attribute inference, membership inference."""
    from rich.console import Console

    from seqmel.api.model import load
    from seqmel.core.atomic_files import check_result, write_json
    from seqmel.core.progress import console_progress
    from seqmel.data.sources.several import named_events

    tables = named_events(events)
    given = named_events(trained_on) if trained_on else None
    check_result(output, model, tables, given, sensitive, labels, members)
    found = load(model).audit(
        tables,
        sensitive=None if sensitive is None else str(sensitive),
        column=column,
        labels=None if labels is None else str(labels),
        target=target,
        members=None if members is None else str(members),
        trained_on=given,
        weaken=[] if weaken is None else weaken.split(","),
        known=_numbers(known),
        clients=clients,
        client=client,
        folds=folds,
        trees=trees,
        seed=seed,
        device=device_option(device),
        progress=console_progress(),
    )
    write_json(output, found.to_json())
    console = Console(highlight=False)
    for table in found.tables():
        console.print(table)
        console.print()
    for remark in found.remarks:
        console.print(remark, markup=False)


def _numbers(text: str | None) -> list[int] | None:
    """Parse comma-separated numbers: 5,10,20."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--known cannot be {text!r}. Expected numbers of events, such as 5,10,20."
        ) from None
