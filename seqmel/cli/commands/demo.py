"""`seqmel demo`: the whole story on generated data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Overwrite

__all__ = ["demo"]


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("seqmel-demo"),
    clients: Annotated[int, typer.Option(help="How many clients to generate.", min=200)] = 3000,
    seed: Annotated[int, typer.Option(help="Of the data and the training.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """The whole story on generated card data: events, training, embeddings, scores, a picture."""
    from seqmel.cli.demo import run_demo
    from seqmel.core.progress import console_progress

    run_demo(output, clients=clients, seed=seed, overwrite=overwrite, progress=console_progress())
