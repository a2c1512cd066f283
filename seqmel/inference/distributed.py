"""Embedding and prediction by several processes, each with its share of the clients.

Rank 0 encodes the events once, into a folder beside the output. All ranks map it into memory. Each
embeds a contiguous range of clients, with about equal numbers of events, into its own file in that
folder. Rank 0 concatenates these files in order and writes the result, which equals that of a
single process. If any rank fails, no output is written. Processes are started as for training; see
`seqmel.core.distributed`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.atomic_files import (
    atomic_write,
    check_output,
    map_vectors,
    scratch_folder,
    scratch_path,
    translate_disk_full,
)
from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.distributed import current_rank, process_group, raise_on_all_ranks
from seqmel.core.progress import Progress, silent
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared, write_prepared
from seqmel.data.sources.reading import Events
from seqmel.data.sources.shard import Shard, check_shard
from seqmel.data.tables.labels import Table
from seqmel.data.tables.vector_files import write_tables, write_vectors
from seqmel.inference.embed import (
    client_chunks,
    embed_sequences,
    open_events_for,
    open_prepared_for,
)
from seqmel.inference.options import OF_VECTORS, EmbedOptions
from seqmel.inference.predict import fact_rows, heads_of, prediction_tables_of
from seqmel.model import TrainedModel

__all__ = ["embed_shared_to_parquet", "predict_shared_to_parquet", "shares"]

Vectors: TypeAlias = npt.NDArray[np.float32]
# (file, (N,) ids, (N, D) vectors).
Writer: TypeAlias = Callable[[Path, pa.ChunkedArray, Vectors], object]


@with_own_defaults
def embed_shared_to_parquet(
    model: TrainedModel,
    events: Events,
    output: str | Path,
    **options: Any,
) -> tuple[int, int]:
    """Distributed `embed_to_parquet`. All processes must call it.

    Args:
        model: a model folder or a `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        output: the Parquet file to write, in a folder that all processes can access.
        **options: layout, dtype, dim, scales, shard, device, overwrite, progress: see
            `EmbedOptions`.

    Returns:
        The number of clients and the embedding dimension, on every process.

    Raises:
        SeqmelError: any process failed or ended; it is raised on all of them.
    """
    asked = EmbedOptions.of(options)
    how = asked.vector_layout(model)

    def write(path: Path, ids: pa.ChunkedArray, vectors: Vectors) -> None:
        write_vectors(path, pa.table({model.schema.client: ids}), vectors, how)

    return _shared(model, events, Path(output), write, asked), how.dim or model.encoder.output_size


@with_own_defaults
def predict_shared_to_parquet(
    model: TrainedModel,
    events: Events,
    output: str | Path,
    *,
    facts: Table | None = None,
    **options: Any,
) -> int:
    """Distributed `predict_to_parquet`. All processes must call it.

    Args:
        model: a fine-tuned model.
        events: the events, as for `embed_shared_to_parquet`.
        output: the Parquet file to write, on a disk that all processes share.
        facts: see `predict`.
        **options: shard, device, overwrite, progress: see `EmbedOptions`.

    Returns:
        The number of clients, on every process.

    Raises:
        ModelError: the model is not fine-tuned.
        SeqmelError: any process failed or ended; it is raised on all of them.
    """
    heads_of(model)
    asked = EmbedOptions.of(options, without=OF_VECTORS)
    rows = fact_rows(model, facts, strict=asked.shard is None)

    def write(path: Path, ids: pa.ChunkedArray, vectors: Vectors) -> None:
        keys = pa.table({model.schema.client: ids})
        write_tables(
            path, prediction_tables_of(model, keys, vectors, rows, progress=asked.reporter)
        )

    return _shared(model, events, Path(output), write, asked)


def shares(weights: Tensor, count: int) -> list[int]:
    """Split N clients into contiguous ranges of about equal weight; a range may be empty.

    Args:
        weights: (N,) int64, positive.
        count: number of ranges.

    Returns:
        The `count + 1` bounds.
    """
    ends = weights.cumsum(0)
    wanted = weights.sum() * torch.arange(1, count) / count
    return [0, *torch.searchsorted(ends, wanted, right=True).tolist(), len(weights)]


def _shared(
    model: TrainedModel,
    events: Events,
    output: Path,
    write: Writer,
    asked: EmbedOptions,
) -> int:
    """Encode, embed and write together, and return the number of clients."""
    placed = resolve_device(asked.device)
    scratch = scratch_path(output)
    shard = asked.shard and check_shard(asked.shard)
    with contextlib.ExitStack() as stack:
        rank = stack.enter_context(process_group(placed))
        with raise_on_all_ranks():
            if rank.first:
                check_output(output, overwrite=asked.overwrite, folder=False, reads=(events,))
                stack.enter_context(scratch_folder(output))
                with translate_disk_full(output):
                    _encode_into(scratch / "sequences", model, events, shard)
        with raise_on_all_ranks(), translate_disk_full(output):
            sequences = _opened(scratch / "sequences", model, events, shard)
            _embed_share(
                scratch, model, sequences, placed, asked.reporter if rank.first else silent
            )
        with raise_on_all_ranks():
            if rank.first:
                with atomic_write(output) as partial:
                    write(
                        partial,
                        sequences.client_ids,
                        _joined(scratch, model.encoder.output_size, len(sequences)),
                    )
        return len(sequences)


def _encode_into(folder: Path, model: TrainedModel, events: Events, shard: Shard | None) -> None:
    """Encode the events for all processes. Sequences that were prepared before are not copied."""
    if is_prepared(events):
        return
    source = open_events_for(model, events, folder / "sorting")
    batches = encode(source, model.schema, model.vocabulary, shard=shard)
    write_prepared(folder, batches, schema=model.schema, vocabulary=model.vocabulary)
    source.connection.close()


def _opened(
    folder: Path, model: TrainedModel, events: Events, shard: Shard | None
) -> EncodedSequences:
    return (
        open_prepared_for(model, events, shard)
        if is_prepared(events)
        else open_prepared_for(model, folder)
    )


def _embed_share(
    folder: Path,
    model: TrainedModel,
    sequences: EncodedSequences,
    device: torch.device,
    progress: Progress,
) -> None:
    """Write the vectors of this rank, (n, D) float32, to its file."""
    rank = current_rank()
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", rank.local_index)
    tune_malloc()
    encoder = model.encoder.to(device).eval()
    bounds = shares(1 + sequences.lengths.clamp(max=model.config.embedding.max_events), rank.count)
    own = torch.arange(bounds[rank.index], bounds[rank.index + 1])
    name = "embed" if rank.count == 1 else f"embed, share 1 of {rank.count}"
    with (
        (folder / f"vectors-{rank.index}").open("wb") as file,
        progress.task(name, len(own), "clients") as task,
    ):
        for chunk in client_chunks(sequences.subset(own)):
            vectors = embed_sequences(encoder, chunk, model.config, device=device)
            file.write(vectors.numpy().tobytes())
            task.advance(len(chunk))


def _joined(folder: Path, size: int, clients: int) -> Vectors:
    """Return (N, D) vectors of all ranks in client order, memory-mapped from one file."""
    first, *others = (folder / f"vectors-{index}" for index in range(current_rank().count))
    with first.open("ab") as file:
        for other in others:
            with other.open("rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)
            other.unlink()
    return map_vectors(first, (clients, size), "r")
