"""Embed events: one vector per client, with its id, in bounded memory."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.atomic_files import atomic_write, check_output, map_vectors, scratch_folder
from seqmel.core.device import disable_tf32, resolve_device, tune_malloc, with_own_defaults
from seqmel.core.errors import ModelError, shown
from seqmel.core.progress import EventsWarning, Reporting, as_progress
from seqmel.core.threads import map_in_threads
from seqmel.core.units import count_words
from seqmel.data.encoding.event_encoding import encode, sequence_schema
from seqmel.data.fitting.timeline import open_for_schema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared, open_prepared
from seqmel.data.sources.reading import Events
from seqmel.data.sources.several import event_tables
from seqmel.data.sources.shard import Shard, check_shard, places_in_shard
from seqmel.data.sources.source import EventSource
from seqmel.data.tables import vector_files
from seqmel.data.tables.vector_files import VectorLayout, write_vectors
from seqmel.inference.options import EmbedOptions
from seqmel.inference.unseen import UnseenColumns
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.nn.encoder import SequenceEncoder

__all__ = [
    "CHUNK_CLIENTS",
    "client_chunks",
    "embed",
    "embed_sequences",
    "embed_to_parquet",
    "finite",
    "map_batches",
    "open_events_for",
    "open_prepared_for",
    "sequence_chunks",
    "token_batches",
    "write_parts",
    "write_tables",
]

_Result = TypeVar("_Result")

CHUNK_CLIENTS = 16_384
"""Clients with vectors in memory at a time.

With 1,000 dimensions these take 64 MB, times a few copies until they are written.
"""


def token_batches(lengths: Tensor, batch_events: int) -> Iterator[Tensor]:
    """Yield positions of clients in batches of similar length.

    Args:
        lengths: (N,) int64, events per client.
        batch_events: maximum number of events per batch. A longer client is a batch of its own.

    Yields:
        (n,) int64 positions.
    """
    order = torch.argsort(lengths, stable=True)
    begin = 0
    held = 0
    for end, length in enumerate(lengths[order].tolist()):
        if end > begin and held + length > batch_events:
            yield order[begin:end]
            begin = end
            held = 0
        held += max(1, length)
    if len(order) > begin:
        yield order[begin:]


@with_own_defaults
@torch.inference_mode()
def embed_sequences(
    encoder: SequenceEncoder,
    sequences: EncodedSequences,
    config: Config,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Embed N clients.

    Args:
        encoder: on `device`, in evaluation mode.
        sequences: encoded with the vocabulary of the encoder.
        config: gives the maximum number of events per sequence and per batch.
        device: the device to compute on.

    Returns:
        (N, D) float32 on the CPU, in the order of `sequences`.

    Raises:
        ModelError: a vector is not finite.
    """
    most = config.embedding.max_events
    vectors = torch.empty(len(sequences), encoder.output_size)

    def vectors_of(clients: Tensor) -> Tensor:
        batch = sequences.gather_last(clients, max_events=most).to(device)
        return encoder.embed(batch).float().cpu()

    batches = token_batches(sequences.lengths.clamp(max=most), config.events_at_a_time)
    with disable_tf32(device):
        for clients, found in map_batches(vectors_of, batches, encoder, device=device):
            vectors[clients] = found
    return finite(vectors)


def map_batches(
    function: Callable[[Tensor], _Result],
    batches: Iterable[Tensor],
    encoder: SequenceEncoder,
    *,
    device: torch.device | str,
) -> Iterator[tuple[Tensor, _Result]]:
    """Yield each batch and `function(batch)` in order, computing several where that is faster.

    That is on the CPU, and without a sequence encoder: one that goes from event to event keeps the
    interpreter busy.

    Args:
        function: computes with the encoder.
        batches: positions of clients.
        encoder: on `device`.
        device: the device to compute on.
    """

    def pair(batch: Tensor) -> tuple[Tensor, _Result]:
        return batch, function(batch)

    if torch.device(device).type == "cpu" and encoder.sequence is None:
        return map_in_threads(pair, batches)
    return map(pair, batches)


def finite(vectors: Tensor) -> Tensor:
    """Return the vectors unchanged if all are finite.

    Args:
        vectors: (N, D).

    Raises:
        ModelError: one is not, which only extreme weights cause.
    """
    if not bool(torch.isfinite(vectors).all()):
        odd = int((~torch.isfinite(vectors)).any(dim=1).sum())
        raise ModelError(
            f"The model gives {odd:,} of {count_words(len(vectors), 'client')} vectors that are "
            "not finite: its weights are too large. Train it again with a lower "
            "training.learning_rate, or copy it again."
        )
    return vectors


