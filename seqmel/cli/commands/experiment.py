"""`seqmel experiment`: compare sets of options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.core.errors import ConfigError

__all__ = ["experiment"]


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds cannot be {text!r}. Expected whole numbers: 0,1.") from None


def experiment(
    plan: Annotated[
        Path, typer.Argument(help="YAML file: data sets, rows of options, seeds, folds.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Results folder; existing results are resumed.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder that the paths of the plan are relative to.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Number of cells to run in parallel.", min=1)] = 1,
    only: Annotated[
        str | None, typer.Option(help="Only these data sets of the plan: pendigits,bpic2013.")
    ] = None,
    clients: Annotated[
        int | None, typer.Option(help="Maximum number of clients per data set.", min=2)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="These seeds in place of the plan's: 0,1.")
    ] = None,
    trees: Annotated[
        int | None, typer.Option(help="Trees of LightGBM, in place of the plan's.", min=1)
    ] = None,
) -> None:
    """Compare rows of options on data sets, with confidence intervals over folds and seeds."""
    from seqmel.core.progress import console_progress
    from seqmel.experiment import run_experiment

    table = run_experiment(
        plan,
        output,
        data=data,
        jobs=jobs,
        only=None if only is None else [name.strip() for name in only.split(",")],
        clients=clients,
        seeds=None if seeds is None else _numbers(seeds),
        trees=trees,
        progress=console_progress(),
    )
    typer.echo(
        f"{table.read_text(encoding='utf-8')}\n{table}; results.parquet and table.png are in the "
        f"same folder"
    )
