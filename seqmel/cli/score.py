"""`seqmel score`: read predictions and labels, measure, write, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from seqmel.core.atomic_files import atomic_write, check_result, write_json
from seqmel.core.errors import ConfigError
from seqmel.data.tables.labels import (
    column_names,
    locate_ids,
    named_client,
    read_labels,
    read_observed,
)
from seqmel.data.tables.targets import TargetTask
from seqmel.evaluation.predictions import read_predictions, score_predictions, training_note
from seqmel.evaluation.splits import client_ids

__all__ = ["score_files"]


def score_files(
    predictions: str,
    labels: str,
    targets: Sequence[str],
    *,
    client: str | None,
    time_column: str | None,
    column: str | None,
    task: TargetTask,
    observed: str | None,
    seed: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Score each target; what is written is written before anything is printed.

    Raises:
        ConfigError: one column or one picture for several targets, or `observed` belongs to another
            task.
        SchemaError, InputError: see `read_predictions` and `score_predictions`.
    """
    if len(targets) > 1 and (column is not None or plot is not None):
        raise ConfigError("--column and --plot are for one target. Score the targets one by one.")
    for written_to in (json_file, plot):
        check_result(written_to, predictions, labels)
    found = []
    if client is None:
        client = _shared_client(predictions, labels, {*targets, time_column, column})
    keys: dict[str, Any] = {"client": client, "time_column": time_column}
    for target in targets:
        y = read_labels(labels, target, **keys)
        happened = read_observed(labels, target, task, observed, **keys)
        table = read_predictions(predictions, y, task=task, column=column, **keys)
        scored = score_predictions(y, table, task=task, observed=happened, seed=seed)
        known = client_ids(y.index[locate_ids(y.index, table.index, of="predictions") >= 0])
        found.append(replace(scored, note=training_note(predictions, known)))
    write_json(json_file, [one.to_json() for one in found])
    if plot is not None:
        from seqmel.evaluation.prediction_picture import draw_predictions

        with atomic_write(plot) as partial:
            draw_predictions(partial, found[0])
    console = Console(highlight=False)
    for one in found:
        console.print(one.table())
        if one.edges:
            console.print(one.horizon_table())
        for remark in one.remarks:
            console.print(remark)


def _shared_client(predictions: str, labels: str, others: set[str | None]) -> str | None:
    """Return the only column of both tables beside these; None where a name shows the client."""
    if named_client(labels) is not None:
        return None
    known = column_names(labels)
    shared = [name for name in column_names(predictions) if name in known and name not in others]
    return shared[0] if len(shared) == 1 else None
