"""`seqmel index`: embeddings as an index of FAISS or usearch, or for pgvector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import Overwrite
from seqmel.core.units import count_words

__all__ = ["index"]


def index(
    embeddings: Annotated[Path, typer.Argument(help="A file of seqmel embed.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    library: Annotated[str, typer.Option(help="faiss, usearch or pgvector.")] = "faiss",
    k: Annotated[int, typer.Option("-k", help="Neighbours to measure recall with.")] = 10,
    client: Annotated[
        str | None, typer.Option(help="Client column; recognised by its name by default.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write an index for approximate search, and measure its recall against exact search."""
    from seqmel.inference.neighbour_index import write_index

    chosen: Any = library
    report = write_index(
        embeddings, output, library=chosen, k=k, client=client, overwrite=overwrite
    )
    typer.echo(
        f"{count_words(report.clients, 'client')}, {count_words(report.dimensions, 'dimension')} "
        f"in {output}"
    )
    if library == "pgvector":
        typer.echo(f"next: psql DATABASE -f {output / 'vectors.sql'}")
    elif report.recall is not None:
        typer.echo(
            f"recall@{k} against exact search {report.recall:.4f}; {report.milliseconds:.2f} ms "
            f"per search, exact {report.exact_milliseconds:.2f} ms"
        )
