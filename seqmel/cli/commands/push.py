"""`seqmel push`: a model folder to the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from seqmel.cli.arguments import Model

__all__ = ["push"]


def push(
    model: Model,
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the Hub.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    message: Annotated[
        str, typer.Option(help="Message of the commit.")
    ] = "Upload a model of seqmel",
) -> None:
    """Upload a model folder to the Hugging Face Hub; log in with hf auth login first."""
    from seqmel.api.hub import push_to_hub

    typer.echo(f"model at {push_to_hub(model, repository, private=not public, message=message)}")
