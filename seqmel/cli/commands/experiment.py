"""`seqmel experiment`: rows of options compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["experiment"]


def experiment(
    plan: Annotated[Path, typer.Argument(help="A YAML file: data sets, rows of options, seeds, folds.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of results; gone on with where it is there.")
    ],
    data: Annotated[Path | None, typer.Option(help="The folder that the plan's paths are relative to.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells that run side by side.", min=1)] = 1,
) -> None:
    """Compare rows of options on data sets, with intervals over folds and seeds."""
    from seqmel.core.progress import console_progress
    from seqmel.experiment import run_experiment

    table = run_experiment(plan, output, data=data, jobs=jobs, progress=console_progress())
    typer.echo(f"{table.read_text(encoding='utf-8')}\n{table}, and beside it results.parquet and table.png")