@with_own_defaults
def embed(
    model: AnyModel,
    events: Events,
    *,
    shard: Shard | None = None,
    device: str = "auto",
    progress: Reporting = None,
    watch: Callable[[EncodedSequences], object] | None = None,
) -> Iterator[tuple[pa.Array, Tensor]]:
    """Embed clients in chunks, in the order of the input.

    Args:
        model: a model folder, or a `Model` from `load_model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        shard: only clients of one shard, such as (3, 8) for the third of eight. The shard of a
            client depends only on a hash of its id, so several hosts can embed one data set in
            parallel.
        device: the device to compute on; "auto" prefers a GPU.
        progress: where to report progress; see `EmbedOptions`.
        watch: called with the sequences of each chunk, to check them. If None, an `EventsWarning`
            is issued for columns with only unseen values.

    Yields:
        (n,) Arrow array of client ids and (n, D) float32 tensor of their vectors, of at most 16,384
        clients at a time.

    Raises:
        ConfigError: the shard index is out of range.
        InputError: the events cannot be read, or lack a column that the model was trained with.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> for ids, vectors in seqmel.embed(model, data.events):
        ...     print(len(ids), vectors.shape[1] == model.encoder.output_size)
        20 True
    """
    model = as_model(model)
    placed = resolve_device(device)
    tune_malloc()
    encoder = model.encoder.to(placed).eval()
    unseen = UnseenColumns(model)
    total, chunks = sequence_chunks(model, events, shard=shard, empty=True)
    with as_progress(progress).task("embed", total, "clients") as task:
        for sequences in chunks:
            if len(sequences):
                (watch or unseen.see)(sequences)
                if watch is not None:
                    unseen.repeats.see(sequences)
            vectors = embed_sequences(encoder, sequences, model.config, device=placed)
            yield sequences.client_ids.combine_chunks(), vectors
            task.advance(len(sequences))
    unseen.warn()


def sequence_chunks(
    model: TrainedModel,
    events: Events,
    temp_folder: Path | None = None,
    *,
    shard: Shard | None = None,
    empty: bool = False,
) -> tuple[int | None, Iterator[EncodedSequences]]:
    """Return the number of clients in the shard, None if unknown, and their sequences in chunks.

    Args:
        model: the model.
        events: events or prepared sequences, as for `embed`.
        temp_folder: for sorting on disk.
        shard: index and number of shards; None for all clients.
        empty: accept events without rows, as one chunk without clients.
    """
    shard = shard and check_shard(shard)
    if is_prepared(events):
        sequences = open_prepared_for(model, events, shard)
        return len(sequences), client_chunks(sequences)
    source = open_events_for(model, events, temp_folder, empty=empty)
    if source.is_empty:
        return 0, iter([no_sequences(source, model)])
    batches = encode(source, model.schema, model.vocabulary, shard=shard)
    chunks = (EncodedSequences.from_batches([batch], time=model.schema.time) for batch in batches)
    return None, itertools.chain.from_iterable(map(client_chunks, chunks))


def no_sequences(source: EventSource, model: TrainedModel) -> EncodedSequences:
    """Return empty sequences for events that have the columns of the schema but no rows.

    Args:
        source: events without rows.
        model: the model.
    """
    schema = model.schema
    for column in (schema.client, schema.time, *schema.features):
        source.require(
            column, "The model was trained with that column; name the columns as they were then."
        )
    batch = pa.RecordBatch.from_pylist([], schema=sequence_schema(source, schema, model.vocabulary))
    return EncodedSequences.from_batches([batch], time=schema.time)


def client_chunks(sequences: EncodedSequences) -> Iterator[EncodedSequences]:
    """Split sequences into chunks of at most `CHUNK_CLIENTS` clients.

    Args:
        sequences: sequences of any number of clients.

    Yields:
        Sequences of consecutive clients.
    """
    return (sequences.subset(part) for part in torch.arange(len(sequences)).split(CHUNK_CLIENTS))


def open_prepared_for(
    model: TrainedModel, folder: str | Path, shard: Shard | None = None
) -> EncodedSequences:
    """Open sequences that were prepared for a model, or a shard of them.

    Args:
        model: the model with the vocabulary they were encoded with.
        folder: the folder of prepared sequences.
        shard: see `embed`.

    Returns:
        The sequences of the clients in the shard.
    """
    sequences = open_prepared(folder, vocabulary=model.vocabulary).sequences
    if shard is None:
        return sequences
    return sequences.subset(torch.from_numpy(places_in_shard(sequences.client_ids, shard)))


