"""`seqmel map`: clients in two dimensions by their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Overwrite
from seqmel.core.errors import ConfigError, InputError
from seqmel.core.units import count_words

__all__ = ["map_command"]

_FORMATS = (".html", ".png", ".svg", ".pdf")


def map_command(
    embeddings: Annotated[Path, typer.Argument(help="A file of seqmel embed.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="An HTML, PNG, SVG or PDF file.")],
    labels: Annotated[
        Path | None, typer.Option(help="Table with one row per client, to colour by.")
    ] = None,
    colour: Annotated[str | None, typer.Option(help="Column of the labels.")] = None,
    client: Annotated[
        str | None, typer.Option(help="Client column; recognised by its name by default.")
    ] = None,
    clients: Annotated[int, typer.Option(help="Maximum number of clients to draw.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Seed of the layouts and of the clients.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw clients in two dimensions, with how much of the vectors each map keeps."""
    import numpy as np

    from seqmel.core.atomic_files import atomic_write, check_output
    from seqmel.data.tables.labels import likely_client, read_column, read_embeddings
    from seqmel.evaluation.map_layouts import MIN_CLIENTS, map_layouts
    from seqmel.evaluation.map_picture import colour_values, draw_layouts
    from seqmel.report.maps import map_page
    from seqmel.report.page import render

    if output.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{output} is no map. Name a file with {', '.join(_FORMATS)}.")
    if (labels is None) != (colour is None):
        raise ConfigError("Labels and the column to colour by belong together: --labels, --colour.")
    if clients < MIN_CLIENTS:
        raise ConfigError(f"clients is {clients}. Expected at least {MIN_CLIENTS}.")
    check_output(output, overwrite=overwrite, folder=False, reads=(embeddings, labels))
    frame = read_embeddings(embeddings, client=client)
    if len(frame) < MIN_CLIENTS:
        raise InputError(
            f"{embeddings} has {count_words(len(frame), 'client')}. A map needs {MIN_CLIENTS}."
        )
    if len(frame) > clients:
        drawn = np.random.default_rng(seed).permutation(len(frame))[:clients]
        frame = frame.iloc[np.sort(drawn)]
    values = None
    page = output.suffix.lower() == ".html"
    if labels is not None and colour is not None:
        client = client or likely_client(str(labels), str(frame.index.name))
        column = read_column(str(labels), colour, option="--colour", client=client)
        values = column.reindex(frame.index)
        values = values if page else colour_values(values)
        if values.isna().all():
            raise InputError(f"No client of {embeddings} has a value of {colour!r} in {labels}.")
    layouts = map_layouts(frame.to_numpy(np.float32), seed=seed)
    with atomic_write(output) as partial:
        if page:
            made = map_page(layouts, frame.index.tolist(), values, of=embeddings.name)
            partial.write_text(render(made), encoding="utf-8")
        else:
            draw_layouts(partial, layouts, values, suffix=output.suffix.lower())
    for layout in layouts:
        typer.echo(
            f"{layout.name}: global score {layout.global_score:.2f}, neighbours kept "
            f"{layout.neighbours:.2f}"
        )
    typer.echo(f"map of {count_words(len(frame), 'client')} in {output}")
