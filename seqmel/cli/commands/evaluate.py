"""`seqmel evaluate`: compare embeddings with hand-crafted aggregates on the same folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from seqmel.cli.arguments import (
    AnyTask,
    Columns,
    ConfigFile,
    FactColumn,
    Facts,
    JsonFile,
    LabelsClient,
    Observed,
    Settings,
    not_given,
    one_of,
    read_options,
    with_columns,
)
from seqmel.core.errors import ConfigError
from seqmel.core.units import count_words

if TYPE_CHECKING:
    import pandas as pd

    from seqmel.config import Config
    from seqmel.core.progress import Progress
    from seqmel.data.schema import EventSchema
    from seqmel.data.tables.number_types import NumberType
    from seqmel.data.tables.targets import TargetTask
    from seqmel.evaluation.curves import Curve
    from seqmel.evaluation.results import Scores
    from seqmel.evaluation.splits import Split
    from seqmel.inference.as_of import Moments

__all__ = ["evaluate", "feature_sets", "print_scores"]


@with_columns
def evaluate(
    labels: Annotated[str, typer.Argument(help="Table with one row per client: Parquet or CSV.")],
    target: Annotated[list[str], typer.Option(help="Column to predict. Repeatable.")],
    *,
    embeddings: Annotated[
        list[str] | None, typer.Option(help="File of embeddings, or NAME=FILE. Repeatable.")
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Events, for the baseline of hand-crafted aggregates: PATH, or NAME=PATH for each "
                "of several tables."
            )
        ),
    ] = None,
    facts: Facts = None,
    fact_column: FactColumn = None,
    client: LabelsClient = None,
    columns: Columns,
    config: ConfigFile = None,
    settings: Settings = None,
    task: AnyTask = "auto",
    observed: Observed = None,
    folds: Annotated[int, typer.Option(help="Number of cross-validation folds.", min=2)] = 5,
    trees: Annotated[int, typer.Option(help="Number of LightGBM trees.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the folds and of LightGBM.", min=0)] = 0,
    metric: Annotated[
        str | None,
        typer.Option(
            help=(
                "Metric to compare by: average_precision, ks, lift_at_5, brier, ... --json has all."
            )
        ),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            help="Time column of LABELS and embeddings that have one row per client and time."
        ),
    ] = None,
    time_split: Annotated[
        str | None,
        typer.Option(
            help="Split LABELS by this column: train on the earlier rows, test on the later."
        ),
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(help="Fraction of rows in the test part of the time split (default 0.3)."),
    ] = None,
    allow_client_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-client-overlap", help="Allow clients on both sides of the time split."
        ),
    ] = False,
    split_clients: Annotated[
        bool,
        typer.Option(
            "--split-clients",
            help="With the time split, test each fold of clients on a model of the others.",
        ),
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(help="Keep rows with the same value in this column of LABELS in one fold."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Compare errors and calibration between groups of this LABELS column."),
    ] = None,
    label_fractions: Annotated[
        str | None,
        typer.Option(
            help="Label curve: fractions of the training clients to train on, such as 0.01,0.1,1."
        ),
    ] = None,
    dims: Annotated[
        str | None,
        typer.Option(
            help="Compression curve: dimensions to reduce embeddings to, such as 16,64,full."
        ),
    ] = None,
    dtypes: Annotated[
        str | None,
        typer.Option(help="With --dims: dtypes to compare (default float32,float16,int8,binary)."),
    ] = None,
    json_file: JsonFile = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves to this PNG file.")] = None,
) -> None:
    """Score embeddings against hand-crafted aggregates, by cross-validation.

    The models are LightGBM and linear ones.
    """
    if time_split is None:
        not_given("folds", test_fraction=test_fraction)
    if facts is None:
        not_given("no --facts", fact_column=fact_column)
    from seqmel.config.files import read_event_paths
    from seqmel.data.sources.several import named_events

    tables = named_events(events) if events else read_event_paths(config)
    if tables is None:
        not_given("embeddings alone", **columns)
    checked = read_options(config, settings, client=client, **columns)
    kind: Any = one_of("task", task, "auto", "classification", "regression", "survival")
    from seqmel.core.progress import console_progress

    options = _Options(
        task=kind,
        observed=observed,
        time_edges=checked.finetuning.time_edges,
        folds=folds,
        seed=seed,
        trees=trees,
        time_column=time_column,
        time_split=time_split,
        group=group,
        test_fraction=0.3 if test_fraction is None else test_fraction,
        allow_client_overlap=allow_client_overlap,
        split_clients=split_clients,
        label_fractions=_fractions(label_fractions),
        dims=_dims(dims),
        dtypes=_dtypes(dtypes),
        plot=plot,
        metric=metric,
        by=by,
        facts=facts,
        fact_columns=fact_column,
    )
    _evaluate_files(
        labels, target, embeddings or [], tables, checked, options, json_file, console_progress()
    )


@dataclass(frozen=True, kw_only=True)
class _Options:
    """How features are scored: the flags of the command, parsed.

    Attributes:
        task, time_edges, folds, seed, trees: see `score`.
        observed: the column of the labels that says whether the event was observed.
        time_column: the time column of labels and embeddings with one row per client and time.
        time_split, group: the column of the labels to split by.
        test_fraction, allow_client_overlap, split_clients: see `OutOfTime`.
        label_fractions: fractions of the training clients, for the label curve.
        dims: dimensions of the compression curve, None for all; with `dtypes`.
        plot: the PNG file to draw the curves to.
        metric: see `score`.
        by: the column of the labels with the groups.
        facts, fact_columns: a table of facts about the clients, and its columns to use.
    """

    task: TargetTask = "auto"
    observed: str | None = None
    time_edges: Sequence[float] | None = None
    folds: int = 5
    seed: int = 0
    trees: int = 500
    time_column: str | None = None
    time_split: str | None = None
    group: str | None = None
    test_fraction: float = 0.3
    allow_client_overlap: bool = False
    split_clients: bool = False
    label_fractions: tuple[float, ...] = ()
    dims: tuple[int | None, ...] = ()
    dtypes: tuple[NumberType, ...] = ()
    plot: Path | None = None
    metric: str | None = None
    by: str | None = None
    facts: str | None = None
    fact_columns: Sequence[str] | None = None

    def check(self) -> None:
        """Raise a `ConfigError` if options do not go together, before anything is read."""
        if self.time_split is not None and self.group is not None:
            raise ConfigError(
                "--time-split and --group are two ways to split. Leave one of them out."
            )
        if self.allow_client_overlap and self.time_split is None:
            raise ConfigError(
                "--allow-client-overlap belongs to --time-split: no client is ever in two folds."
            )
        if self.split_clients and self.time_split is None:
            raise ConfigError(
                "--split-clients belongs to --time-split: no client is ever in two folds."
            )
        if self.dtypes and not self.dims:
            raise ConfigError("--dtypes belongs to --dims. Add --dims 16,64,full.")
        if self.plot is not None and not (self.label_fractions or self.dims):
            raise ConfigError("--plot draws curves. Ask for one with --label-fractions or --dims.")

    def split(self, labels: str, client: str | None) -> Split | None:
        """The split by a column of the labels; None for random folds."""
        from seqmel.data.tables.labels import read_column
        from seqmel.evaluation.splits import GroupFolds, OutOfTime

        keys = {"client": client, "time_column": self.time_column}
        if self.time_split is not None:
            times = read_column(labels, self.time_split, option="--time-split", **keys)
            return OutOfTime(
                times, self.test_fraction, self.allow_client_overlap, self.split_clients
            )
        if self.group is not None:
            return GroupFolds(read_column(labels, self.group, option="--group", **keys))
        return None


def feature_sets(
    embeddings: Sequence[str],
    events: Any,
    config: Config,
    progress: Progress,
    *,
    labels: str | None = None,
    time_column: str | None = None,
    likely: str | None = None,
    rows: pd.Index[Any] | None = None,
) -> dict[str, pd.DataFrame]:
    """Return the feature sets by name: aggregates, files of embeddings, and both joined.

    Args:
        embeddings: paths, or name=path; by default the name is that of the file.
        events: the source of the aggregates, or name -> path for several tables; None leaves them
            out.
        config: columns of the events, memory limit and threads.
        progress: where to report to.
        labels: the labels, to warn if they have moments that are not used.
        time_column: the time column of embeddings with one row per client and time.
        likely: the client column of the labels; used for the embeddings if they have it.
        rows: the clients and times to aggregate for; None for all clients.
    """
    from seqmel.data.fitting.timeline import open_and_infer
    from seqmel.data.tables.labels import read_embeddings, say_undated
    from seqmel.evaluation.feature_sets import AGGREGATES, WITH_ORDER, aggregate_sets, with_both

    found: dict[str, pd.DataFrame] = {}
    if events is not None:
        named = config.schema.client
        if named is None and isinstance(events, str):
            named = _client_of(embeddings, events)
        columns = config.schema.model_copy(update={"client": named})
        source, schema = open_and_infer(events, columns, **config.resources)
        if labels is not None and time_column is None:
            say_undated(labels, schema.time, progress)
        found = aggregate_sets(source, schema, None if rows is None else _moments(rows, schema))
        left_out = f"; {schema.left_out_words}" if schema.left_out_words else ""
        progress.say(
            f"{AGGREGATES}: {count_words(found[AGGREGATES].shape[1], 'feature')} of "
            f"{len(found[AGGREGATES]):,} {'clients' if rows is None else 'clients and moments'}, "
            f"with order {found[WITH_ORDER].shape[1]:,}{left_out}"
        )
    vectors: dict[str, pd.DataFrame] = {}
    for given in embeddings:
        name, path = _named(given)
        if name in found or name in vectors:
            raise ConfigError(
                f"Two sets of features are called {name!r}. Give one of them as NAME={path}."
            )
        vectors[name] = read_embeddings(
            path, client=config.schema.client, time_column=time_column, likely=likely
        )
    return with_both(vectors, found)


def _moments(rows: pd.Index[Any], schema: EventSchema) -> Moments:
    """Clients and times of the labels, under the column names of the events."""
    from seqmel.inference.as_of import read_moments

    return read_moments(
        rows.unique().to_frame(index=False, name=[schema.client, schema.time]), schema
    )


def _named(given: str) -> tuple[str, str]:
    """Name and path of FILE or NAME=FILE."""
    if "=" in given and not Path(given).exists():
        name, _, path = given.partition("=")
        return name, path
    return Path(given).stem, given


def _client_of(embeddings: Sequence[str], table: str) -> str | None:
    """The client column of the embeddings, if the table has it too."""
    from seqmel.data.tables.labels import client_of_embeddings, likely_client, named_client

    if not embeddings:
        return None
    return likely_client(table, client_of_embeddings(_named(embeddings[0])[1], named_client(table)))


def _evaluate_files(
    labels: str,
    targets: Sequence[str],
    embeddings: Sequence[str],
    events: Any,
    config: Config,
    options: _Options,
    json_file: Path | None,
    progress: Progress,
) -> None:
    """Score every target, write the requested JSON and PNG files, then print the tables."""
    import functools

    import pandas as pd
    from rich.console import Console

    from seqmel.core.atomic_files import atomic_write, check_result, write_json
    from seqmel.data.tables.labels import named_client, read_column, read_labels, read_observed
    from seqmel.evaluation.feature_sets import standard_rows, with_facts
    from seqmel.evaluation.scoring import score

    options.check()
    vectors = [given.partition("=")[2] or given for given in embeddings]
    for written_to in (json_file, options.plot):
        check_result(written_to, labels, events, options.facts, *vectors)
    clients = config.schema.client or _client_of(embeddings, labels)
    split = options.split(labels, clients)
    keys: dict[str, Any] = {"client": clients, "time_column": options.time_column}
    groups = None if options.by is None else read_column(labels, options.by, option="--by", **keys)
    series = [
        read_labels(labels, target, client=clients, time_column=options.time_column)
        for target in targets
    ]
    happened = [
        read_observed(labels, target, options.task, options.observed, **keys) for target in targets
    ]
    likely = clients or named_client(labels)
    time_column = options.time_column
    rows = (
        None if time_column is None else functools.reduce(pd.Index.union, [y.index for y in series])
    )
    sets = feature_sets(
        embeddings,
        events,
        config,
        progress,
        labels=labels,
        time_column=time_column,
        likely=likely,
        rows=rows,
    )
    if options.facts is not None:
        others = [str(column.name) for column in happened if column is not None]
        others += [*targets, *filter(None, (options.time_column,))]
        known = _facts(options, others, likely)
        labelled = functools.reduce(pd.Index.union, [y.index for y in series])
        sets = with_facts(sets, known, labelled)
    if not sets:
        raise ConfigError(
            "Nothing to evaluate. Give --embeddings FILE, --events EVENTS for the aggregates, or "
            "--facts FILE for features of your own."
        )
    found = []
    drawn = []
    written: list[dict[str, Any]] = []
    for y, observed in zip(series, happened, strict=True):
        how: dict[str, Any] = {
            "task": options.task,
            "observed": observed,
            "time_edges": options.time_edges,
            "folds": options.folds,
            "seed": options.seed,
            "trees": options.trees,
            "split": split,
            "metric": options.metric,
        }
        probes, averages = standard_rows(sets)
        curves = _curves(y, sets, options, how, progress)  # first: they refuse more options
        found.append(
            score(y, sets, probes=probes, averages=averages, by=groups, progress=progress, **how)
        )
        drawn += list(curves.values())
        written.append(
            found[-1].to_json() | {name: curve.to_json() for name, curve in curves.items()}
        )
    write_json(json_file, written)
    if options.plot is not None:
        from seqmel.evaluation.picture import draw_curves

        with atomic_write(options.plot) as partial:
            draw_curves(partial, drawn)
    print_scores(found)  # last, so that a console that fails does not lose the files
    for curve in drawn:
        Console(highlight=False).print(curve.table())


def _facts(options: _Options, others: Sequence[str], likely: str | None) -> pd.DataFrame:
    """Read the facts.

    Raises:
        ConfigError: a target or the time column is among them.
    """
    from seqmel.data.tables.facts import check_no_target, read_facts

    facts = read_facts(options.facts, options.fact_columns, likely=likely)
    check_no_target(facts, others)
    return facts


def _curves(
    y: pd.Series,
    sets: dict[str, pd.DataFrame],
    options: _Options,
    how: dict[str, Any],
    progress: Progress,
) -> dict[str, Curve]:
    """Return the requested curves; the compression curve leaves the aggregates out."""
    from seqmel.data.tables.number_types import NumberType
    from seqmel.evaluation.curves import compression_curve, label_curve
    from seqmel.evaluation.feature_sets import few_label_probes, vectors_alone

    curves = {}
    if options.label_fractions:
        curves["label_curve"] = label_curve(
            y,
            sets,
            options.label_fractions,
            probes=few_label_probes(sets),
            progress=progress,
            **how,
        )
    if options.dims:
        vectors = {name: sets[name] for name in vectors_alone(sets)}
        if not vectors:
            raise ConfigError(
                "--dims reduces embeddings, and there are none. Give --embeddings FILE."
            )
        types = options.dtypes or get_args(NumberType)
        curves["compression_curve"] = compression_curve(
            y, vectors, options.dims, types, progress=progress, **how
        )
    return curves


def _fractions(text: str | None) -> tuple[float, ...]:
    """Parse comma-separated fractions: 0.01,0.1,1."""
    try:
        found = tuple(float(part) for part in text.split(",")) if text is not None else ()
        if not all(0 < fraction <= 1 for fraction in found):
            raise ValueError
        return found
    except ValueError:
        raise ConfigError(
            f"--label-fractions cannot be {text!r}. Expected fractions above 0, up to 1, such as "
            "0.01,0.1,1."
        ) from None


def _dims(text: str | None) -> tuple[int | None, ...]:
    """Parse comma-separated dimensions, None for full: 16,64,full."""
    try:
        parts = text.split(",") if text is not None else []
        found = tuple(None if part.strip() == "full" else int(part) for part in parts)
        if any(dim is not None and dim < 1 for dim in found):
            raise ValueError
        return found
    except ValueError:
        raise ConfigError(
            f"--dims cannot be {text!r}. Expected dimensions of at least 1, or full: 16,64,full."
        ) from None


def _dtypes(text: str | None) -> tuple[NumberType, ...]:
    """Parse comma-separated dtypes: float32,int8."""
    from seqmel.data.tables.number_types import check_number_types

    names = tuple(part.strip() for part in text.split(",")) if text is not None else ()
    check_number_types(names)
    return names  # type: ignore[return-value]


def print_scores(found: Sequence[Scores]) -> None:
    """Print each target's scores, and the paired difference of each feature set to aggregates."""
    from rich.console import Console

    from seqmel.evaluation.feature_sets import reference
    from seqmel.evaluation.results import TITLES

    console = Console(highlight=False)
    for scores in found:
        console.print(scores.table())
        if reference(scores.matched) is not None:
            console.print(
                f"  {TITLES[scores.primary]} minus that of {scores.reference}, fold by fold:"
            )
            for difference in scores.differences():
                console.print(
                    f"    {difference.features.removesuffix(f' - {scores.reference}')}: "
                    f"{difference}"
                )
        for table in scores.groups.tables(_compared(scores)) if scores.groups else ():
            console.print(table)
        for remark in scores.remarks:
            console.print(f"  {remark}")
        console.print()


def _compared(scores: Scores) -> list[str]:
    """The feature sets whose groups are shown one by one: the reference, and the vectors."""
    from seqmel.evaluation.feature_sets import vectors_alone

    vectors = [name for name in vectors_alone(scores.matched) if ": linear" not in name]
    return list(dict.fromkeys([scores.reference, *vectors]))
