"""`seqmel similar`: the clients most similar to given ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Overwrite
from seqmel.core.units import count_words

__all__ = ["similar"]


def similar(
    embeddings: Annotated[Path, typer.Argument(help="A file of seqmel embed.")],
    ids: Annotated[
        list[str] | None,
        typer.Option("--client", help="The id of a client to search for. Repeatable."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of clients to find for each.")] = 10,
    exclude: Annotated[
        Path | None,
        typer.Option(help="A Parquet or CSV file with the ids of clients never to find."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="A folder of seqmel index to search in; the search is exact otherwise."),
    ] = None,
    curvature: Annotated[
        float | None,
        typer.Option(help="Find by hyperbolic distance; the curvature of the model."),
    ] = None,
    clip_radius: Annotated[
        float, typer.Option(help="With --curvature: the clip_radius of the model.")
    ] = 2.3,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A Parquet file for the pairs; printed otherwise."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the clients most similar to given ones, or to each with -o, by cosine similarity."""
    from seqmel.core.atomic_files import atomic_write, check_output
    from seqmel.core.errors import InputError
    from seqmel.data.tables.labels import read_ids
    from seqmel.inference.similar import similar as find_similar

    if output is None and not ids:
        raise InputError("Name a client with --client ID, or a file for all clients with -o.")
    if output is not None:
        check_output(output, overwrite=overwrite, folder=False, reads=(embeddings, exclude))
    left_out = read_ids(exclude) if exclude is not None else ()
    found = find_similar(
        embeddings,
        ids or None,
        k=k,
        exclude=left_out,
        index=index,
        curvature=curvature,
        clip_radius=clip_radius,
    )
    if output is None:
        typer.echo(found.to_string(index=False, formatters={found.columns[-1]: "{:.4f}".format}))
        return
    with atomic_write(output) as partial:
        found.to_parquet(partial, index=False)
    typer.echo(f"{count_words(len(found), 'pair')} in {output}")
