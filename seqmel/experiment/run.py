"""Run an experiment: each cell (row, data set, seed) once. Finished cells are read, not run again.

RESULTS/generated/<data>     events and labels of a generated data set
RESULTS/prepared/<data>      sequences and aggregates, made once; their inputs: <data>.source.json
RESULTS/predictions/         predictions from the aggregates, the baseline of every row
RESULTS/cells/*.json         scores, cost and options of each cell
RESULTS/results.parquet      one row per data set, target, row, seed, fold and metric
RESULTS/table.md, table.png  the results for people
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqmel.config import Config
from seqmel.core.atomic_files import atomic_write, exclusive_lock, file_stamps
from seqmel.core.errors import ConfigError, InputError, OutputError, SeqmelError
from seqmel.core.own_files import import_file, imported_files
from seqmel.core.progress import Progress, Reporting, as_progress
from seqmel.core.threads import thread_count
from seqmel.data.fitting.timeline import open_and_infer
from seqmel.data.sequences.prepared import PreparedSequences, is_prepared, open_prepared
from seqmel.data.sources.reading import event_files
from seqmel.data.tables.labels import align
from seqmel.demo.generator import generate_card_data
from seqmel.evaluation.curves import label_curve
from seqmel.evaluation.feature_sets import (
    AGGREGATES,
    BASELINES,
    WITH_ORDER,
    aggregate_sets,
    few_label_probes,
    standard_rows,
    with_both,
    with_facts,
)
from seqmel.evaluation.scoring import score
from seqmel.experiment.by_fold import by_features, by_finetuning, score_by_fold
from seqmel.experiment.cost import Cost, cost, with_cost
from seqmel.experiment.labels import (
    TargetLabels,
    check_labels,
    read_plan_facts,
    read_plan_labels,
    split_of,
    with_fraction,
)
from seqmel.experiment.plan import Cell, Plan, read_plan, smaller_plan
from seqmel.experiment.table import write_results
from seqmel.inference.as_of import read_moments
from seqmel.model import TrainedModel
from seqmel.training.finetuning.samples import Samples, samples_at

__all__ = ["run_cell", "run_experiment"]


def run_experiment(
    plan: str | Path,
    output: str | Path,
    *,
    data: str | Path | None = None,
    jobs: int = 1,
    only: Sequence[str] | None = None,
    clients: int | None = None,
    seeds: Sequence[int] | None = None,
    trees: int | None = None,
    progress: Reporting = None,
) -> Path:
    """Run the missing cells and write the tables.

    Args:
        plan: The YAML file, see `seqmel.experiment.plan`.
        output: The folder of results. Existing results are resumed.
        data: The folder that the plan's paths are relative to. None uses the plan's folder.
        jobs: Number of parallel processes. They divide the cores.
        only: Data sets to keep, see `smaller_plan`. The output then has the reduced plan as
            plan.yaml.
        clients: See `smaller_plan`.
        seeds: See `smaller_plan`.
        trees: See `smaller_plan`.
        progress: Where to report progress.

    Returns:
        The Markdown file with the table.

    Raises:
        SeqmelError: The plan or the data are invalid, or training failed. Finished cells are kept.
        OutputError: Another run is writing the output.
    """
    plan = Path(plan)
    output = Path(output)
    progress = as_progress(progress)
    if output.is_file():
        raise OutputError(f"{output} is a file, and the output is a folder. Name another output.")
    root = Path(data) if data is not None else plan.parent
    if any(asked is not None for asked in (only, clients, seeds, trees)):
        text = smaller_plan(plan, only=only, clients=clients, seeds=seeds, trees=trees)
        plan = output / "plan.yaml"
        output.mkdir(parents=True, exist_ok=True)
        with atomic_write(plan) as partial:
            partial.write_text(text, encoding="utf-8")
    checked = read_plan(plan)
    for name in checked.data:
        _check_first(checked, name, root, output)
    with exclusive_lock(output.with_name(output.name + ".partial"), output):
        return _complete(checked, plan, root, output, jobs=jobs, progress=progress)


def _complete(
    checked: Plan, plan: Path, root: Path, output: Path, *, jobs: int, progress: Progress
) -> Path:
    """Run the missing cells and write the tables, see `run_experiment`."""
    (output / "cells").mkdir(parents=True, exist_ok=True)
    for name in checked.data:
        _check_source(checked, name, root, output)
        _prepare(checked, name, root, output, progress)
        _check_scorable(checked, name, root, output)
    cells = list(_cells(checked))
    todo = [cell for cell in cells if not _is_done(checked, cell, output)]
    if len(todo) < len(cells):
        there = f"{len(cells) - len(todo):,} of {len(cells):,} cells"
        rest = "the rest are computed now" if todo else "none is left"
        progress.say(f"{there} are complete in {output} from before; {rest}")
    with progress.task("cells", len(todo), "cells") as task:
        for cell, seconds in _run_all(todo, plan, root, output, jobs):
            progress.say(f"{cell.data}, {cell.row}, seed {cell.seed}: {seconds:.0f} s")
            task.advance()
    return write_results(
        checked, {cell: read_cell(cell, output) for cell in _cells(checked)}, output
    )


def _cells(plan: Plan) -> Iterator[Cell]:
    for data in plan.data:
        if plan.baselines(data):
            yield Cell(AGGREGATES, data, 0)
        for row in plan.rows:
            for seed in plan.seeds_of(data):
                yield Cell(row, data, seed)


def read_cell(cell: Cell, output: Path) -> list[dict[str, Any]]:
    """Read the scores of a cell, one entry per target."""
    stored = json.loads((output / "cells" / f"{cell.key}.json").read_text(encoding="utf-8"))
    return list(stored["scores"])


def _settings(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Return all that determines a cell's scores. A cell with other settings is not finished."""
    options = (
        {} if cell.row == AGGREGATES else plan.config(cell.row, cell.data, cell.seed).to_dict()
    )
    folds = {
        "folds": plan.folds,
        "trees": plan.trees,
        "clients": plan.clients,
        "aggregates": plan.aggregates and WITH_ORDER,
    }
    more: dict[str, Any] = (
        {} if plan.label_fractions == (1.0,) else {"label_fractions": list(plan.label_fractions)}
    )
    if plan.scored(cell.row) != "trees":
        more["scored"] = plan.scored(cell.row)
    if plan.data[cell.data].facts is not None and not plan.with_facts(cell.row, cell.data):
        more["facts"] = False
    return {"data": plan.data[cell.data].settings(), "config": options} | folds | more


