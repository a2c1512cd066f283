"""`seqmel predict`: what a fine-tuned model says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Device, Events, Log, Overwrite, device_option

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that seqmel finetune wrote.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    device: Device = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write what a fine-tuned model says of each client."""
    from seqmel.cli.log import logged
    from seqmel.model import load_model
    from seqmel.prediction import predict_to_parquet
    from seqmel.progress import record

    options = {"model": model, "events": events, "output": output, "device": device_option(device)}
    with logged(log, "predict", options) as progress:
        loaded = load_model(model)
        clients = predict_to_parquet(
            loaded, events, output, device=device_option(device), overwrite=overwrite, progress=progress
        )
        record(progress, "counted", clients=clients)
    columns = ", ".join(column for target in loaded.targets for column in target.columns)
    typer.echo(f"{clients:,} clients in {output}: {loaded.schema.client}, {columns}")
