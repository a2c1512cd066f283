"""`seqmel embed`: events in, one vector a client out, in bounded memory, with the ids that came in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.data.preparation import encode
from seqmel.data.prepared import is_prepared, open_prepared
from seqmel.data.reading import Events, open_events
from seqmel.data.sequences import EncodedSequences
from seqmel.device import keep_large_blocks, resolve_device
from seqmel.files import check_output, written_beside
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.progress import Progress, silent

__all__ = [
    "DType",
    "Layout",
    "embed",
    "embed_sequences",
    "embed_to_parquet",
    "sequence_chunks",
    "token_batches",
    "vector_arrays",
    "vector_columns",
    "write_tables",
    "write_vectors",
]

Layout: TypeAlias = Literal["columns", "list"]
DType: TypeAlias = Literal["float32", "float16"]

_CHUNK_CLIENTS = 65_536


def token_batches(lengths: Tensor, batch_events: int) -> Iterator[Tensor]:
    """Positions of clients, in batches of like length with at most `batch_events` events, or one client.

    Args:
        lengths: (N,) int64.
        batch_events: the budget; a client with more events than that is a batch of its own.
    """
    order = torch.argsort(lengths, stable=True)
    begin, held = 0, 0
    for end, length in enumerate(lengths[order].tolist()):
        if end > begin and held + length > batch_events:
            yield order[begin:end]
            begin, held = end, 0
        held += max(1, length)
    if len(order) > begin:
        yield order[begin:]


@torch.inference_mode()
def embed_sequences(
    encoder: SequenceEncoder, sequences: EncodedSequences, config: Config, *, device: torch.device | str = "cpu"
) -> Tensor:
    """(N, D) float32 on the CPU: the vectors of N clients, in their order.

    Args:
        encoder: on `device`, in evaluation mode.
        sequences: encoded with the encoder's vocabulary.
        config: gives the most events of a sequence and of a batch.
        device: where to compute.
    """
    options = config.embedding
    vectors = torch.empty(len(sequences), encoder.output_size)
    for clients in token_batches(sequences.lengths.clamp(max=options.max_events), options.batch_events):
        batch = sequences.whole(clients, most=options.max_events).to(device)
        vectors[clients] = encoder.embed(batch).float().cpu()
    return vectors


def embed(
    model: Model, events: Events, *, device: str = "auto", progress: Progress = silent
) -> Iterator[tuple[pa.Array, Tensor]]:
    """Embed clients a chunk at a time: yields their ids and their (n, D) vectors, clients in the order of the input.

    Args:
        model: as `load_model` gives it.
        events: see `open_events`, or sequences that were prepared with this model's vocabulary.
        device: where to compute.
        progress: where to report to.

    Raises:
        InputError: events that cannot be read, or lack a column that the model was trained with.
    """
    placed = resolve_device(device)
    keep_large_blocks()
    encoder = model.encoder.to(placed).eval()
    total, chunks = sequence_chunks(model, events)
    with progress.task("embed", total, "clients") as task:
        for sequences in chunks:
            vectors = embed_sequences(encoder, sequences, model.config, device=placed)
            yield sequences.client_ids.combine_chunks(), vectors
            task.advance(len(sequences))


def sequence_chunks(
    model: Model, events: Events, temp_folder: Path | None = None
) -> tuple[int | None, Iterator[EncodedSequences]]:
    """How many clients there are, and their sequences a chunk at a time."""
    if is_prepared(events):
        sequences = open_prepared(events, vocabulary=model.vocabulary).sequences
        parts = torch.arange(len(sequences)).split(_CHUNK_CLIENTS)
        return len(sequences), (sequences.subset(part) for part in parts)
    options = model.config.preparation
    source = open_events(
        events,
        client=model.schema.client,
        memory_limit=options.memory_limit,
        threads=options.threads,
        temp_folder=temp_folder,
    )
    batches = encode(source, model.schema, model.vocabulary)
    time = model.schema.time
    return None, (EncodedSequences.from_batches([batch], time=time) for batch in batches)


def embed_to_parquet(
    model: Model,
    events: Events,
    output: str | Path,
    *,
    layout: Layout = "columns",
    dtype: DType = "float32",
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[int, int]:
    """Write the embeddings: the client id under its own name and type, then `emb_0000` ... or one list column.

    Args:
        model, events, device, progress: see `embed`.
        output: the Parquet file to write.
        layout: "columns" for one column a dimension, "list" for one fixed-size list column `embedding`.
        dtype: of the numbers.
        overwrite: replace what is there.

    Returns:
        Number of clients and of dimensions.
    """
    tables = (
        pa.table({model.schema.client: ids} | vector_arrays(vectors.numpy(), layout, dtype))
        for ids, vectors in embed(model, events, device=device, progress=progress)
    )
    return write_tables(output, tables, overwrite=overwrite), model.encoder.output_size


def write_tables(output: str | Path, tables: Iterable[pa.Table], *, overwrite: bool = False) -> int:
    """Write tables, which are made one by one, to a Parquet file beside and move it into place; returns its rows.

    Raises:
        OutputError: it exists, or cannot be written; before the first table is made.
    """
    output = Path(output)
    check_output(output, overwrite=overwrite)
    rows, writer = 0, None
    with written_beside(output) as partial, contextlib.ExitStack() as stack:
        for table in tables:
            writer = writer or stack.enter_context(_writer(partial, table.schema, table.column_names[:1]))
            writer.write_table(table)
            rows += len(table)
    return rows


def write_vectors(
    path: Path, keys: pa.Table, vectors: npt.NDArray[np.float32], *, layout: Layout, dtype: DType
) -> None:
    """Write N vectors beside the columns that say whose they are, some rows at a time.

    Args:
        path: the Parquet file.
        keys: (N, K) columns.
        vectors: (N, D), in memory or mapped from a file.
        layout, dtype: see `embed_to_parquet`.
    """
    with contextlib.ExitStack() as stack:
        writer = None
        for begin in range(0, max(1, len(vectors)), _CHUNK_CLIENTS):
            rows = keys.slice(begin, _CHUNK_CLIENTS)
            values = vector_arrays(vectors[begin : begin + _CHUNK_CLIENTS], layout, dtype)
            table = pa.table(dict(zip(rows.column_names, rows.columns, strict=True)) | values)
            writer = writer or stack.enter_context(_writer(path, table.schema, keys.column_names))
            writer.write_table(table)


def _writer(path: Path, schema: pa.Schema, keys: list[str]) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=keys)


def vector_arrays(vectors: npt.NDArray[np.float32], layout: Layout, dtype: DType) -> dict[str, pa.Array]:
    """(N, D) vectors as columns of a table: `emb_0000` ..., or the list column `embedding`."""
    numbers = np.ascontiguousarray(vectors.astype(dtype))
    if layout == "list":
        return {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])}
    names = vector_columns(numbers.shape[1])
    return {name: pa.array(column) for name, column in zip(names, np.ascontiguousarray(numbers.T), strict=True)}


def vector_columns(size: int) -> list[str]:
    """What the numbers of a vector are called: emb_0000, emb_0001, ..."""
    return [f"emb_{i:04d}" for i in range(size)]
