"""`seqmel evaluate`: what embeddings, hand-crafted aggregates and both are worth, on the same clients and folds."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd
from rich.console import Console

from seqmel.config import Config
from seqmel.core.atomic_files import atomic_write, check_not_input
from seqmel.core.errors import ConfigError
from seqmel.core.progress import Progress
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.sources.reading import open_events
from seqmel.data.tables.labels import (
    client_of_embeddings,
    likely_client,
    named_client,
    read_column,
    read_embeddings,
    read_labels,
)
from seqmel.data.tables.number_types import NumberType, check_number_types
from seqmel.evaluation.curves import Curve, compression_curve, label_curve
from seqmel.evaluation.feature_sets import (
    AGGREGATES,
    WITH_ORDER,
    aggregate_sets,
    few_label_probes,
    reference,
    standard_rows,
    vectors_alone,
    with_both,
)
from seqmel.evaluation.results import TITLES, Scores
from seqmel.evaluation.scoring import Task, score
from seqmel.evaluation.splits import GroupFolds, OutOfTime, Split

if TYPE_CHECKING:
    from seqmel.data.schema import EventSchema
    from seqmel.inference.as_of import Moments

__all__ = [
    "Asked",
    "evaluate_files",
    "feature_sets",
    "fractions_of",
    "number_types_of",
    "print_scores",
    "sizes_of",
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How the features are to be scored; what is not asked for is not done.

    Attributes:
        task, folds, seed, trees: see `score`.
        moment: the column of the moments, where labels and embeddings have one row a client and moment.
        out_of_time, group: the column that the clients are split by.
        test_fraction, allow_client_overlap: see `OutOfTime`.
        fractions: shares of the labelled training clients.
        sizes: numbers a vector, None for all; with `number_types`.
        plot: where the curves are drawn.
        metric: see `score`.
    """

    task: Task = "auto"
    folds: int = 5
    seed: int = 0
    trees: int = 500
    moment: str | None = None
    out_of_time: str | None = None
    group: str | None = None
    test_fraction: float = 0.3
    allow_client_overlap: bool = False
    fractions: tuple[float, ...] = ()
    sizes: tuple[int | None, ...] = ()
    number_types: tuple[NumberType, ...] = ()
    plot: Path | None = None
    metric: str | None = None

    def check(self) -> None:
        """What does not go together is refused before anything is read."""
        if self.out_of_time is not None and self.group is not None:
            raise ConfigError("--time-split and --group are two ways to split. Leave one of them out.")
        if self.allow_client_overlap and self.out_of_time is None:
            raise ConfigError(
                "--allow-client-overlap belongs to --time-split: folds never have a client on both sides."
            )
        if self.number_types and not self.sizes:
            raise ConfigError("--dtypes belongs to --dims. Give the sizes too: --dims 16,64,full.")
        if self.plot is not None and not (self.fractions or self.sizes):
            raise ConfigError("--plot draws curves. Ask for one with --label-fractions or --dims.")

    def split(self, labels: str, client: str | None) -> Split | None:
        """The split by a column of the labels; None for random folds."""
        options = {"client": client, "time_column": self.moment}
        if self.out_of_time is not None:
            times = read_column(labels, self.out_of_time, option="--time-split", **options)
            return OutOfTime(times, self.test_fraction, self.allow_client_overlap)
        if self.group is not None:
            return GroupFolds(read_column(labels, self.group, option="--group", **options))
        return None


def feature_sets(
    embeddings: Sequence[str],
    events: str | None,
    config: Config,
    progress: Progress,
    *,
    moment: str | None = None,
    likely: str | None = None,
    rows: pd.Index[Any] | None = None,
) -> dict[str, pd.DataFrame]:
    """Name -> features: the aggregates of the events, each file of embeddings, and each of these beside the aggregates.

    Args:
        embeddings: paths, or name=path; the name of a path is the file's own.
        events: where the aggregates come from; None leaves them out.
        config: names the columns of the events.
        progress: where to report to.
        moment: the column of the moments in the embeddings, where these are of clients and moments.
        likely: the client column of the labels, which is that of the embeddings where they have it.
        rows: the clients and moments that aggregates are needed for; all clients where None.
    """
    found: dict[str, pd.DataFrame] = {}
    if events is not None:
        named = config.schema.client or _client_of(embeddings, events)
        columns = config.schema.model_copy(update={"client": named})
        limit = config.preparation.memory_limit
        source = open_events(
            events,
            client=named,
            time=columns.time,
            skip=columns.skips,
            categories=columns.categories,
            memory_limit=limit,
        )
        schema = infer_schema(source, columns)
        found = aggregate_sets(source, schema, None if rows is None else _moments(rows, schema))
        left_out = f"; {schema.left_out_words}" if schema.left_out_words else ""
        progress.say(
            f"{AGGREGATES}: {found[AGGREGATES].shape[1]:,} features of {len(found[AGGREGATES]):,}"
            f" {'clients' if rows is None else 'clients and moments'}, with order {found[WITH_ORDER].shape[1]:,}{left_out}"
        )
    vectors: dict[str, pd.DataFrame] = {}
    for given in embeddings:
        name, path = _named(given)
        if name in found or name in vectors:
            raise ConfigError(f"Two sets of features are called {name!r}. Give one of them as NAME={path}.")
        vectors[name] = read_embeddings(path, client=config.schema.client, time_column=moment, likely=likely)
    sets = with_both(vectors, found)
    if not sets:
        raise ConfigError(
            "Nothing to evaluate. Give --embeddings FILE, or --events EVENTS for the aggregates, or both."
        )
    return sets


