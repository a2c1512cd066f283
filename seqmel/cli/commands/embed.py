"""`seqmel embed`: a model and events in, embeddings out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from seqmel.cli.arguments import (
    AsOf,
    Device,
    Devices,
    Engine,
    Events,
    Log,
    Model,
    Only,
    Overwrite,
    ParquetOutput,
    Shard,
    device_option,
    flag,
    one_of,
)
from seqmel.cli.launching import first_process, launch_others
from seqmel.core.errors import shell_words
from seqmel.core.units import count_words

__all__ = ["embed"]


def embed(
    model: Model,
    events: Events,
    output: ParquetOutput,
    layout: Annotated[
        str, typer.Option(help="columns (emb_0000 ...) or list (one list column `embedding`).")
    ] = "columns",
    dtype: Annotated[
        str, typer.Option(help="float32, float16, int8 or binary (one bit per dimension).")
    ] = "float32",
    dim: Annotated[
        int | None,
        typer.Option(
            help="Truncate embeddings to this dimension, for models trained with matryoshka."
        ),
    ] = None,
    quantization_from: Annotated[
        Path | None,
        typer.Option(
            help="Reuse the scales of this earlier file of the same dtype, int8 or binary."
        ),
    ] = None,
    per: Annotated[
        str,
        typer.Option(
            help="client; event for one row per event: what was known right after it; or source "
            "for one row per client and event table."
        ),
    ] = "client",
    only: Only = None,
    as_of: AsOf = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help=(
                "State file for incremental updates: EVENTS holds only the events since the "
                "last run."
            )
        ),
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "With --state: all events so far, to recompute clients with late events. "
                "Repeatable, as NAME=PATH."
            )
        ),
    ] = None,
    skipped: Annotated[
        Path | None,
        typer.Option(
            help=(
                "With --state: Parquet file to write the ids of clients skipped because of late "
                "events to."
            )
        ),
    ] = None,
    shard: Shard = None,
    engine: Engine = "duckdb",
    device: Device = None,
    devices: Devices = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write one vector per client, client and time, event, or source; or update vectors."""
    from seqmel.api.embedding import VectorPer, check_together
    from seqmel.api.model import load
    from seqmel.cli.log import logged
    from seqmel.core.atomic_files import check_parquet_name
    from seqmel.core.distributed import is_launched
    from seqmel.core.progress import record
    from seqmel.data.sources.several import named_events
    from seqmel.data.sources.shard import shard_of
    from seqmel.data.tables.number_types import NumberType
    from seqmel.data.tables.vector_files import LAYOUTS
    from seqmel.inference.per_event import last_events

    check_parquet_name(output)
    several = (devices or 1) > 1 or is_launched()
    last_events(only)
    check_together(
        per=per,
        kinds=get_args(VectorPer),
        only=only,
        as_of=as_of,
        state=state,
        shard=shard,
        engine=engine,
        several=several,
        spelled=flag,
    )
    options: dict[str, Any] = {
        "per": per,
        "only": only,
        "as_of": as_of,
        "state": state,
        "history": named_events(history) if history else None,
        "skipped": skipped,
        "shard": shard,
        "engine": engine,
        "layout": one_of("layout", layout, *LAYOUTS),
        "dtype": one_of("dtype", dtype, *get_args(NumberType)),
        "dim": dim,
        "quantization_from": quantization_from,
        "device": device_option(device),
        "overwrite": overwrite,
    }
    tables = named_events(events)
    given = {"model": model, "events": tables, "output": output, **options}
    if shard is not None:
        options["shard"] = shard_of(shard)
    launch_others(devices)
    with logged(log if first_process() else None, "embed", given) as progress:
        done = load(model).embed(tables, output, **options, progress=progress)
        updated = (
            {} if state is None else {"new_clients": done.new_clients, "skipped": len(done.skipped)}
        )
        by_client = as_of is None and per == "client"
        counted = {"clients" if by_client else "rows": done.rows, "dimensions": done.dimensions}
        record(progress, "counted", **counted, **updated)
    if not first_process():
        return
    new = f" ({done.new_clients:,} of them new)" if state is not None else ""
    whom = ("event", "events") if per == "event" else ("client", "clients")
    if per == "source":
        whom = ("client and source", "clients and sources")
    if as_of is not None:
        whom = ("client and moment", "clients and moments")
    what = (
        f"{count_words(done.rows or 0, *whom)}{new} x {count_words(done.dimensions or 0, 'number')}"
    )
    if state is not None:
        typer.echo(
            f"{what} in {output}; {count_words(done.known_clients or 0, 'client')} in {state}"
        )
    elif not by_client:
        typer.echo(f"{what} in {output}")
    else:
        typer.echo(
            f"{what} in {output}; next: seqmel evaluate LABELS --target T --embeddings "
            f"{shell_words(output)}"
        )
