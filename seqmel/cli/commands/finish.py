"""`seqmel finish`: the best epoch of an interrupted training as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Overwrite

__all__ = ["finish"]


def finish(
    output: Annotated[
        Path, typer.Argument(help="The model folder of the run, or its folder with .partial.")
    ],
    prepared: Annotated[
        Path | None,
        typer.Argument(help="The prepared sequences, if the run was trained on such."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Finish an interrupted training now, and keep its best epoch so far."""
    from seqmel.core.progress import console_progress
    from seqmel.training.finish import finish as finish_run

    path = finish_run(output, prepared, overwrite=overwrite, progress=console_progress())
    typer.echo(f"model in {path}")
