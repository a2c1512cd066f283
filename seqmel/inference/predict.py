"""Predict with a fine-tuned model: one row per client, with its id, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.atomic_files import check_output, translate_disk_full
from seqmel.core.device import with_own_defaults
from seqmel.core.errors import ModelError
from seqmel.core.progress import Reporting
from seqmel.data.sources.reading import Events
from seqmel.data.sources.shard import Shard
from seqmel.data.tables.targets import Target, check_names
from seqmel.inference.as_of import vectors_as_of
from seqmel.inference.embed import CHUNK_CLIENTS, embed, write_tables
from seqmel.inference.options import OF_VECTORS, EmbedOptions
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.nn.heads import Heads

__all__ = [
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
    shard: Shard | None = None,
    device: str = "auto",
    progress: Reporting = None,
) -> Iterator[pa.Table]:
    """Predict clients in chunks, in the order of the input.

    A table has the client id under its own name and type, then the targets. A classification target
    has one probability column per class (`gender=F`, `gender=M`) and the most likely class
    (`gender`). A regression target has one column (`age`).

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        shard: only clients of one shard, such as (3, 8); see `embed`.
        device: the device to compute on; "auto" prefers a GPU.
        progress: where to report progress; see `EmbedOptions`.

    Yields:
        Tables with one row per client.

    Raises:
        ModelError: the model is not fine-tuned.
        ConfigError: the shard index is out of range.
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
    heads_of(model)
    parts = embed(model, events, shard=shard, device=device, progress=progress)
    return prediction_tables(
        model, ((pa.table({model.schema.client: ids}), vectors) for ids, vectors in parts)
    )


@with_own_defaults
def predict_to_parquet(
    model: AnyModel,
    events: Events,
    output: str | Path,
    **options: Any,
) -> int:
    """Write predictions in the columns that `predict` documents.

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        output: the Parquet file to write.
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
    asked, model = EmbedOptions.of(options, without=OF_VECTORS), as_model(model)
    check_output(Path(output), overwrite=asked.overwrite, folder=False, reads=(events,))
    tables = predict(model, events, shard=asked.shard, device=asked.device, progress=asked.progress)
    return write_tables(output, tables, overwrite=asked.overwrite)


@with_own_defaults
def predict_as_of(
    model: AnyModel,
    events: Events,
    moments: Events,
    output: str | Path,
    **options: Any,
) -> int:
    """Write predictions from the events before a given time: client, time, predictions.

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        moments: a table of clients and times, or one time for all clients; see `embed_as_of`.
        output: the Parquet file to write.
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
    asked, model, output = (
        EmbedOptions.of(options, without=OF_VECTORS),
        as_model(model),
        Path(output),
    )
    heads_of(model)
    check_names(model.targets, model.schema.client, model.schema.time)
    check_output(output, overwrite=asked.overwrite, folder=False, reads=(events, moments))
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
        return write_tables(
            output, prediction_tables_of(model, rows, vectors), overwrite=asked.overwrite
        )


@with_own_defaults
@torch.inference_mode()
def predict_outputs(heads: Heads, vectors: Tensor) -> list[npt.NDArray[np.float64]]:
    """Return the outputs of each head, (N, size), for (N, D) vectors from `embed`.

    `Target` converts them to predictions.

    Args:
        heads: the heads of a fine-tuned model.
        vectors: (N, D) embeddings.
    """
    return [out.double().numpy() for out in heads(vectors)]


def prediction_tables(
    model: TrainedModel, parts: Iterable[tuple[pa.Table, Tensor]]
) -> Iterator[pa.Table]:
    """Yield the tables of `predict` for chunks of (n, K) key columns and (n, D) vectors.

    Args:
        model: a fine-tuned model.
        parts: chunks of n key rows and n vectors.
    """
    heads = heads_of(model)
    return (_table(model, keys, predict_outputs(heads, vectors)) for keys, vectors in parts)


def prediction_tables_of(
    model: TrainedModel, keys: pa.Table, vectors: npt.NDArray[np.float32]
) -> Iterator[pa.Table]:
    """Yield the tables of `predict` for (N, K) keys and (N, D) vectors, in chunks.

    Args:
        model: a fine-tuned model.
        keys: (N, K) key columns.
        vectors: (N, D), in memory or memory-mapped.
    """
    begins = range(0, max(1, len(keys)), CHUNK_CLIENTS)
    parts = ((b, torch.from_numpy(np.array(vectors[b : b + CHUNK_CLIENTS]))) for b in begins)
    return prediction_tables(model, ((keys.slice(b, CHUNK_CLIENTS), part) for b, part in parts))


def heads_of(model: TrainedModel) -> Heads:
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
    return pa.table(columns)


def _columns(target: Target, outputs: npt.NDArray[np.float64]) -> dict[str, pa.Array]:
    shares = target.probabilities(outputs).T if target.classes else ()
    values = [
        *(pa.array(share.astype(np.float32)) for share in shares),
        pa.array(target.predicted(outputs).tolist()),
    ]
    return dict(zip(target.columns, values, strict=True))
