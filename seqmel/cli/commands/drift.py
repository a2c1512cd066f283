"""`seqmel drift`: the vectors of two periods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Client

__all__ = ["drift"]


def drift(
    reference: Annotated[str, typer.Argument(help="A file of embeddings: what they were.")],
    current: Annotated[str, typer.Argument(help="A file of embeddings of the same model: what they are.")],
    client: Client = None,
    bins: Annotated[int, typer.Option(help="Bins of the reference for the PSI.")] = 10,
    psi: Annotated[float, typer.Option(help="From which PSI on a dimension has moved.")] = 0.25,
    p_value: Annotated[float, typer.Option(help="At or below which p-value of the MMD the whole has moved.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the sample and the permutations.")] = 0,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="End with exit code 1 where there is drift.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Compare the embeddings of two periods: each dimension by PSI, all together by MMD."""
    from seqmel.cli.drift import compare_embeddings

    found = compare_embeddings(
        reference, current, client=client, bins=bins, psi=psi, p_value=p_value, seed=seed, json_file=json_file
    )
    if found.drifted and fail_on_drift:
        raise typer.Exit(1)
