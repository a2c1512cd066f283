"""`seqmel tune`: search for better options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import (
    AnyTask,
    Columns,
    ConfigFile,
    Device,
    EventsOrConfig,
    Observed,
    Overwrite,
    Resume,
    Seed,
    Settings,
    event_tables_of,
    one_of,
    with_columns,
)

__all__ = ["tune"]


@with_columns
def tune(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the search.")],
    *,
    events: EventsOrConfig = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table with one row per client, to score by.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column of the labels.")] = None,
    task: AnyTask = "auto",
    observed: Observed = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric of the target, such as average_precision; AUROC by default."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help=r"YAML file: option: \[1, 2], or option: {low: 1, high: 9, log: true}; learning "
            "rate, sizes, dropout and temperature by default."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of trials in all; 20 without --minutes.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget in minutes.")] = None,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over all clients.")] = None,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Search for better options of train, scored by labels or by recall@1."""
    from seqmel.core.progress import console_progress
    from seqmel.experiment.tuning import read_space
    from seqmel.experiment.tuning import tune as run

    kind: Any = one_of("task", task, "auto", "classification", "regression", "survival")
    try:
        found = run(
            event_tables_of(events, config),
            output,
            labels=labels,
            target=target,
            task=kind,
            observed=observed,
            metric=metric,
            space=None if space is None else read_space(space),
            trials=trials,
            minutes=minutes,
            config_path=config,
            settings=tuple(settings or ()),
            flags={
                **{f"schema.{name}": value for name, value in columns.items()},
                "training.epochs": epochs,
                "seed": seed,
                "device": device,
            },
            resume=resume,
            overwrite=overwrite,
            progress=console_progress(),
        )
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command with --resume continues", err=True)
        raise typer.Exit(130) from None
    typer.echo(found.summary())
    typer.echo(f"model in {output / 'model'}, options in {output / 'best.yaml'}")
