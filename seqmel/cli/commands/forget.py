"""`seqmel forget`: delete clients from states, embeddings, predictions and prepared sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["forget"]


def forget(
    paths: Annotated[
        list[Path],
        typer.Argument(help="States, embeddings, predictions, folders of prepared sequences."),
    ],
    clients: Annotated[
        Path | None,
        typer.Option("--clients", help="A Parquet or CSV file with the ids of the clients."),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="The id of a client. Repeatable.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="Client column; recognised by its name by default.")
    ] = None,
) -> None:
    """Delete clients from files that seqmel wrote (right to be forgotten).

    Each file is replaced as a whole.
    """
    from seqmel.data.tables.labels import read_ids
    from seqmel.inference.forget import forget as forget_clients

    wanted = [*(ids or ()), *(read_ids(clients, client=client) if clients is not None else ())]
    for path, deleted in forget_clients(wanted, paths, client=client).items():
        typer.echo(f"{deleted:,} deleted from {path}")
