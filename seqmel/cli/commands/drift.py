"""`seqmel drift`: the vectors of two periods, or the events of today and of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmel.cli.arguments import Client, not_given

__all__ = ["drift"]


def drift(
    reference: Annotated[
        str, typer.Argument(help="A file of embeddings: what they were. Or a model folder: what it was trained on.")
    ],
    current: Annotated[
        str, typer.Argument(help="A file of embeddings of the same model: what they are. Or, with a model, events.")
    ],
    client: Client = None,
    bins: Annotated[int | None, typer.Option(help="Bins of the reference embeddings for the PSI: 10.")] = None,
    psi_threshold: Annotated[float, typer.Option(help="From which PSI on a dimension or a column has moved.")] = 0.25,
    alpha: Annotated[
        float | None, typer.Option(help="At or below which p-value of the MMD the embeddings have moved: 0.01.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the sample and the permutations of the MMD: 0.")] = None,
    unseen_threshold: Annotated[
        float | None, typer.Option(help="From which rise of the share of unseen values on a column has moved: 0.05.")
    ] = None,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="End with exit code 1 where there is drift.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Compare the embeddings of two periods (PSI, MMD), or events with those that a model was trained on (PSI, unseen values)."""
    from seqmel.cli.drift import compare_embeddings, compare_events, is_model
    from seqmel.evaluation.drift import Drift
    from seqmel.evaluation.input_drift import InputDrift

    found: Drift | InputDrift
    if is_model(reference):
        not_given("a model and events", client=client, bins=bins, alpha=alpha, seed=seed)
        found = compare_events(
            reference,
            current,
            psi=psi_threshold,
            unseen=0.05 if unseen_threshold is None else unseen_threshold,
            json_file=json_file,
        )
    else:
        not_given("two files of embeddings", unseen_threshold=unseen_threshold)
        found = compare_embeddings(
            reference, current, client=client, bins=10 if bins is None else bins, psi=psi_threshold,
            p_value=0.01 if alpha is None else alpha, seed=seed or 0, json_file=json_file,
        )  # fmt: skip
    if found.drifted and fail_on_drift:
        raise typer.Exit(1)
