"""`seqmel runs`: model folders side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.core.units import count_words

__all__ = ["runs"]


def runs(
    folders: Annotated[
        list[Path], typer.Argument(help="Model folders, or folders that hold such.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A CSV file for the table.")
    ] = None,
) -> None:
    """Compare trained models: their figures, and the options in which they differ."""
    from seqmel.core.atomic_files import atomic_write
    from seqmel.training.runs import compare_runs

    found = compare_runs(folders)
    if output is not None:
        with atomic_write(output) as partial:
            found.to_csv(partial)
        typer.echo(f"{count_words(len(found), 'model')} in {output}")
        return
    text = found.T.map(_short).to_string() if len(found) < 5 else found.map(_short).to_string()
    typer.echo(text)


def _short(value: object) -> str:
    if isinstance(value, float) and value == value:
        return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
    if value is None or value != value:
        return "-"
    return f"{value:,}" if type(value) is int else str(value)
