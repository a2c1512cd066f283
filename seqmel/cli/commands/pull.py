"""`seqmel pull`: a model folder from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Overwrite

__all__ = ["pull"]


def pull(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hub.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; the newest by default.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Download a model folder from the Hugging Face Hub."""
    from seqmel.api.hub import pull_from_hub

    pull_from_hub(repository, output, revision=revision, overwrite=overwrite)
    typer.echo(f"model in {output}")
