"""`seqmel score`: what predictions that are there already are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import AnyTask, Client, JsonFile, Observed, one_of

__all__ = ["score"]


def score(
    predictions: Annotated[
        str, typer.Argument(help="A table of predictions, such as `seqmel predict` writes.")
    ],
    labels: Annotated[str, typer.Argument(help="A table with one row per client: Parquet or CSV.")],
    target: Annotated[
        list[str], typer.Option(help="The column of LABELS that is predicted. Repeatable.")
    ],
    client: Client = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            help="Time column of both tables, if they have one row per client and moment."
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            help=(
                "The column of PREDICTIONS: a quantity, or the probability of the second of two "
                "classes."
            )
        ),
    ] = None,
    task: AnyTask = "auto",
    observed: Observed = None,
    seed: Annotated[int, typer.Option(help="Seed of the resamples for the intervals.", min=0)] = 0,
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw ROC, precision and recall, and calibration to this PNG file."),
    ] = None,
) -> None:
    """Compare predictions with labels: ranking, calibration, lift at the top; or errors.

    The task survival has concordance, and calibration at the bounds of the predictions.
    """
    kind: Any = one_of("task", task, "auto", "classification", "regression", "survival")
    from seqmel.cli.score import score_files

    score_files(
        predictions,
        labels,
        target,
        client=client,
        time_column=time_column,
        column=column,
        task=kind,
        observed=observed,
        seed=seed,
        json_file=json_file,
        plot=plot,
    )
