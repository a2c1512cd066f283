"""`seqmel finetune`: labels learnt on top of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import (
    Client,
    ConfigFile,
    Device,
    Log,
    Overwrite,
    Precision,
    Resume,
    Seed,
    Settings,
    Time,
    TimeFormat,
    one_of,
    read_options,
)

__all__ = ["finetune"]


def finetune(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL EVENTS LABELS",
            help="A model folder, events, and a table with one row a client. Without MODEL with --from-scratch.",
        ),
    ],
    target: Annotated[list[str], typer.Option(help="The column to predict. Repeatable: all are learnt at once.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")],
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Learn from the labels alone, with a new encoder.")
    ] = False,
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto",
    unfreeze: Annotated[
        str | None, typer.Option(help="What learns: auto, head, gradual, discriminative or all.")
    ] = None,
    weight: Annotated[str | None, typer.Option(help="A column of the labels: how much each client counts.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Calibrate the probabilities.")] = False,
    client: Client = None,
    time: Time = None,
    time_format: TimeFormat = None,
    config: ConfigFile = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(help="How often to go through all labelled clients.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clients a batch.")] = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    log: Log = None,
) -> None:
    """Learn labels on top of a model, or from scratch."""
    from seqmel.cli.finetune import finetune_files

    flags = {
        "finetuning.unfreeze": unfreeze, "finetuning.epochs": epochs, "finetuning.batch_size": batch_size,
        "finetuning.calibrate": calibrate or None, "seed": seed, "device": device, "precision": precision,
    }  # fmt: skip
    of_events = {"time": time, "time_format": time_format} | ({"client": client} if from_scratch else {})
    checked = read_options(config, settings, **of_events, **flags)
    try:
        finetune_files(
            inputs, target, output, from_scratch=from_scratch, settings=settings or (), config=checked,
            task=one_of("task", task, "auto", "classification", "regression"),  # type: ignore[arg-type]
            weight=weight, client=client, overwrite=overwrite, resume=resume, log=log,
        )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; nothing is lost: the same command with --resume goes on ({output}.partial)", err=True)
        raise typer.Exit(130) from None