def _is_done(plan: Plan, cell: Cell, output: Path) -> bool:
    path = output / "cells" / f"{cell.key}.json"
    if not path.is_file():
        return False
    ran = json.loads(path.read_text(encoding="utf-8"))["settings"]
    if ran != _settings(plan, cell) and _with_newer_options(ran) != _settings(plan, cell):
        raise OutputError(
            f"{path} was run with other settings than row {cell.row!r} has now. Name another "
            "output, or remove it."
        )
    return True


def _with_newer_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of options that are newer than a cell. They do not change its scores."""
    try:
        return settings | (
            {"config": Config.from_dict(settings["config"], lenient=True).to_dict()}
            if settings["config"]
            else {}
        )
    except ConfigError:
        return settings


def _check_first(plan: Plan, name: str, root: Path, output: Path) -> None:
    """Check the files and labels of a data set that are still to be read, before any output."""
    if plan.data[name].generated is not None:
        return
    events, labels = _files(plan, name, root, output)
    if not is_prepared(output / "prepared" / name):
        for path in (*_paths(events), labels):
            event_files(str(path))
    if _is_missing_cells(plan, name, output):
        check_labels(plan, name, read_plan_labels(plan, name, labels))
        read_plan_facts(plan, name, root)


def _check_scorable(plan: Plan, name: str, root: Path, output: Path) -> None:
    """Check before any training that the clients can be scored with the labels."""
    if _is_missing_cells(plan, name, output):
        prepared = _prepared(plan, name, output)
        labels = read_plan_labels(plan, name, _files(plan, name, root, output)[1])
        check_labels(plan, name, labels, _samples(plan, name, prepared, labels).keys)


def _is_missing_cells(plan: Plan, name: str, output: Path) -> bool:
    keys = (cell.key for cell in _cells(plan) if cell.data == name)
    return not all((output / "cells" / f"{key}.json").is_file() for key in keys)


def _check_source(plan: Plan, name: str, root: Path, output: Path) -> None:
    """Refuse results that were made from other data or options.

    Before any are made, record the source.

    Folders of versions that recorded no source are accepted.
    """
    kept = output / "prepared" / f"{name}.source.json"
    source = _source(plan, name, root, output)
    cells = (output / "cells" / f"{cell.key}.json" for cell in _cells(plan) if cell.data == name)
    made = (output / "prepared" / name / "prepared.json", output / "generated" / name, *cells)
    if not any(path.exists() for path in made):
        with atomic_write(kept) as partial:
            partial.write_text(json.dumps(source, indent=1), encoding="utf-8")
    elif kept.is_file():
        noted = json.loads(kept.read_text(encoding="utf-8"))
        changed = [
            part for part, now in source.items() if now is not None and noted.get(part, now) != now
        ]
        if changed:
            raise OutputError(
                f"The {' and '.join(changed)} of {name} changed since {output} was begun. Name "
                f"another output folder, or remove {output} to begin anew."
            )


def _source(plan: Plan, name: str, root: Path, output: Path) -> dict[str, Any]:
    """Return what determines the prepared data and the labels. Missing files are null."""
    options: dict[str, Any] = plan.prepared_with(next(iter(plan.rows)), name)
    made = plan.data[name].generated
    if made is not None:
        return options | {"number of generated clients": made}
    events, labels = _files(plan, name, root, output)
    facts = plan.data[name].facts
    files = {"events": _paths(events), "labels": [labels]}
    files |= {} if facts is None else {"facts": [root / facts]}
    return options | {part: _state(paths, root) for part, paths in files.items()}


def _paths(events: Any) -> list[Path]:
    """Return the paths of one or several event tables."""
    return list(events.values()) if isinstance(events, dict) else [events]


def _state(paths: Sequence[Path], root: Path) -> list[list[str | int]] | None:
    """Return path, size and modification time of the files of all paths, or None."""
    try:
        files = [file for path in paths for file in event_files(str(path))]
    except InputError:
        return None
    return file_stamps(files, root)


def _prepare(plan: Plan, name: str, root: Path, output: Path, progress: Progress) -> None:
    """Prepare sequences and aggregates of a data set once, after generating it if needed."""
    from seqmel.training.run import prepare

    folder = output / "prepared" / name
    config = plan.config(next(iter(plan.rows)), name, 0)
    made = plan.data[name].generated
    if made is not None and not (output / "generated" / name).is_dir():
        with atomic_write(output / "generated" / name) as partial:
            generate_card_data(made).write(partial)
    events, labels = _files(plan, name, root, output)
    if not is_prepared(folder):
        prepare(events, folder, config=config, overwrite=True, progress=progress)
    if plan.aggregates and not all(
        _aggregates_file(output, name, baseline).is_file() for baseline in BASELINES
    ):
        source, schema = open_and_infer(events, config.schema, **config.resources)
        moments = None
        if plan.data[name].time_column is not None:
            rows = _rows(read_plan_labels(plan, name, labels))
            names = [schema.client, schema.time]
            table = rows.to_frame(index=False).set_axis(names, axis=1)
            moments = read_moments(table, schema, label=name)
        for baseline, features in aggregate_sets(source, schema, moments).items():
            with atomic_write(_aggregates_file(output, name, baseline)) as partial:
                features.to_parquet(partial)


def _aggregates_file(output: Path, name: str, baseline: str) -> Path:
    return output / "prepared" / f"{name}.{baseline.replace(' ', '_')}.parquet"


def _files(plan: Plan, name: str, root: Path, output: Path) -> tuple[Any, Path]:
    """Return the events and the path of the labels of a data set, see `DataSet.files`."""
    return plan.data[name].files(root, output / "generated" / name)


def _run_all(
    todo: list[Cell], plan: Path, root: Path, output: Path, jobs: int
) -> Iterator[tuple[Cell, float]]:
    if jobs == 1:
        for cell in todo:
            began = time.monotonic()
            run_cell(plan, root, output, cell)
            yield cell, time.monotonic() - began
        return
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_in_process, plan, root, output, cell, jobs): cell for cell in todo}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _in_process(plan: Path, root: Path, output: Path, cell: Cell, jobs: int) -> float:
    began = time.monotonic()
    threads = str(max(1, thread_count() // jobs))
    words = [
        str(plan),
        str(root),
        str(output),
        cell.row,
        cell.data,
        str(cell.seed),
        *imported_files(),
    ]
    read, write = os.pipe()  # tells the cell when this process has ended
    try:
        done = subprocess.run(
            [sys.executable, "-m", "seqmel.experiment.run", *words],
            env=os.environ | {"OMP_NUM_THREADS": threads},
            stdin=read,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(read)
        os.close(write)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SeqmelError(f"Row {cell.row!r} on {cell.data}, seed {cell.seed}, failed: {lines[-1]}")
    return time.monotonic() - began


def run_cell(plan_file: Path, root: Path, output: Path, cell: Cell) -> None:
    """Train, embed and score one cell, and write its file."""
    plan = read_plan(plan_file)
    threads = thread_count()
    _, clients = _files(plan, cell.data, root, output)
    labels = read_plan_labels(plan, cell.data, clients)
    prepared = _prepared(plan, cell.data, output)
    samples = _samples(plan, cell.data, prepared, labels)
    facts = read_plan_facts(plan, cell.data, root) if plan.with_facts(cell.row, cell.data) else None
    if cell.row == AGGREGATES:
        sets = _beside_facts(_aggregates(plan, cell, output, samples), facts, samples)
        found = [_by_trees(plan, cell, y, sets, output / "predictions", threads) for y in labels]
    else:
        found = _scores_of_row(plan, cell, labels, prepared, samples, facts, output, threads)
    with atomic_write(output / "cells" / f"{cell.key}.json") as partial:
        stored = {"settings": _settings(plan, cell), "scores": found}
        partial.write_text(json.dumps(stored, indent=1), encoding="utf-8")


def _scores_of_row(
    plan: Plan,
    cell: Cell,
    labels: list[TargetLabels],
    prepared: PreparedSequences,
    samples: Samples,
    facts: pd.DataFrame | None,
    output: Path,
    threads: int | None,
) -> list[dict[str, Any]]:
    """Return the scores of a trained row for each target, with the cost of training."""
    config = plan.config(cell.row, cell.data, cell.seed)
    aggregates = _aggregates(plan, cell, output, samples)
    early = _before_test(plan, cell.data, prepared, samples, labels)
    kept = output / "predictions"
    scored = plan.scored(cell.row)
    if scored == "trees" and not config.labelled:
        model = _trained(early, config)
        sets = with_both({cell.row: _vectors(prepared, samples, model)}, aggregates)
        sets = _beside_facts(sets, facts, samples)
        found = [_by_trees(plan, cell, y, sets, kept, threads) for y in labels]
        costs = [cost(model.metrics)] * plan.folds
        return [scores | {"scores": with_cost(scores["scores"], costs)} for scores in found]

    def features_for(seen: pd.Series[Any]) -> tuple[dict[str, pd.DataFrame], Cost]:
        model = _trained(prepared, config, seen)
        sets = with_both({cell.row: _vectors(prepared, samples, model)}, aggregates)
        return _beside_facts(sets, facts, samples), cost(model.metrics)

    clients = {cell.row: pd.DataFrame(index=samples.keys)}
    if scored == "trees":
        scored_once = plan.baselines(cell.data)
        answer = by_features(
            features_for, scored_once, trees=plan.trees, threads=threads, kept=kept
        )
        clients |= aggregates
    else:
        begins = _begins_from(scored, early, config)
        moments = samples if samples.moments is not None else None
        answer = by_finetuning(cell.row, prepared, begins, config, moments, facts)
    return [
        score_by_fold(
            y,
            clients,
            answer,
            folds=plan.folds,
            fractions=plan.label_fractions,
            split=split_of(plan, cell.data, y.y),
        )
        for y in labels
    ]


def _begins_from(
    scored: str, prepared: PreparedSequences, config: Config
) -> Callable[[pd.Series[Any]], TrainedModel | None]:
    """Return the initial model of fine-tuning by the labels that it may use.

    None is from scratch.
    """
    if scored == "scratch":
        return lambda _: None
    if config.labelled:
        return lambda seen: _trained(prepared, config, seen)
    model = _trained(prepared, config)
    return lambda _: model


def _by_trees(
    plan: Plan,
    cell: Cell,
    labels: TargetLabels,
    sets: dict[str, pd.DataFrame],
    kept: Path,
    threads: int | None,
) -> dict[str, Any]:
    """Score each set of features with all labels and with fractions of them."""
    found: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    fractions = [fraction for fraction in plan.label_fractions if fraction < 1]
    split = split_of(plan, cell.data, labels.y)
    if 1 in plan.label_fractions:
        probes, averages = standard_rows(sets)
        about = score(
            labels.y,
            sets,
            probes=probes,
            averages=averages,
            folds=plan.folds,
            trees=plan.trees,
            threads=threads,
            split=split,
            kept=kept,
            **labels.options,
        ).to_json()
        found = [
            row
            for row in about["scores"]
            if cell.row == AGGREGATES or row["features"] not in plan.baselines(cell.data)
        ]
    if fractions:
        alone = {
            name: table
            for name, table in sets.items()
            if cell.row == AGGREGATES or name not in plan.baselines(cell.data)
        }
        curve = label_curve(
            labels.y,
            alone,
            fractions,
            probes={name: of for name, of in few_label_probes(sets).items() if of in alone},
            folds=plan.folds,
            trees=plan.trees,
            threads=threads,
            split=split,
            **labels.options,
        )
        about = about or {"target": curve.target, "primary": curve.primary}
        for point in curve.points:
            found += [
                s.to_json() | {"features": with_fraction(point.features, point.at)}
                for s in point.scores
            ]
    return about | {"scores": found}


def _aggregates(plan: Plan, cell: Cell, output: Path, samples: Samples) -> dict[str, pd.DataFrame]:
    """Return the aggregates of the cell's rows, or nothing if the plan has none."""
    baselines = BASELINES if plan.aggregates else ()
    files = {baseline: _aggregates_file(output, cell.data, baseline) for baseline in baselines}
    tables = {baseline: pd.read_parquet(file) for baseline, file in files.items()}
    if samples.moments is None:
        return {baseline: table.iloc[: plan.clients] for baseline, table in tables.items()}
    rows = samples.keys.to_series()
    return {baseline: align(rows, table)[1] for baseline, table in tables.items()}


