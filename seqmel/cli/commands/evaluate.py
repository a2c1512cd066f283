"""`seqmel evaluate`: what vectors are worth to LightGBM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqmel.cli.arguments import Client, ConfigFile, Settings, Time, TimeFormat, not_given, one_of, read_options

__all__ = ["evaluate"]


def evaluate(
    labels: Annotated[str, typer.Argument(help="A table with one row a client: Parquet or CSV.")],
    target: Annotated[list[str], typer.Option(help="The column to predict. Repeatable.")],
    embeddings: Annotated[
        list[str] | None, typer.Option(help="A file of embeddings, or NAME=FILE. Repeatable.")
    ] = None,
    events: Annotated[str | None, typer.Option(help="Events, for the hand-crafted baseline.")] = None,
    client: Client = None,
    time: Time = None,
    time_format: TimeFormat = None,
    config: ConfigFile = None,
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="auto, classification or regression.")] = "auto",
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", min=2)] = 5,
    trees: Annotated[int, typer.Option(help="Trees of LightGBM.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of the folds and of LightGBM.", min=0)] = 0,
    metric: Annotated[
        str | None,
        typer.Option(help="What differences are made of: average_precision, ks, lift_at_5, brier, ... --json has all."),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(help="The column of the moments, where labels and embeddings are of clients and moments."),
    ] = None,
    time_split: Annotated[
        str | None, typer.Option(help="Train on the rows that are earlier by this column of LABELS, test on the later.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share of the rows that is tested out of time: 0.3.")
    ] = None,
    allow_client_overlap: Annotated[
        bool, typer.Option("--allow-client-overlap", help="Let clients of the earlier rows come in the later ones too.")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="Keep rows that are equal in this column of LABELS in one fold.")
    ] = None,
    label_fractions: Annotated[
        str | None, typer.Option(help="Score with a share of the training clients labelled: 0.01,0.1,1.")
    ] = None,
    dims: Annotated[str | None, typer.Option(help="Score vectors reduced to so many numbers: 16,64,full.")] = None,
    dtypes: Annotated[
        str | None, typer.Option(help="With --dims: float32,float16,int8,binary, which is all of them.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves to this PNG file.")] = None,
) -> None:
    """Score embeddings against hand-crafted aggregates."""
    if time_split is None:
        not_given("folds", test_fraction=test_fraction)
    if events is None:
        not_given("embeddings alone", time=time, time_format=time_format)
    checked = read_options(config, settings, client=client, time=time, time_format=time_format)
    kind: Any = one_of("task", task, "auto", "classification", "regression")
    from seqmel.cli.evaluate import Asked, evaluate_files, fractions_of, number_types_of, sizes_of
    from seqmel.core.progress import console_progress

    asked = Asked(
        task=kind, folds=folds, seed=seed, trees=trees, moment=time_column, out_of_time=time_split, group=group,
        test_fraction=0.3 if test_fraction is None else test_fraction, allow_client_overlap=allow_client_overlap, fractions=fractions_of(label_fractions),
        sizes=sizes_of(dims), number_types=number_types_of(dtypes), plot=plot, metric=metric,
    )  # fmt: skip
    evaluate_files(
        labels, target, embeddings or [], events, checked, asked, json_file=json_file, progress=console_progress()
    )
