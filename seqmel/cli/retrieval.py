"""`seqmel retrieval`: can clients be found again, and told from others, by their vectors."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from seqmel.core.atomic_files import atomic_write, check_not_input
from seqmel.core.progress import Progress
from seqmel.evaluation.retrieval import Parts, Retrieval, evaluate_retrieval
from seqmel.model import load_model

__all__ = ["retrieve_clients"]


_SEARCHES: dict[Parts, str] = {
    "views": "each of two slices of {0:,} clients among all others, as in training",
    "halves": "the later half of {0:,} clients among the earlier halves",
    "slices": "one of two disjoint slices of {0:,} clients among the others",
}
"""What is searched for: recalls of different searches are not to be compared."""


def retrieve_clients(
    model: Path,
    events: str,
    *,
    clients: int,
    parts: Parts,
    min_events: int | None,
    trained_on: str | None,
    seed: int,
    device: str,
    json_file: Path | None,
    progress: Progress,
) -> Retrieval:
    """Print the figures and whose they are; with `json_file`, write all of it."""
    check_not_input(json_file, model, events)
    found = evaluate_retrieval(
        load_model(model), events, clients=clients, parts=parts, min_events=min_events, trained_on=trained_on,
        seed=seed, device=device, progress=progress,
    )  # fmt: skip
    if json_file is not None:
        with atomic_write(json_file) as partial:
            partial.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
    console = Console(highlight=False, soft_wrap=True)
    console.print(_retrieval_table(found))
    console.print(_verification_table(found))
    console.print(
        f"{found.clients:,} clients, two {found.parts} each ({found.too_short:,} have too few events); 95 % intervals by"
        f" bootstrap over clients. Verification AUROC {found.verification.auroc:.4f}."
    )
    console.print(found.whose)
    return found


def _retrieval_table(found: Retrieval) -> Table:
    figures = found.figures
    title = f"{_SEARCHES[found.parts].format(found.clients)}; mAP {figures['map']}"
    table = Table("k", "recall@k = CMC", "precision@k", title=title)
    for k in [name.partition("@")[2] for name in figures if name.startswith("recall@")]:
        table.add_row(k, str(figures[f"recall@{k}"]), str(figures[f"precision@{k}"]))
    return table


def _verification_table(found: Retrieval) -> Table:
    table = Table("FAR asked for", "TAR", "FAR measured", "threshold", title="same client or not")
    for point in found.verification.points:
        if point.threshold is None:
            table.add_row(f"{point.far:g}", "too few clients", "", "")
        else:
            table.add_row(f"{point.far:g}", str(point.tar), f"{point.measured_far:.2g}", f"{point.threshold:.3f}")
    return table
