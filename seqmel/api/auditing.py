"""What a user gives for a privacy audit: tables of columns, and who was in training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.errors import ConfigError, InputError
from seqmel.core.progress import Reporting, as_progress
from seqmel.data.sources.reading import Events
from seqmel.data.tables.labels import Table, likely_client, plain_id, read_ids, read_labels
from seqmel.evaluation.audit import Members
from seqmel.model import TrainedModel
from seqmel.training.batches import split_clients
from seqmel.training.run import prepared_in

__all__ = ["columns_of", "members_of"]


def columns_of(
    model: TrainedModel,
    table: Table | None,
    names: str | Sequence[str] | None,
    client: str | None,
    options: tuple[str, str],
) -> list[pd.Series[Any]]:
    """Read columns of a table with one row per client.

    Args:
        model: its client column is used if the table has it.
        table: the table; None for no columns.
        names: one column, or several.
        client: the client column; None recognises it.
        options: the two options of table and columns, for messages.

    Raises:
        ConfigError: one of table and columns is given without the other.
        SchemaError, InputError: see `read_labels`.
    """
    wanted = [names] if isinstance(names, str) else list(names or ())
    if (table is None) != (not wanted):
        raise ConfigError(
            f"A table and its columns belong together: {' and '.join(options)}. Give both."
        )
    if table is None:
        return []
    client = client or likely_client(table, model.schema.client)
    how = ("--client", options[1])
    return [read_labels(table, name, client=client, options=how) for name in wanted]


def members_of(
    model: TrainedModel,
    members: Table | Iterable[object] | None,
    trained_on: Events | None,
    progress: Reporting,
) -> Members | None:
    """Return who was in training; None if it is not known.

    Args:
        model: the model.
        members: a table with the ids of the training clients, or the ids.
        trained_on: the events that the model was trained on. Its validation clients, which training
            left out, are then known too.
        progress: where to report to.

    Raises:
        ConfigError: both are given.
        InputError: the events are not those of training.
    """
    if members is not None and trained_on is not None:
        raise ConfigError(
            "members and trained_on (--members, --trained-on) both say who was in training. Leave "
            "one of them out."
        )
    if trained_on is not None:
        return _of_training(model, trained_on, progress)
    if members is None:
        return None
    if isinstance(members, (list, tuple, set, frozenset)) and not any(
        isinstance(one, dict) for one in members
    ):
        return Members(frozenset(map(plain_id, members)))
    return Members(frozenset(read_ids(members)))


def _of_training(model: TrainedModel, events: Events, progress: Reporting) -> Members:
    """Split the clients of the training events as training did."""
    with tempfile.TemporaryDirectory(prefix="seqmel-", ignore_cleanup_errors=True) as folder:
        prepared = prepared_in(Path(folder), events, model.config, model, as_progress(progress))
        sequences = prepared.sequences
        there = {"clients": len(sequences), "events": sequences.events}
        trained = {name: model.metrics.get(name) for name in there}
        if trained != there:
            raise InputError(
                f"The model was trained on {trained['clients']} clients with {trained['events']} "
                f"events. Those of trained_on (--trained-on) have {there['clients']} and "
                f"{there['events']}. Give the same events, or the ids of the clients (members)."
            )
        split = split_clients(sequences, model.config)
        ids = [plain_id(one) for one in sequences.client_ids.to_pandas()]
    training, validation = (
        frozenset(ids[i] for i in part.tolist()) for part in (split.training, split.validation)
    )
    return Members(training, neither=frozenset(ids) - training - validation)
