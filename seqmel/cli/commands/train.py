"""`seqmel train`: events in, a model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import (
    Columns,
    ConfigFile,
    Device,
    EventsOrConfig,
    Log,
    Overwrite,
    Precision,
    Resume,
    Seed,
    Settings,
    event_tables_of,
    event_words,
    read_options,
    with_columns,
)
from seqmel.cli.launching import first_process, launch_others
from seqmel.core.errors import shell_words

__all__ = ["train"]


@with_columns
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    *,
    events: EventsOrConfig = None,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over all clients.")] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=(
                "Stop after this many epochs without a better validation recall; 0, the default, "
                "never stops early. The best epoch is kept either way."
            ),
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clients per batch.")] = None,
    embedding_dim: Annotated[int | None, typer.Option(help="Embedding dimension.")] = None,
    encoder: Annotated[str | None, typer.Option(help="gru, lstm, transformer or none.")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="A model folder to start from: common columns, values and layers are taken over."
        ),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    devices: Annotated[
        int | None, typer.Option(help="Number of local devices that share each batch.")
    ] = None,
    precision: Precision = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config",
            help=(
                "Print all options as YAML, with sizes and estimated time, and train nothing. "
                "The events are read once."
            ),
        ),
    ] = False,
    log: Log = None,
    loggers: Annotated[
        list[str] | None,
        typer.Option("--logger", help="csv, tensorboard, mlflow or wandb. Repeatable."),
    ] = None,
) -> None:
    """Train a model on events."""
    flags = {
        "training.epochs": epochs,
        "training.patience": patience,
        "training.batch_size": batch_size,
        "training.init_from": init_from,
        "embedding_dim": embedding_dim,
        "encoder.name": encoder,
        "seed": seed,
        "device": device,
        "precision": precision,
        "devices": devices,
    }
    checked = read_options(config, settings, **columns, **flags)
    from seqmel.cli.log import logged
    from seqmel.training.hooks import Hooks
    from seqmel.training.run import train as run
    from seqmel.training.trackers import make_loggers

    tables = event_tables_of(events, config)
    if show_config:
        from seqmel.core.progress import console_progress
        from seqmel.training.estimate import estimate_training

        estimate = estimate_training(tables, config=checked, progress=console_progress())
        typer.echo(estimate.to_yaml(), nl=False)
        return
    launch_others(checked.devices)
    hooks = Hooks(loggers=make_loggers(loggers or [], output))
    try:
        options = {
            "events": tables,
            "output": output,
            "resume": resume,
            "config": checked.to_dict(),
        }
        with logged(log, "train", options) as progress:
            run(
                tables,
                output,
                config=checked,
                resume=resume,
                overwrite=overwrite,
                hooks=hooks,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo(
            "\n"
            "stopped; the same command with --resume continues, and seqmel finish "
            f"{shell_words(output)} keeps the best epoch so far ({output}.partial)",
            err=True,
        )
        raise typer.Exit(130) from None
    if first_process():
        if "mlflow" in (loggers or []):
            from seqmel.api.mlflow_model import log_mlflow_model

            log_mlflow_model(output, hooks.loggers)
        given = f"{shell_words(output)} {event_words(tables)}"
        typer.echo(f"model in {output}; next: seqmel embed {given} -o embeddings.parquet")
