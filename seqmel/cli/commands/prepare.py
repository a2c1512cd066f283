"""`seqmel prepare`: encode events once, for repeated use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import (
    Columns,
    ConfigFile,
    Engine,
    EventsOrConfig,
    Log,
    Overwrite,
    Settings,
    event_tables_of,
    not_given,
    one_of,
    read_options,
    with_columns,
)
from seqmel.core.errors import shell_words

__all__ = ["prepare"]


@with_columns
def prepare(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    *,
    events: EventsOrConfig = None,
    model: Annotated[
        Path | None, typer.Option(help="Use the vocabulary of this model, to embed with it later.")
    ] = None,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    engine: Engine = "duckdb",
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Encode, sort and group events once, for repeated use by train and embed."""
    from seqmel.cli.log import logged
    from seqmel.inference.spark.run import prepare_spark
    from seqmel.model import load_model
    from seqmel.training.run import prepare as on_this_machine

    if model is not None:
        not_given("a model, which names its columns", **columns)
    run = (
        prepare_spark if one_of("engine", engine, "duckdb", "spark") == "spark" else on_this_machine
    )
    checked = read_options(config, settings, **columns)
    tables = event_tables_of(events, config)
    options = {"events": tables, "output": output, "model": model, "config": checked.to_dict()}
    with logged(log, "prepare", options) as progress:
        loaded = load_model(model) if model else None
        run(tables, output, config=checked, model=loaded, overwrite=overwrite, progress=progress)
    typer.echo(
        f"sequences in {output}; next: seqmel "
        f"{shell_words(*(('embed', model) if model else ('train',)), output)} -o ..."
    )