def _beside_facts(
    sets: dict[str, pd.DataFrame], facts: pd.DataFrame | None, samples: Samples
) -> dict[str, pd.DataFrame]:
    """Add the facts about the clients, alone and joined with each set of features."""
    return sets if facts is None else with_facts(sets, facts, samples.keys)


def _rows(labels: Sequence[TargetLabels]) -> pd.Index[Any]:
    """Return the clients and moments that have a label of some target."""
    return functools.reduce(pd.Index.union, [target.y.index for target in labels])


def _samples(
    plan: Plan, name: str, prepared: PreparedSequences, labels: Sequence[TargetLabels]
) -> Samples:
    """Return what is embedded and scored: the clients, or the labelled clients and moments."""
    if plan.data[name].time_column is None:
        return Samples.of_clients(prepared.sequences)
    label = f"the labels of {name}"
    return samples_at(_rows(labels), prepared.sequences, prepared.schema, label)


def _before_test(
    plan: Plan,
    name: str,
    prepared: PreparedSequences,
    samples: Samples,
    labels: Sequence[TargetLabels],
) -> PreparedSequences:
    """Return what encoders are pretrained on: with a split by time, events before all test rows."""
    import torch

    if plan.data[name].split is None or samples.moments is None:
        return prepared
    cuts = []
    for target in labels:
        y = target.y
        split = split_of(plan, name, y)
        rows = y.index[y.index.isin(samples.keys)]
        assert split is not None, "the data set has a split"
        tested = np.concatenate([test for _, test in split.folds(rows)[0]])
        cuts.append(samples.moments[samples.keys.get_indexer(rows[tested])].min())
    cut = torch.stack(cuts).min()
    everyone = torch.arange(len(prepared.sequences))
    early = prepared.sequences.as_of(everyone, cut.repeat(len(everyone)))
    early = early.subset((early.lengths > 0).nonzero()[:, 0])
    return dataclasses.replace(prepared, sequences=dataclasses.replace(early, moments=None))


