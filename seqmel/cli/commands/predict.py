"""`seqmel predict`: what a fine-tuned model says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Device, Devices, Events, Log, Overwrite, Shard, device_option
from seqmel.cli.launching import first_process, launch_others

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that seqmel finetune wrote.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    shard: Shard = None,
    device: Device = None,
    devices: Devices = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write what a fine-tuned model says of each client."""
    from seqmel.cli.log import logged
    from seqmel.data.shard import shard_of
    from seqmel.files import check_parquet_name
    from seqmel.model import load_model
    from seqmel.parallel import launched
    from seqmel.prediction import predict_to_parquet
    from seqmel.progress import record
    from seqmel.sharing import predict_shared_to_parquet

    check_parquet_name(output)
    share = shard_of(shard) if shard is not None else None
    options = {"model": model, "events": events, "output": output, "shard": shard, "device": device_option(device)}
    launch_others(devices)
    with logged(log if first_process() else None, "predict", options) as progress:
        loaded = load_model(model)
        run = predict_shared_to_parquet if launched() else predict_to_parquet
        clients = run(
            loaded, events, output, shard=share, device=device_option(device), overwrite=overwrite, progress=progress
        )
        record(progress, "counted", clients=clients)
    if not first_process():
        return
    columns = ", ".join(column for target in loaded.targets for column in target.columns)
    typer.echo(f"{clients:,} clients in {output}: {loaded.schema.client}, {columns}")
