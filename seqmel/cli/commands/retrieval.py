"""`seqmel retrieval`: the client re-identification benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmel.cli.arguments import Device, Events, JsonFile, Model, device_option, one_of
from seqmel.core.units import count_words

if TYPE_CHECKING:
    from rich.table import Table

    from seqmel.evaluation.retrieval import Retrieval

__all__ = ["retrieval"]

_SEARCHES = {
    "views": "each of two slices of {0:,} clients among all others, as in training",
    "halves": "the later half of {0:,} clients among the earlier halves",
    "slices": "one of two disjoint slices of {0:,} clients among the others",
}
"""What is searched for; recalls of different searches cannot be compared."""


def retrieval(
    model: Model,
    events: Events,
    clients: Annotated[
        int, typer.Option(help="Maximum number of clients, drawn at random.")
    ] = 2_000,
    parts: Annotated[
        str,
        typer.Option(
            help=(
                "Two parts of each client: views (slices as in training), halves (in time) or "
                "slices (disjoint)."
            )
        ),
    ] = "views",
    min_events: Annotated[
        int | None,
        typer.Option(
            help="Leave out clients with fewer events; as in training for views, else 20."
        ),
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "The training events of the model; their clients are left out. Repeatable, as "
                "NAME=PATH."
            )
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the sample of clients, the splits and the intervals.")
    ] = 0,
    device: Device = None,
    json_file: JsonFile = None,
) -> None:
    """Re-identify clients by their embeddings: recall@k, CMC, mAP, and verification error rates."""
    kind: Any = one_of("parts", parts, "views", "halves", "slices")
    from rich.console import Console

    from seqmel.core.atomic_files import check_result, write_json
    from seqmel.core.progress import console_progress
    from seqmel.data.sources.several import named_events
    from seqmel.evaluation.retrieval import evaluate_retrieval
    from seqmel.model import load_model

    tables = named_events(events)
    known = named_events(trained_on) if trained_on else None
    check_result(json_file, model, tables)
    found = evaluate_retrieval(
        load_model(model),
        tables,
        clients=clients,
        parts=kind,
        min_events=min_events,
        trained_on=known,
        seed=seed,
        device=device_option(device),
        progress=console_progress(),
    )
    write_json(json_file, found.to_json())
    console = Console(highlight=False, soft_wrap=True)
    console.print(_retrieval_table(found))
    console.print(_verification_table(found))
    console.print(
        f"{count_words(found.clients, 'client')}, two {found.parts} each ({found.too_short:,} have "
        "too few events); 95 % intervals by bootstrap over clients. Verification AUROC "
        f"{found.verification.auroc:.4f}."
    )
    console.print(found.clients_in_words)


def _retrieval_table(found: Retrieval) -> Table:
    from rich.table import Table

    scores = found.figures
    title = f"{_SEARCHES[found.parts].format(found.clients)}; mAP {scores['map']}"
    table = Table("k", "recall@k = CMC", "precision@k", title=title)
    for k in [name.partition("@")[2] for name in scores if name.startswith("recall@")]:
        table.add_row(k, str(scores[f"recall@{k}"]), str(scores[f"precision@{k}"]))
    return table


def _verification_table(found: Retrieval) -> Table:
    from rich.table import Table

    table = Table("target FAR", "TAR", "measured FAR", "threshold", title="same client or not")
    for point in found.verification.points:
        if point.threshold is None:
            table.add_row(f"{point.far:g}", "too few clients", "", "")
        else:
            table.add_row(
                f"{point.far:g}",
                str(point.tar),
                f"{point.measured_far:.2g}",
                f"{point.threshold:.3f}",
            )
    return table