def _prepared(plan: Plan, name: str, output: Path) -> PreparedSequences:
    """Return the sequences of a data set, or of its first clients."""
    import torch

    prepared = open_prepared(output / "prepared" / name)
    if plan.clients is None:
        return prepared
    first = torch.arange(min(plan.clients, len(prepared.sequences)))
    return dataclasses.replace(prepared, sequences=prepared.sequences.subset(first))


def _trained(
    prepared: PreparedSequences, config: Config, seen: pd.Series[Any] | None = None
) -> TrainedModel:
    """Train a model on all events, and on labels if parts of its objective need them."""
    from seqmel.training.batches import resolve_auto_options, resolve_clock_shifts
    from seqmel.training.components_fit import config_of_components
    from seqmel.training.fit import fit

    config = resolve_clock_shifts(
        resolve_auto_options(config, prepared.sequences),
        prepared.sequences,
        prepared.vocabulary.time,
    )
    began = time.monotonic()
    labels = dict.fromkeys(config.labelled, seen) if seen is not None else None
    encoder, history = fit(prepared.sequences, prepared.vocabulary, config, labels=labels)
    metrics = {"history": history, "seconds": time.monotonic() - began}
    config = config_of_components(config, encoder)
    return TrainedModel(config, prepared.schema, prepared.vocabulary, encoder, metrics)


def _vectors(prepared: PreparedSequences, samples: Samples, model: TrainedModel) -> pd.DataFrame:
    """Return the vectors of all samples, indexed by their keys."""
    from seqmel.core.device import resolve_device
    from seqmel.inference.embed import embed_sequences

    sequences = samples.cut(prepared.sequences)
    device = resolve_device(model.config.device)
    vectors = embed_sequences(model.encoder.to(device), sequences, model.config, device=device)
    names = [f"emb_{i:04d}" for i in range(vectors.shape[1])]
    keys = samples.keys if samples.moments is not None else samples.keys.rename(sequences.client)
    frame: pd.DataFrame = pd.DataFrame(vectors.numpy(), index=keys, columns=names)
    return frame


def _end_with_parent() -> None:
    """End this cell when its experiment is killed. A new run would write the same file."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    try:
        for own_file in sys.argv[7:]:
            import_file(own_file)
        plan_file, root, output = map(Path, sys.argv[1:4])
        run_cell(plan_file, root, output, Cell(sys.argv[4], sys.argv[5], int(sys.argv[6])))
    except SeqmelError as error:
        sys.exit(str(error))