def open_events_for(
    model: TrainedModel,
    events: Events,
    temp_folder: Path | None = None,
    *,
    empty: bool = False,
    new: bool = False,
) -> EventSource:
    """Open events to encode them for a model, with the resource limits of its preparation.

    Args:
        model: gives the columns and the categories.
        events: see `open_events`; for a model of several event tables, name -> events. A warning
            names tables that are missing.
        temp_folder: for sorting on disk what exceeds memory.
        empty: accept events without rows.
        new: these are new events of clients whose earlier ones are in states.

    Returns:
        The opened events.
    """
    source = open_for_schema(
        events,
        model.schema,
        model.vocabulary.texts,
        empty=empty,
        **model.config.resources,
        temp_folder=temp_folder,
    )
    missing = [name for name in model.schema.sources if name not in (event_tables(events) or ())]
    if missing:
        without = "All clients are embedded without"
        warnings.warn(
            f"No events of the source {shown(missing)} are given, which the model was trained on."
            f" {'Clients keep what their states have of it' if new else without}.",
            EventsWarning,
            stacklevel=2,
        )
    return source


@with_own_defaults
def embed_to_parquet(
    model: AnyModel,
    events: Events,
    output: str | Path,
    *,
    watch: Callable[[EncodedSequences], object] | None = None,
    **options: Any,
) -> tuple[int, int]:
    """Write one vector per client.

    The client id keeps its name and type. The vector follows in columns `emb_0000` ..., or in one
    list column.

    Args:
        model: a model folder or a `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        output: the Parquet file to write.
        watch: called with the sequences of each chunk.
        **options: layout, dtype, dim, scales, shard, device, overwrite, progress: see
            `EmbedOptions`.

    Returns:
        The number of clients and the embedding dimension.

    Raises:
        ConfigError: an option does not exist, is out of range, or does not fit the model.
        InputError: the events cannot be read, or lack a column that the model was trained with.
        OutputError: the output exists or cannot be written.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> clients, dimensions = seqmel.embed_to_parquet(model, data.events, "vectors.parquet")
        >>> clients
        20
    """
    asked = EmbedOptions.of(options)
    model = as_model(model)
    output = Path(output)
    check_output(
        output, overwrite=asked.overwrite, folder=False, reads=(events, asked.quantization_from)
    )
    how = asked.vector_layout(model)
    parts = embed(
        model, events, shard=asked.shard, device=asked.device, progress=asked.progress, watch=watch
    )
    keyed = ((pa.table({model.schema.client: ids}), vectors) for ids, vectors in parts)
    return write_parts(output, keyed, how, model, overwrite=asked.overwrite)


def write_parts(
    output: Path,
    parts: Iterable[tuple[pa.Table, Tensor]],
    how: VectorLayout,
    model: TrainedModel,
    *,
    overwrite: bool,
) -> tuple[int, int]:
    """Write chunks of keys and vectors to a Parquet file.

    int8 and binary without scales need all vectors, which wait in a temporary file.

    Args:
        output: the file.
        parts: chunks of (n, K) key columns and (n, D) vectors, computed one by one.
        how: the layout of the file.
        model: the model of the vectors.
        overwrite: replace an existing output.

    Returns:
        The number of rows and the embedding dimension.
    """
    size = how.dim or model.encoder.output_size
    if how.streams:
        tables = (how.table(keys, vectors.numpy()) for keys, vectors in parts)
        return write_tables(output, tables, overwrite=overwrite), size
    with atomic_write(output) as partial, scratch_folder(output) as scratch:
        found = []
        with (scratch / "vectors").open("wb") as file:
            for keys, vectors in parts:
                found.append(keys)
                file.write(np.ascontiguousarray(vectors[:, : how.dim].numpy()).tobytes())
        rows = pa.concat_tables(found)
        write_vectors(partial, rows, map_vectors(scratch / "vectors", (len(rows), size), "r"), how)
    return len(rows), size


def write_tables(output: str | Path, tables: Iterable[pa.Table], *, overwrite: bool = False) -> int:
    """Write an iterable of tables to a Parquet file atomically.

    Args:
        output: the Parquet file.
        tables: computed one by one while writing.
        overwrite: replace an existing output.

    Returns:
        The number of rows.

    Raises:
        OutputError: the output exists or cannot be written. It is raised before the first table is
            computed.
    """
    output = Path(output)
    check_output(output, overwrite=overwrite, folder=False)
    with atomic_write(output) as partial:
        return vector_files.write_tables(partial, tables)
