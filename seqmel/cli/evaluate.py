"""`seqmel evaluate`: LightGBM on embeddings, on hand-crafted aggregates, and on both, on the same clients and folds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from seqmel.config import Config
from seqmel.data.inference import infer_schema
from seqmel.data.labels import beside, read_embeddings, read_labels
from seqmel.data.reading import open_events
from seqmel.errors import ConfigError
from seqmel.evaluation.aggregates import AggregatePlan
from seqmel.evaluation.results import Scores
from seqmel.evaluation.scoring import Task, score
from seqmel.files import written_beside
from seqmel.progress import Progress

__all__ = ["averages_of", "evaluate_files", "feature_sets", "print_scores"]

AGGREGATES = "aggregates"


def feature_sets(
    embeddings: Sequence[str], events: str | None, config: Config, progress: Progress
) -> dict[str, pd.DataFrame]:
    """Name -> features: the aggregates of the events, each file of embeddings, and each of these beside the aggregates.

    Args:
        embeddings: paths, or name=path; the name of a path is the file's own.
        events: where the aggregates come from; None leaves them out.
        config: names the columns of the events.
        progress: where to report to.
    """
    sets: dict[str, pd.DataFrame] = {}
    if events is not None:
        source = open_events(events, client=config.columns.client, memory_limit=config.preparation.memory_limit)
        sets[AGGREGATES] = AggregatePlan.fit(source, infer_schema(source, config.columns)).compute(source)
        progress.say(f"{AGGREGATES}: {sets[AGGREGATES].shape[1]} features of {len(sets[AGGREGATES]):,} clients")
    for given in embeddings:
        name, _, path = (
            given.partition("=") if "=" in given and not Path(given).exists() else (Path(given).stem, "", given)
        )
        if name in sets:
            raise ConfigError(f"Two sets of features are called {name!r}. Give one of them as NAME={path}.")
        sets[name] = read_embeddings(path, client=config.columns.client)
        if events is not None:
            sets[f"{name} + {AGGREGATES}"] = beside(sets[name], sets[AGGREGATES])
    if not sets:
        raise ConfigError(
            "Nothing to evaluate. Give --embeddings FILE, or --events EVENTS for the aggregates, or both."
        )
    return sets


def evaluate_files(
    labels: str,
    targets: Sequence[str],
    embeddings: Sequence[str],
    events: str | None,
    config: Config,
    *,
    task: Task,
    folds: int,
    seed: int,
    trees: int,
    json_file: Path | None,
    progress: Progress,
) -> list[Scores]:
    """Score every target, print a table for each, and write all of it as JSON where asked."""
    series = [read_labels(labels, target, client=config.columns.client) for target in targets]
    sets = feature_sets(embeddings, events, config, progress)
    found = [scored(y, sets, task=task, folds=folds, seed=seed, trees=trees, progress=progress) for y in series]
    print_scores(found)
    if json_file is not None:
        with written_beside(json_file) as partial:
            partial.write_text(json.dumps([scores.to_json() for scores in found], indent=1), encoding="utf-8")
    return found


def scored(
    y: pd.Series,
    sets: dict[str, pd.DataFrame],
    *,
    task: Task = "auto",
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    progress: Progress,
) -> Scores:
    """`score`, with progress."""
    with progress.task(f"score {y.name}", folds * len(sets), "folds") as bar:
        return score(
            y,
            sets,
            averages=averages_of(sets),
            task=task,
            folds=folds,
            seed=seed,
            trees=trees,
            progress=lambda name, done, total: bar.advance(1, name),
        )


def averages_of(sets: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """For each set that also stands beside the aggregates, the average of its model and theirs."""
    both = [name for name in sets if f"{name} + {AGGREGATES}" in sets]
    return {f"{name}, {AGGREGATES}: averaged": (name, AGGREGATES) for name in both}


def print_scores(found: Sequence[Scores]) -> None:
    """The tables, and for each set how it differs from the aggregates fold by fold."""
    console = Console(highlight=False)
    for scores in found:
        console.print(scores.table())
        if AGGREGATES in scores.matched:
            for name in scores.matched:
                if name != AGGREGATES:
                    console.print(
                        f"  {scores.primary}: {name} minus {AGGREGATES}: {scores.difference(name, AGGREGATES)}"
                    )
        console.print()