def _moments(rows: pd.Index[Any], schema: EventSchema) -> Moments:
    """Clients and moments of the labels, as the events have them."""
    from seqmel.inference.as_of import read_moments

    return read_moments(rows.unique().to_frame(index=False, name=[schema.client, schema.time]), schema)


def _named(given: str) -> tuple[str, str]:
    """What a file of embeddings is called, and its path; FILE or NAME=FILE."""
    if "=" in given and not Path(given).exists():
        name, _, path = given.partition("=")
        return name, path
    return Path(given).stem, given


def _client_of(embeddings: Sequence[str], table: str) -> str | None:
    """The client column of the embeddings, where the other table has it too."""
    if not embeddings:
        return None
    return likely_client(table, client_of_embeddings(_named(embeddings[0])[1], named_client(table)))


def evaluate_files(
    labels: str,
    targets: Sequence[str],
    embeddings: Sequence[str],
    events: str | None,
    config: Config,
    asked: Asked,
    *,
    json_file: Path | None,
    progress: Progress,
) -> list[Scores]:
    """Score every target, print a table for each, and write all of it as JSON, and the curves as PNG, where asked."""
    asked.check()
    for written_to in (json_file, asked.plot):
        check_not_input(written_to, labels, events, *(given.partition("=")[2] or given for given in embeddings))
    clients = config.schema.client or _client_of(embeddings, labels)
    split = asked.split(labels, clients)
    series = [read_labels(labels, target, client=clients, time_column=asked.moment) for target in targets]
    likely = clients or named_client(labels)
    rows = None if asked.moment is None else functools.reduce(pd.Index.union, [y.index for y in series])
    sets = feature_sets(embeddings, events, config, progress, moment=asked.moment, likely=likely, rows=rows)
    found, drawn = [], []
    written: list[dict[str, Any]] = []
    for y in series:
        options: dict[str, Any] = {
            "task": asked.task,
            "folds": asked.folds,
            "seed": asked.seed,
            "trees": asked.trees,
            "split": split,
            "metric": asked.metric,
        }
        probes, averages = standard_rows(sets)
        found.append(score(y, sets, probes=probes, averages=averages, progress=progress, **options))
        curves = _curves(y, sets, asked, options, progress)
        drawn += list(curves.values())
        written.append(found[-1].to_json() | {name: curve.to_json() for name, curve in curves.items()})
    if json_file is not None:
        with atomic_write(json_file) as partial:
            partial.write_text(json.dumps(written, indent=1), encoding="utf-8")
    if asked.plot is not None:
        from seqmel.evaluation.picture import draw_curves

        with atomic_write(asked.plot) as partial:
            draw_curves(partial, drawn)
    print_scores(found)  # last: what is written does not hang on a console that can show it
    for curve in drawn:
        Console(highlight=False).print(curve.table())
    return found


def _curves(
    y: pd.Series, sets: dict[str, pd.DataFrame], asked: Asked, options: dict[str, Any], progress: Progress
) -> dict[str, Curve]:
    """The curves that were asked for; sizes are those of embeddings alone."""
    curves = {}
    if asked.fractions:
        curves["label_curve"] = label_curve(
            y, sets, asked.fractions, probes=few_label_probes(sets), progress=progress, **options
        )
    if asked.sizes:
        vectors = {name: sets[name] for name in vectors_alone(sets)}
        if not vectors:
            raise ConfigError("--dims makes embeddings smaller, and there are none. Give --embeddings FILE.")
        types = asked.number_types or get_args(NumberType)
        curves["compression_curve"] = compression_curve(y, vectors, asked.sizes, types, progress=progress, **options)
    return curves


def fractions_of(text: str | None) -> tuple[float, ...]:
    """ "0.01,0.1,1" as numbers."""
    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        raise ConfigError(f"--label-fractions cannot be {text!r}. Expected shares such as 0.01,0.1,1.") from None


def sizes_of(text: str | None) -> tuple[int | None, ...]:
    """ "16,64,full" as numbers, None for full."""
    try:
        return (
            tuple(None if part.strip() == "full" else int(part) for part in text.split(",")) if text is not None else ()
        )
    except ValueError:
        raise ConfigError(f"--dims cannot be {text!r}. Expected numbers a vector, or full: 16,64,full.") from None


def number_types_of(text: str | None) -> tuple[NumberType, ...]:
    """ "float32,int8" as names."""
    names = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    check_number_types(names)
    return names  # type: ignore[return-value]


def print_scores(found: Sequence[Scores]) -> None:
    """The tables, and for each set how it differs from the aggregates fold by fold."""
    console = Console(highlight=False)
    for scores in found:
        console.print(scores.table())
        if reference(scores.matched) is not None:
            console.print(f"  {TITLES[scores.primary]} minus that of {scores.reference}, fold by fold:")
            for difference in scores.differences():
                console.print(f"    {difference.features.removesuffix(f' - {scores.reference}')}: {difference}")
        for remark in scores.remarks:
            console.print(f"  {remark}")
        console.print()
