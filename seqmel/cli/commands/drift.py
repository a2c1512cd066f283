"""`seqmel drift`: compare embeddings of two periods, or events with the training events.

It needs no labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmel.cli.arguments import Client, JsonFile, not_given
from seqmel.core.errors import ConfigError
from seqmel.core.units import count_words

if TYPE_CHECKING:
    from rich.console import Console

    from seqmel.evaluation.drift import Drift
    from seqmel.evaluation.input_drift import InputDrift

__all__ = ["drift"]


def drift(
    reference: Annotated[
        str,
        typer.Argument(
            help="The earlier embeddings; or a model folder, to compare with its training events."
        ),
    ],
    current: Annotated[
        list[str],
        typer.Argument(
            help=(
                "The current embeddings, of the same model; or events, with a model folder: PATH, "
                "or NAME=PATH for each of several tables."
            )
        ),
    ],
    client: Client = None,
    bins: Annotated[
        int | None, typer.Option(help="Embeddings: number of bins for the PSI (default 10).")
    ] = None,
    psi_threshold: Annotated[
        float, typer.Option(help="A dimension or column with at least this PSI has drifted.")
    ] = 0.25,
    alpha: Annotated[
        float | None,
        typer.Option(help="Embeddings: significance level of the MMD test (default 0.01)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Embeddings: seed of the sample and permutations of the MMD test (default 0)."
        ),
    ] = None,
    unseen_threshold: Annotated[
        float | None,
        typer.Option(
            help=(
                "Events: a column has drifted if its fraction of unseen values rises by this "
                "(default 0.05)."
            )
        ),
    ] = None,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit with code 1 if there is drift.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Compare embeddings of two periods, or new events with the training events.

    Embeddings are compared by PSI and MMD; events by PSI and the fraction of unseen values.
    """
    from seqmel.data.sources.several import named_events

    found: Drift | InputDrift
    if (Path(reference) / "config.json").is_file():
        not_given("a model and events", client=client, bins=bins, alpha=alpha, seed=seed)
        unseen = 0.05 if unseen_threshold is None else unseen_threshold
        found = _compare_events(reference, named_events(current), psi_threshold, unseen, json_file)
    else:
        not_given("two files of embeddings", unseen_threshold=unseen_threshold)
        if len(current) > 1:
            raise ConfigError(
                f"Two files of embeddings are compared; found {len(current)} beside {reference}."
            )
        found = _compare_embeddings(
            reference,
            current[0],
            client=client,
            bins=10 if bins is None else bins,
            psi_threshold=psi_threshold,
            alpha=0.01 if alpha is None else alpha,
            seed=seed or 0,
            json_file=json_file,
        )
    if found.drifted and fail_on_drift:
        raise typer.Exit(1)


def _compare_events(
    model: str, events: Any, psi_threshold: float, unseen_threshold: float, json_file: Path | None
) -> InputDrift:
    """Print how far each column has drifted since the training, and the verdict."""
    from seqmel.core.atomic_files import check_result
    from seqmel.core.errors import ModelError
    from seqmel.evaluation.input_drift import input_drift
    from seqmel.inference.embed import sequence_chunks
    from seqmel.model import load_model

    check_result(json_file, model, events)
    loaded = load_model(model)
    if loaded.statistics is None:
        raise ModelError(
            f"{model} has model format 1, which has no statistics of the training events. Train it "
            "again, or compare embeddings: seqmel drift REFERENCE.parquet CURRENT.parquet"
        )
    _, chunks = sequence_chunks(loaded, events)
    found = input_drift(
        loaded.statistics, chunks, psi_threshold=psi_threshold, unseen_threshold=unseen_threshold
    )
    console = _written(found, json_file)
    console.print(
        f"{count_words(found.events[0], 'event')} of {count_words(found.clients[0], 'client')} in "
        f"training, {found.events[1]:,} of {found.clients[1]:,} now. Without drift, the largest "
        f"PSI is below {found.psi_by_chance:.3f} in 99 % of cases."
    )
    console.print(found.verdict, markup=False)
    return found


def _compare_embeddings(
    reference: str,
    current: str,
    *,
    client: str | None,
    bins: int,
    psi_threshold: float,
    alpha: float,
    seed: int,
    json_file: Path | None,
) -> Drift:
    """Print the dimensions that drifted most, and the verdict."""
    from seqmel.core.atomic_files import check_result
    from seqmel.core.errors import InputError, shown
    from seqmel.data.sources.reading import event_files
    from seqmel.data.tables.labels import client_of_embeddings, read_embeddings
    from seqmel.data.tables.vector_files import models_of
    from seqmel.evaluation.drift import drift as embedding_drift

    check_result(json_file, reference, current)
    dtypes = [_dtype(path) for path in (reference, current)]
    if dtypes[0] != dtypes[1]:
        raise InputError(
            f"{reference} has dtype {dtypes[0]} and {current} has {dtypes[1]}: rounding alone "
            "would look like drift. Write both with the same --dtype."
        )
    models = {path: models_of(event_files(path)) for path in (reference, current)}
    if len(set().union(*models.values())) > 1:
        words = " and ".join(
            f"{path} ({shown(sorted(found)) or 'unknown'})" for path, found in models.items()
        )
        raise InputError(
            f"The embeddings come from different models: {words}. Their dimensions cannot be "
            "compared; embed both with the same model."
        )
    likely = client_of_embeddings(reference)
    vectors = [read_embeddings(path, client=client, likely=likely) for path in (reference, current)]
    found = embedding_drift(
        *vectors, bins=bins, psi_threshold=psi_threshold, alpha=alpha, seed=seed
    )
    console = _written(found, json_file)
    sides = " and ".join(f"{len(side):,}" for side in vectors)
    console.print(
        f"The same {count_words(found.current, 'client')} on both sides, of {sides}."
        if found.by_client
        else f"Different clients on the two sides, {sides}: a difference may be one of clients."
    )
    console.print(
        f"{found.reference:,} reference and {found.current:,} current embeddings; MMD on "
        f"{found.sampled[0]:,} and {found.sampled[1]:,} of them. Without drift, the largest PSI is "
        f"below {found.psi_by_chance:.3f} in 99 % of cases."
    )
    console.print(found.verdict)
    return found


def _written(found: Drift | InputDrift, json_file: Path | None) -> Console:
    """Print the table, write the results as JSON if asked, and return the console."""
    from rich.console import Console

    from seqmel.core.atomic_files import write_json

    write_json(json_file, found.to_json())
    console = Console(highlight=False, soft_wrap=True)
    console.print(found.table())
    return console


def _dtype(path: str) -> str:
    """The dtype of a file of embeddings; "float" for those without scales."""
    from seqmel.data.sources.reading import event_files
    from seqmel.data.tables.vector_files import scales_of

    scales = scales_of(event_files(path), path)
    return "float" if scales is None else scales.number_type
