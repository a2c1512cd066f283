"""`seqmel retrieval`: clients found again by their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import Device, Events, device_option, one_of

__all__ = ["retrieval"]


def retrieval(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    events: Events,
    clients: Annotated[int, typer.Option(help="How many clients to draw at most.")] = 2_000,
    parts: Annotated[
        str, typer.Option(help="views (slices as in training), halves (in time) or slices (random, disjoint).")
    ] = "views",
    min_events: Annotated[
        int | None, typer.Option(help="Leave out clients with fewer events; as in training for views, else 20.")
    ] = None,
    trained_on: Annotated[
        str | None, typer.Option(help="The events that the model was trained on: their clients are left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the clients, slices, halves and intervals.")] = 0,
    device: Device = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Find clients again by their vectors: recall@k, CMC, mAP, and verification at fixed false accepts."""
    kind: Any = one_of("parts", parts, "views", "halves", "slices")
    from seqmel.cli.retrieval import retrieve_clients
    from seqmel.core.progress import console_progress

    retrieve_clients(
        model, events, clients=clients, parts=kind, min_events=min_events, trained_on=trained_on, seed=seed,
        device=device_option(device), json_file=json_file, progress=console_progress(),
    )  # fmt: skip
