"""A vector or a prediction after each event: what was known of the client right after it.

The row of an event is what `embed --as-of` gives for the client at the next microsecond. Events at
the same time are one moment, so they have one vector, after all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.atomic_files import check_output
from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.errors import ConfigError, SchemaError
from seqmel.core.progress import as_progress
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.checking import MICROS_PER_UNIT
from seqmel.data.sources.reading import Events
from seqmel.data.tables.labels import Table
from seqmel.data.tables.targets import check_names
from seqmel.inference.embed import (
    CHUNK_CLIENTS,
    sequence_chunks,
    write_parts,
    write_tables,
)
from seqmel.inference.histories import embed_histories
from seqmel.inference.options import OF_VECTORS, EmbedOptions
from seqmel.inference.predict import fact_rows, heads_of, prediction_tables
from seqmel.inference.unseen import UnseenColumns
from seqmel.model import AnyModel, TrainedModel, as_model

__all__ = ["EVENT", "embed_per_event", "last_events", "predict_per_event"]

EVENT = "event_number"
"""The column with the number of an event in the history of its client, from 1 on."""


def last_events(only: str | None) -> int | None:
    """Return N of "last:N"; None for all events.

    Raises:
        ConfigError: it is something else.
    """
    if only is None:
        return None
    found = re.fullmatch(r"last:(\d+)", only)
    if found is None or not int(found[1]):
        raise ConfigError(f"only cannot be {only!r}. Expected last:N, such as last:10.")
    return int(found[1])


@with_own_defaults
def embed_per_event(
    model: AnyModel, events: Events, output: str | Path, *, only: str | None = None, **options: Any
) -> tuple[int, int]:
    """Write one vector per event: client, time, number of the event, vector.

    Args:
        model: a model folder or a `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        output: the Parquet file to write.
        only: "last:N" for the last N events of each client; None for all.
        **options: layout, dtype, dim, quantization_from, shard, device, overwrite, progress: see
            `EmbedOptions`.

    Returns:
        The number of rows and the embedding dimension.

    Raises:
        SeqmelError: see `embed_to_parquet`.
    """
    asked = EmbedOptions.of(options)
    model = as_model(model)
    output = Path(output)
    last = last_events(only)
    check_output(
        output, overwrite=asked.overwrite, folder=False, reads=(events, asked.quantization_from)
    )
    how = asked.vector_layout(model)
    _check_keys(model.schema)
    parts = _parts(model, events, last, asked)
    return write_parts(output, parts, how, model, overwrite=asked.overwrite)


@with_own_defaults
def predict_per_event(
    model: AnyModel,
    events: Events,
    output: str | Path,
    *,
    only: str | None = None,
    facts: Table | None = None,
    **options: Any,
) -> int:
    """Write one prediction per event: client, time, number of the event, predictions.

    Args:
        model: a model folder from `finetune`, or its `Model`.
        events: see `embed_per_event`.
        output: the Parquet file to write.
        only: see `embed_per_event`.
        facts: see `predict`.
        **options: shard, device, overwrite, progress: see `EmbedOptions`.

    Returns:
        The number of rows.

    Raises:
        SeqmelError: see `predict`.
    """
    asked = EmbedOptions.of(options, without=OF_VECTORS)
    model = as_model(model)
    last = last_events(only)
    heads_of(model)
    _check_keys(model.schema)
    check_names(model.targets, model.schema.client, model.schema.time, EVENT)
    check_output(Path(output), overwrite=asked.overwrite, folder=False, reads=(events, facts))
    of_clients = fact_rows(model, facts, strict=asked.shard is None)
    parts = _parts(model, events, last, asked)
    tables = prediction_tables(model, parts, of_clients, progress=asked.reporter)
    return write_tables(output, tables, overwrite=asked.overwrite)


def _check_keys(schema: EventSchema) -> None:
    for column in (schema.client, schema.time):
        if column == EVENT:
            raise SchemaError(
                f"The events have a column {EVENT!r} for clients or times, which is the name of a "
                "column of the result. Rename it and train again."
            )


def _parts(
    model: TrainedModel, events: Events, last: int | None, asked: EmbedOptions
) -> Iterator[tuple[pa.Table, Tensor]]:
    """Yield (R, 3) clients, times and numbers of events, and their (R, D) vectors."""
    placed = resolve_device(asked.device)
    progress = as_progress(asked.progress)
    tune_malloc()
    encoder = model.encoder.to(placed).eval()
    unseen = UnseenColumns(model)
    total, chunks = sequence_chunks(model, events, shard=asked.shard, empty=True)
    with progress.task("embed", total, "clients") as task:
        for sequences in chunks:
            if len(sequences):
                unseen.see(sequences)
            for clients, places, times in _rows(sequences, last):
                first, moment = _moments(clients, times)
                known = sequences.as_of(clients[first], times[first] + 1)
                vectors = embed_histories(encoder, known, model.config, device=placed)
                keys = _keys(sequences, model.schema, clients, places, times)
                yield keys, vectors.index_select(0, moment)
            task.advance(len(sequences))
    unseen.warn()


def _rows(sequences: EncodedSequences, last: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield client, place in its sequence, and time in microseconds of some events at a time."""
    lengths = sequences.lengths
    first = torch.zeros_like(lengths) if last is None else (lengths - last).clamp(min=0)
    client = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(len(client)) - (lengths.cumsum(0) - lengths)[client]
    chosen = (place >= first[client]).nonzero()[:, 0]
    times = sequences.times(torch.arange(len(lengths)))
    for part in torch.split(chosen, CHUNK_CLIENTS):  # one empty part if there is no event
        yield client[part], place[part], times[part]


def _moments(clients: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first row of each moment of a client, and the number of the moment of each row."""
    both = torch.stack([clients, times], dim=1)
    begins = torch.ones(len(both), dtype=torch.bool)
    begins[1:] = (both[1:] != both[:-1]).any(dim=1)
    return begins.nonzero()[:, 0], begins.cumsum(0) - 1


def _keys(
    sequences: EncodedSequences,
    schema: EventSchema,
    clients: Tensor,
    places: Tensor,
    times: Tensor,
) -> pa.Table:
    return pa.table(
        {
            schema.client: sequences.client_ids.take(pa.array(clients.numpy())),
            schema.time: _times(times, schema),
            EVENT: pa.array((places + 1).numpy()),
        }
    )


def _times(times: Tensor, schema: EventSchema) -> pa.Array:
    """Return times in their own unit: timestamps, or float64 numbers."""
    if schema.time_unit == "timestamp":
        return pa.array(times.numpy()).cast(pa.timestamp("us"))
    return pa.array(times.numpy() / MICROS_PER_UNIT[schema.time_unit])
