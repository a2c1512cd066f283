"""`seqmel embed`: a model and events in, vectors out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from seqmel.cli.arguments import AsOf, Device, Devices, Engine, Events, Log, Overwrite, Shard, device_option, one_of
from seqmel.cli.launching import first_process, launch_others
from seqmel.core.errors import ConfigError

__all__ = ["embed"]


def embed(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    events: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    layout: Annotated[str, typer.Option(help="columns (emb_0000 ...) or list (one column `embedding`).")] = "columns",
    dtype: Annotated[str, typer.Option(help="float32, float16, int8 or binary (one bit a number).")] = "float32",
    dim: Annotated[
        int | None, typer.Option(help="Only so many first numbers, of a model that was trained with matryoshka.")
    ] = None,
    scales: Annotated[
        Path | None, typer.Option(help="An earlier file of the same int8 or binary, whose scales are to be used again.")
    ] = None,
    as_of: AsOf = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="What is kept of the clients: EVENTS are those since last time, and only their clients come out."
        ),
    ] = None,
    shard: Shard = None,
    engine: Engine = "duckdb",
    device: Device = None,
    devices: Devices = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write one vector a client, or one a client and moment; or bring vectors up to date from new events."""
    from seqmel.cli.log import logged
    from seqmel.core.atomic_files import check_parquet_name
    from seqmel.core.distributed import launched
    from seqmel.core.progress import record
    from seqmel.data.sources.shard import shard_of
    from seqmel.data.tables.number_types import NumberType

    check_parquet_name(output)
    if as_of is not None and state is not None:
        raise ConfigError(
            "--as-of and --state do not go together: a state holds what is known now. Leave one of them out."
        )
    by_spark = one_of("engine", engine, "duckdb", "spark") == "spark"
    if by_spark and (as_of is not None or state is not None):
        raise ConfigError("--engine spark goes with neither --as-of nor --state. Leave it out, or them.")
    if shard is not None and by_spark:
        raise ConfigError("--shard does not go with --engine spark. Leave one of them out.")
    if ((devices or 1) > 1 or launched()) and (by_spark or as_of is not None or state is not None):
        raise ConfigError(
            "Several devices go with none of --engine spark, --as-of and --state. Leave --devices out, or them."
        )
    options: dict[str, Any] = {
        "layout": one_of("layout", layout, "columns", "list"), "dtype": one_of("dtype", dtype, *get_args(NumberType)),
        "dim": dim, "scales": scales, "device": device_option(device), "overwrite": overwrite,
    }  # fmt: skip
    given = {
        "model": model,
        "engine": engine,
        "events": events,
        "output": output,
        "as_of": as_of,
        "state": state,
        "shard": shard,
        **options,
    }
    if shard is not None:
        options["shard"] = shard_of(shard)
    launch_others(devices)
    with logged(log if first_process() else None, "embed", given) as progress:
        counts, words = _embedded(model, events, output, as_of, state, by_spark, options | {"progress": progress})
        record(progress, "counted", **counts)
    if first_process():
        typer.echo(words)


def _embedded(
    model: Path,
    events: str,
    output: Path,
    as_of: str | None,
    state: Path | None,
    by_spark: bool,
    options: dict[str, Any],
) -> tuple[dict[str, int], str]:
    """Do it in the way that was asked for; gives what was counted, and a line on it."""
    from seqmel.core.distributed import launched
    from seqmel.evaluation.watch import InputWatch
    from seqmel.inference.as_of import embed_as_of
    from seqmel.inference.distributed import embed_shared_to_parquet
    from seqmel.inference.embed import embed_to_parquet
    from seqmel.inference.spark.run import embed_spark_to_parquet
    from seqmel.inference.update import embed_update
    from seqmel.model import load_model

    if as_of is not None:
        rows, size = embed_as_of(load_model(model), events, as_of, output, **options)
        return {"rows": rows, "dimensions": size}, f"{rows:,} clients and moments x {size} numbers in {output}"
    if state is not None:
        done = embed_update(load_model(model), events, state, output, **options)
        words = (
            f"{done.clients:,} clients ({done.new:,} of them new) x {done.dimensions} numbers in {output};"
            f" {done.known:,} clients in {state}"
        )
        return {"clients": done.clients, "new_clients": done.new, "dimensions": done.dimensions}, words
    loaded = load_model(model)
    if by_spark or launched():
        run = embed_spark_to_parquet if by_spark else embed_shared_to_parquet
        clients, size = run(loaded, events, output, **options)
    else:
        watch = InputWatch(loaded.statistics, loaded.vocabulary.time) if loaded.statistics else None
        clients, size = embed_to_parquet(loaded, events, output, **options, watch=watch.see if watch else None)
        warning = watch.warning() if watch else None
        if warning:
            options["progress"].say(f"warning: {warning}. Look closer: seqmel drift {model} {events}")
    return {"clients": clients, "dimensions": size}, (
        f"{clients:,} clients x {size} numbers in {output}; next: seqmel evaluate LABELS --target T --embeddings {output}"
    )
