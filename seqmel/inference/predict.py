"""Predict with a fine-tuned model: one row per client, with its id, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.atomic_files import check_output, translate_disk_full
from seqmel.core.device import with_own_defaults
from seqmel.core.errors import ConfigError, ModelError, shown
from seqmel.core.progress import Progress, Reporting, as_progress, silent
from seqmel.data.sources.reading import Events, is_paths, paths_label
from seqmel.data.sources.shard import Shard
from seqmel.data.tables.facts import FactRows, read_facts
from seqmel.data.tables.labels import Table
from seqmel.data.tables.targets import Target, check_names
from seqmel.data.tables.vector_files import TRAINED_ON
from seqmel.inference.as_of import vectors_as_of
from seqmel.inference.embed import CHUNK_CLIENTS, embed, write_tables
from seqmel.inference.options import OF_VECTORS, EmbedOptions
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.nn.heads import Heads
from seqmel.nn.joint_heads import JointHeads

__all__ = [
    "check_facts",
    "fact_rows",
    "heads_of",
    "predict",
    "predict_as_of",
    "predict_outputs",
    "predict_to_parquet",
    "prediction_tables",
    "prediction_tables_of",
]


@with_own_defaults
def predict(
    model: AnyModel,
    events: Events,
    *,
    facts: Table | None = None,
    shard: Shard | None = None,
    device: str = "auto",
    progress: Reporting = None,
) -> Iterator[pa.Table]:
    """Predict clients in chunks, in the order of the input.

    A table has the client id under its own name and type, then the targets. A classification target
    has one probability column per class (`gender=F`, `gender=M`) and the most likely class
    (`gender`). A regression target has one column (`age`). The time to an event has the probability
    that it comes later than each bound (`churn>30`, `churn>60`) and the median time (`churn`), null
    where that is later than the last bound.

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        facts: a table with one row per client, for a model that was fine-tuned with facts. A client
            without a row has nulls.
        shard: only clients of one shard, such as (3, 8); see `embed`.
        device: the device to compute on; "auto" prefers a GPU.
        progress: where to report progress; see `EmbedOptions`.

    Yields:
        Tables with one row per client.

    Raises:
        ModelError: the model is not fine-tuned.
        ConfigError: the shard index is out of range, or facts are given and not expected, or the
            other way round.
        InputError: the events cannot be read, or lack a column that the model was trained with.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> tuned = model.finetune(data.events, data.clients, target="gender", epochs=1)
        >>> [table.column_names for table in seqmel.predict(tuned, data.events)]
        [['client_id', 'gender=F', 'gender=M', 'gender']]
    """
    model = as_model(model)
    reporter = as_progress(progress)
    heads_of(model)
    rows = fact_rows(model, facts, strict=shard is None)
    parts = embed(model, events, shard=shard, device=device, progress=reporter)
    keyed = ((pa.table({model.schema.client: ids}), vectors) for ids, vectors in parts)
    return prediction_tables(model, keyed, rows, progress=reporter)


@with_own_defaults
def predict_to_parquet(
    model: AnyModel,
    events: Events,
    output: str | Path,
    *,
    facts: Table | None = None,
    **options: Any,
) -> int:
    """Write predictions in the columns that `predict` documents.

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        output: the Parquet file to write.
        facts: see `predict`.
        **options: shard, device, overwrite, progress: see `EmbedOptions`.

    Returns:
        The number of clients.

    Raises:
        ModelError: the model is not fine-tuned.
        InputError: the events cannot be read, or lack a column that the model was trained with.
        OutputError: the output exists or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> tuned = model.finetune(data.events, data.clients, target="gender", epochs=1)
        >>> seqmel.predict_to_parquet(tuned, data.events, "scores.parquet")
        20
    """
    asked = EmbedOptions.of(options, without=OF_VECTORS)
    model = as_model(model)
    check_output(Path(output), overwrite=asked.overwrite, folder=False, reads=(events, facts))
    tables = predict(
        model,
        events,
        facts=facts,
        shard=asked.shard,
        device=asked.device,
        progress=asked.progress,
    )
    return write_tables(output, tables, overwrite=asked.overwrite)


@with_own_defaults
def predict_as_of(
    model: AnyModel,
    events: Events,
    moments: Events,
    output: str | Path,
    *,
    facts: Table | None = None,
    **options: Any,
) -> int:
    """Write predictions from the events before a given time: client, time, predictions.

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        moments: a table of clients and times, or one time for all clients; see `embed_as_of`.
        output: the Parquet file to write.
        facts: see `predict`.
        **options: shard, device, overwrite, progress: see `EmbedOptions`.

    Returns:
        The number of rows.

    Raises:
        SeqmelError: see `predict` and `embed_as_of`; also if a target has the name of the time
            column.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> tuned = model.finetune(data.events, data.clients, target="gender", epochs=1)
        >>> seqmel.predict_as_of(tuned, data.events, "2023-06-30", "scores.parquet")
        20
    """
    asked = EmbedOptions.of(options, without=OF_VECTORS)
    model = as_model(model)
    output = Path(output)
    heads_of(model)
    check_names(model.targets, model.schema.client, model.schema.time)
    check_output(output, overwrite=asked.overwrite, folder=False, reads=(events, moments, facts))
    of_clients = fact_rows(model, facts, strict=asked.shard is None)
    found = vectors_as_of(
        model,
        events,
        moments,
        output,
        shard=asked.shard,
        device=asked.device,
        progress=asked.reporter,
    )
    with translate_disk_full(output), found as (rows, vectors):
        tables = prediction_tables_of(model, rows, vectors, of_clients, progress=asked.reporter)
        return write_tables(output, tables, overwrite=asked.overwrite)


@with_own_defaults
@torch.inference_mode()
def predict_outputs(
    heads: Heads | JointHeads, vectors: Tensor, facts: npt.NDArray[np.float32] | None = None
) -> list[npt.NDArray[np.float64]]:
    """Return the outputs of each head, (N, size), for (N, D) vectors from `embed`.

    `Target` converts them to predictions.

    Args:
        heads: the heads of a fine-tuned model.
        vectors: (N, D) embeddings.
        facts: (N, facts), see `Facts.encode`; None for heads without.
    """
    encoded = None if facts is None else torch.from_numpy(facts)
    return [out.double().numpy() for out in heads(vectors, encoded)]


def fact_rows(
    model: TrainedModel,
    facts: Table | None,
    *,
    likely: str | None = None,
    strict: bool = True,
) -> FactRows | None:
    """Read and encode the facts that a model predicts with; None for a model without.

    Args:
        model: a fine-tuned model.
        facts: a table with one row per client, or None.
        likely: the client column if the table has it; None takes that of the events.
        strict: whether to raise at the end if no client has facts. A shard may have none.

    Raises:
        ConfigError: the model needs facts and none are given, or the other way round.
        SchemaError, InputError: see `read_facts`.
    """
    check_facts(model, given=facts is not None)
    if model.facts is None:
        return None
    rows = read_facts(facts, likely=likely or model.schema.client, known=model.facts)
    label = paths_label(facts) if is_paths(facts) else "the facts"
    return FactRows(model.facts, rows, label=label, strict=strict)


def check_facts(model: TrainedModel, *, given: bool) -> None:
    """Check that facts are given if, and only if, the model predicts with facts.

    Args:
        model: a fine-tuned model.
        given: whether facts are given.

    Raises:
        ConfigError: they are given and not expected, or the other way round.
    """
    if model.facts is None and given:
        raise ConfigError(
            "The model was fine-tuned without facts about clients. Leave --facts (facts=) out, or "
            "fine-tune with them."
        )
    if model.facts is not None and not given:
        raise ConfigError(
            "The model was fine-tuned with facts about clients, and none are given. Give a table "
            f"with {shown(map(repr, model.facts.names))}: --facts FILE (facts=)."
        )


def prediction_tables(
    model: TrainedModel,
    parts: Iterable[tuple[pa.Table, Tensor]],
    facts: FactRows | None = None,
    *,
    progress: Progress = silent,
) -> Iterator[pa.Table]:
    """Yield the tables of `predict` for chunks of (n, K) key columns and (n, D) vectors.

    Args:
        model: a fine-tuned model.
        parts: chunks of n key rows, clients first, and n vectors.
        facts: the facts of a model with facts.
        progress: where to say how many clients have no facts.

    Raises:
        InputError: no client has facts.
    """
    heads = heads_of(model)
    for keys, vectors in parts:
        known = None if facts is None else facts.of(pd.Index(keys.column(0).to_pandas()))
        yield _table(model, keys, predict_outputs(heads, vectors, known))
    if facts is not None:
        facts.report(progress)


def prediction_tables_of(
    model: TrainedModel,
    keys: pa.Table,
    vectors: npt.NDArray[np.float32],
    facts: FactRows | None = None,
    *,
    progress: Progress = silent,
) -> Iterator[pa.Table]:
    """Yield the tables of `predict` for (N, K) keys and (N, D) vectors, in chunks.

    Args:
        model: a fine-tuned model.
        keys: (N, K) key columns.
        vectors: (N, D), in memory or memory-mapped.
        facts: see `prediction_tables`.
        progress: see `prediction_tables`.
    """
    begins = range(0, max(1, len(keys)), CHUNK_CLIENTS)
    parts = ((b, torch.from_numpy(np.array(vectors[b : b + CHUNK_CLIENTS]))) for b in begins)
    keyed = ((keys.slice(b, CHUNK_CLIENTS), part) for b, part in parts)
    return prediction_tables(model, keyed, facts, progress=progress)


def heads_of(model: TrainedModel) -> Heads | JointHeads:
    """Return the heads of a fine-tuned model.

    Raises:
        ModelError: it has none.
    """
    if model.heads is None:
        raise ModelError(
            "The model cannot predict: it was trained without labels. Fine-tune it first:"
            " seqmel finetune MODEL EVENTS LABELS --target T -o MODEL2"
        )
    return model.heads


def _table(model: TrainedModel, keys: pa.Table, outputs: list[npt.NDArray[np.float64]]) -> pa.Table:
    columns: dict[str, Any] = dict(zip(keys.column_names, keys.columns, strict=True))
    for target, out in zip(model.targets, outputs, strict=True):
        columns |= _columns(target, out)
    learnt = model.metrics
    held_out = learnt.get("clients_held_out", 0) if "labelled" in learnt else 0
    trained_on = {
        "clients": learnt.get("clients", 0) + held_out,
        "labelled": learnt.get("labelled"),
    }
    return pa.table(columns, metadata={TRAINED_ON: json.dumps(trained_on)})


def _columns(target: Target, outputs: npt.NDArray[np.float64]) -> dict[str, pa.Array]:
    values = [
        *(pa.array(chance.astype(np.float32)) for chance in target.chances(outputs).T),
        pa.array(target.predicted(outputs).tolist(), from_pandas=True),
    ]
    return dict(zip(target.columns, values, strict=True))
