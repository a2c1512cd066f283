"""`seqmel predict`: what a fine-tuned model says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import AsOf, Device, Devices, Events, Log, Overwrite, Shard, device_option
from seqmel.cli.launching import first_process, launch_others
from seqmel.core.errors import ConfigError

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that seqmel finetune wrote.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    as_of: AsOf = None,
    shard: Shard = None,
    device: Device = None,
    devices: Devices = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write what a fine-tuned model says of each client, or of each client and moment."""
    from seqmel.cli.log import logged
    from seqmel.core.atomic_files import check_parquet_name
    from seqmel.core.distributed import launched
    from seqmel.core.progress import record
    from seqmel.data.sources.shard import shard_of
    from seqmel.inference.distributed import predict_shared_to_parquet
    from seqmel.inference.predict import predict_as_of, predict_to_parquet
    from seqmel.model import load_model

    check_parquet_name(output)
    if as_of is not None and ((devices or 1) > 1 or launched()):
        raise ConfigError("Several devices do not go with --as-of. Leave --devices or --as-of out.")
    share = shard_of(shard) if shard is not None else None
    options: dict[str, Any] = {"shard": share, "device": device_option(device), "overwrite": overwrite}
    given = {"model": model, "events": events, "output": output, "as_of": as_of, **options, "shard": shard}
    launch_others(devices)
    with logged(log if first_process() else None, "predict", given) as progress:
        loaded = load_model(model)
        if as_of is not None:
            rows = predict_as_of(loaded, events, as_of, output, **options, progress=progress)
        else:
            run = predict_shared_to_parquet if launched() else predict_to_parquet
            rows = run(loaded, events, output, **options, progress=progress)
        record(progress, "counted", **{"clients" if as_of is None else "rows": rows})
    if not first_process():
        return
    columns = ", ".join(column for target in loaded.targets for column in target.columns)
    keys = loaded.schema.client if as_of is None else f"{loaded.schema.client}, {loaded.schema.time}"
    typer.echo(f"{rows:,} clients{' and moments' if as_of else ''} in {output}: {keys}, {columns}")
