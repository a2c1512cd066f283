"""A vector per client and table, for a model of several event tables.

The vector of a client and a table is that of the events of this table alone: what `embed` gives for
the client if it is given no other table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from seqmel.core.atomic_files import check_output
from seqmel.core.device import disable_tf32, resolve_device, tune_malloc, with_own_defaults
from seqmel.core.errors import ConfigError, SchemaError
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sources.reading import Events
from seqmel.inference.embed import finite, sequence_chunks, token_batches, write_parts
from seqmel.inference.options import EmbedOptions
from seqmel.inference.unseen import UnseenColumns
from seqmel.model import AnyModel, TrainedModel, as_model

__all__ = ["SOURCE", "embed_per_source"]

SOURCE = "source"
"""The column with the name of the table."""


@with_own_defaults
def embed_per_source(
    model: AnyModel, events: Events, output: str | Path, **options: Any
) -> tuple[int, int]:
    """Write one vector per client and table: client, source, vector.

    A client has a row for each table that it has events in.

    Args:
        model: a model of several event tables: its folder or a `Model`.
        events: name -> events, see `open_events`; or a folder of sequences prepared with this
            model's vocabulary.
        output: the Parquet file to write.
        **options: layout, dtype, dim, quantization_from, shard, device, overwrite, progress: see
            `EmbedOptions`.

    Returns:
        The number of rows and the embedding dimension.

    Raises:
        ConfigError: the model was trained on one table.
        SeqmelError: see `embed_to_parquet`.
    """
    asked = EmbedOptions.of(options)
    model = as_model(model)
    if not model.schema.sources:
        raise ConfigError(
            "The model was trained on one event table, so it has no vector per source. Leave out "
            "--per source (per=), or train on several tables: seqmel train NAME=PATH NAME=PATH."
        )
    if model.schema.client == SOURCE:
        raise SchemaError(
            f"The client column is named {SOURCE!r}, which is the name of a column of the result. "
            "Rename it and train again."
        )
    output = Path(output)
    check_output(
        output, overwrite=asked.overwrite, folder=False, reads=(events, asked.quantization_from)
    )
    how = asked.vector_layout(model)
    parts = _parts(model, events, asked)
    return write_parts(output, parts, how, model, overwrite=asked.overwrite)


@torch.inference_mode()
def _parts(
    model: TrainedModel, events: Events, asked: EmbedOptions
) -> Iterator[tuple[pa.Table, Tensor]]:
    """Yield (R, 2) clients and sources, clients in the order of the input, and (R, D) vectors."""
    placed = resolve_device(asked.device)
    tune_malloc()
    model.encoder.to(placed).eval()
    unseen = UnseenColumns(model)
    names = list(model.schema.sources)
    codes = [model.vocabulary.source_code(name) for name in names]
    total, chunks = sequence_chunks(model, events, shard=asked.shard, empty=True)
    with asked.reporter.task("embed", total, "clients") as task:
        for sequences in chunks:
            if len(sequences):
                unseen.see(sequences)
            found = [_of_source(model, sequences, code, placed) for code in codes]
            clients = torch.cat([part for part, _ in found])
            source = torch.cat([torch.full_like(part, i) for i, (part, _) in enumerate(found)])
            order = torch.argsort(clients, stable=True)
            keys = {
                model.schema.client: sequences.client_ids.take(pa.array(clients[order].numpy())),
                SOURCE: pa.array(names, pa.string()).take(pa.array(source[order].numpy())),
            }
            yield pa.table(keys), torch.cat([vectors for _, vectors in found])[order]
            task.advance(len(sequences))
    unseen.warn()


def _of_source(
    model: TrainedModel, sequences: EncodedSequences, code: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return (R,) positions of the clients with events of one table, and their (R, D) vectors."""
    column = model.schema.source
    assert column is not None, "there are several tables"
    every = torch.arange(len(sequences))
    of_table = sequences.values(column, every) == code
    owner = torch.repeat_interleave(every, sequences.lengths)[of_table]
    first = sequences.lengths.cumsum(0) - sequences.lengths
    places = of_table.nonzero()[:, 0] - first[owner]
    most = model.config.embedding.max_events
    counts = torch.bincount(owner, minlength=len(sequences))
    ends = counts.cumsum(0)
    lengths = counts.clamp(max=most)
    clients = counts.nonzero()[:, 0]
    vectors = torch.empty(len(clients), model.encoder.output_size)
    with disable_tf32(device):
        for rows in token_batches(lengths[clients], model.config.events_at_a_time):
            some = clients[rows]
            taken = torch.cat([places[ends[i] - lengths[i] : ends[i]] for i in some.tolist()])
            batch = sequences.gather(some, torch.zeros_like(some), lengths[some], taken)
            vectors[rows] = model.encoder.embed(batch.to(device)).float().cpu()
    return clients, finite(vectors)
