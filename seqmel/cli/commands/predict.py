"""`seqmel predict`: a fine-tuned model and events in, predictions out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import (
    AsOf,
    Device,
    Devices,
    Events,
    Facts,
    Log,
    Only,
    Overwrite,
    ParquetOutput,
    Per,
    Shard,
    device_option,
    flag,
)
from seqmel.cli.launching import first_process, launch_others

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(help="Fine-tuned model folder.")],
    events: Events,
    output: ParquetOutput,
    per: Per = "client",
    only: Only = None,
    as_of: AsOf = None,
    facts: Facts = None,
    shard: Shard = None,
    device: Device = None,
    devices: Devices = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write what a fine-tuned model says of each client, client and moment, or event."""
    from seqmel.api.embedding import check_together
    from seqmel.api.model import load
    from seqmel.cli.log import logged
    from seqmel.core.atomic_files import check_parquet_name
    from seqmel.core.distributed import is_launched
    from seqmel.core.progress import record
    from seqmel.data.sources.several import named_events
    from seqmel.data.sources.shard import shard_of
    from seqmel.inference.per_event import EVENT, last_events

    check_parquet_name(output)
    last_events(only)
    several = (devices or 1) > 1 or is_launched()
    check_together(per=per, only=only, as_of=as_of, several=several, spelled=flag)
    share = shard_of(shard) if shard is not None else None
    options: dict[str, Any] = {
        "per": per,
        "only": only,
        "as_of": as_of,
        "facts": facts,
        "shard": share,
        "device": device_option(device),
        "overwrite": overwrite,
    }
    tables = named_events(events)
    given = {"model": model, "events": tables, "output": output, **options, "shard": shard}
    launch_others(devices)
    with logged(log if first_process() else None, "predict", given) as progress:
        loaded = load(model)
        rows = loaded.predict(tables, output, **options, progress=progress).rows
        by_client = as_of is None and per == "client"
        record(progress, "counted", **{"clients" if by_client else "rows": rows})
    if not first_process():
        return
    columns = ", ".join(column for target in loaded.targets for column in target.columns)
    keys = [loaded.schema.client, *([] if by_client else [loaded.schema.time])]
    keys += [EVENT] if per == "event" else []
    whom = "events" if per == "event" else "clients" if as_of is None else "clients and moments"
    typer.echo(f"{rows:,} {whom} in {output}: {', '.join(keys)}, {columns}")
