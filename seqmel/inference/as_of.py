"""As-of embeddings: vectors from the events before a given time only.

They serve training sets with labels of the future (did the client leave in the next month?). Each
row is a client and a time. A client may have several rows. No event at or after the time affects
the vector.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch

from seqmel.core.atomic_files import (
    allocate,
    atomic_write,
    check_output,
    map_vectors,
    scratch_folder,
)
from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.errors import InputError
from seqmel.core.progress import EventsWarning, Progress, silent, warn
from seqmel.core.units import DAY_US, count_words
from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import is_prepared, open_prepared
from seqmel.data.sources.arrow_tables import is_moment
from seqmel.data.sources.checking import Unusable, check_columns, time_sql
from seqmel.data.sources.client_ids import ids_as
from seqmel.data.sources.reading import Events, open_events
from seqmel.data.sources.shard import Shard, places_in_shard
from seqmel.data.sources.source import ROW, EventSource, ident
from seqmel.data.sources.times import infer_time_format, other_zone
from seqmel.data.tables.vector_files import write_vectors
from seqmel.inference.embed import (
    CHUNK_CLIENTS,
    embed_sequences,
    open_events_for,
    sequence_chunks,
)
from seqmel.inference.options import EmbedOptions
from seqmel.inference.unseen import UnseenColumns
from seqmel.model import AnyModel, TrainedModel, as_model

__all__ = [
    "Moments",
    "embed_as_of",
    "embed_moments",
    "moment_us",
    "read_moments",
    "single_moment",
    "time_in_words",
    "vectors_as_of",
]

_MEDS_TIME = "prediction_time"
_ROWS = 65_536


@dataclass(frozen=True)
class Moments:
    """R rows of a client and a time.

    Attributes:
        table: (R, 2) the client and time columns as given.
        time_us: (R,) int64 times in microseconds, in the time scale of the model.
        label: their name in messages.
    """

    table: pa.Table
    time_us: npt.NDArray[np.int64]
    label: str

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: npt.NDArray[np.int64]) -> Moments:
        """Return these rows, in this order."""
        return Moments(self.table.take(rows), self.time_us[rows], self.label)


def read_moments(
    moments: Events, schema: EventSchema, *, label: str | None = None, **resources: Any
) -> Moments:
    """Read a table of clients and times.

    Its columns are named as the client and time columns of the events; others are ignored. In the
    labels of a MEDS data set the time is `prediction_time`.

    Args:
        moments: a path or a table, see `open_events`.
        schema: the schema of the model.
        label: the name of the table in messages; None takes its path or type.
        **resources: limits of memory and threads, see `open_events`.

    Returns:
        The rows in their order.

    Raises:
        SchemaError: a column is missing, or the time column differs in kind from that of the
            events.
        InputError: the table cannot be read or has no rows, or a client or time is null or invalid.
    """
    source = open_events(moments, client=schema.client, **resources)
    source = source if label is None else dataclasses.replace(source, label=label)
    of_meds = schema.client == "subject_id" and schema.time not in source.columns
    rows_schema = EventSchema(
        client=schema.client,
        time=_MEDS_TIME if of_meds and _MEDS_TIME in source.columns else schema.time,
        time_unit=schema.time_unit,
        time_format=schema.time_format,
        stated_zone=schema.stated_zone,
    )
    for column in (rows_schema.client, rows_schema.time):
        source.require(
            column, "Each row is a client and a moment, in columns named as those of the events."
        )
    check_columns(source, rows_schema)
    if source.columns[rows_schema.time] == "VARCHAR" and rows_schema.time_kind == "timestamp":
        found = infer_time_format(source, rows_schema.time, option="or write them as 2024-01-31")
        rows_schema = rows_schema.model_copy(update={"time_format": found})
    _check_rows(source, rows_schema)
    words = other_zone(source, rows_schema)
    if words is not None:
        warnings.warn(words, EventsWarning, stacklevel=2)
    client = ident(schema.client)
    time = ident(rows_schema.time)
    read = source.stream(
        f"SELECT {client}, {time}, {time_sql(source, rows_schema)} FROM events ORDER BY {ROW}",
        _ROWS,
    )
    table = read.read_all().rename_columns([schema.client, schema.time, "__us"])
    return Moments(table.select([0, 1]), table.column(2).to_numpy(), source.label)


def _check_rows(source: EventSource, schema: EventSchema) -> None:
    """Raise an `InputError` if a client or a moment is null, or a moment cannot be parsed."""
    found = Unusable(*source.row(f"SELECT {Unusable.sql(source, schema)} FROM events"))
    for nulls, column, what in (
        (found.no_client, schema.client, "client"),
        (found.no_time, schema.time, "time"),
    ):
        if nulls:
            label = source.label
            rows = count_words(nulls, f"row of {label} has", f"rows of {label} have")
            raise InputError(
                f"{rows} no {what} (column {column!r} is null). Drop or fix these rows."
            )
    if found.not_a_time:
        like = "2024-01-31 or 2024-01-31 12:00" if schema.time_unit == "timestamp" else "365"
        kind = "dates or timestamps" if schema.time_unit == "timestamp" else f"{schema.time_unit}s"
        raise InputError(
            f"{count_words(found.not_a_time, 'moment')} in column {schema.time!r} of "
            f"{source.label} cannot be understood, such as {found.example!r}. Expected {kind}, as "
            f"the events have: {like}."
        )


@with_own_defaults
def embed_as_of(
    model: AnyModel,
    events: Events,
    moments: Events,
    output: str | Path,
    **options: Any,
) -> tuple[int, int]:
    """Write one vector per row of `moments`, in their order: client, time, vector.

    A client without events before the time has the vector of an empty sequence.

    Args:
        model: a model folder or a `Model`.
        events: see `open_events`; or a folder of sequences prepared with this model's vocabulary.
        moments: a table with a client and a time column, in the names and formats of the events; or
            one time for all clients. One time is text such as "2024-01-31", a datetime, date or
            timestamp of Python, pandas or numpy, or, for numeric times, 365 or "365".
        output: the Parquet file to write.
        **options: layout, dtype, dim, scales, shard, device, overwrite, progress: see
            `EmbedOptions`.

    Returns:
        The number of rows and the embedding dimension.

    Raises:
        SeqmelError: the input or the output is invalid, or no client of `moments` has events.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> seqmel.embed_as_of(model, data.events, "2023-06-30", "vectors.parquet")[0]
        20
    """
    asked = EmbedOptions.of(options)
    model = as_model(model)
    output = Path(output)
    check_output(
        output,
        overwrite=asked.overwrite,
        folder=False,
        reads=(events, moments, asked.quantization_from),
    )
    how = asked.vector_layout(model)
    found = vectors_as_of(
        model,
        events,
        moments,
        output,
        shard=asked.shard,
        device=asked.device,
        progress=asked.reporter,
    )
    with atomic_write(output) as partial, found as (rows, vectors):
        write_vectors(partial, rows, vectors, how)
    return len(rows), how.dim or model.encoder.output_size


@contextlib.contextmanager
def vectors_as_of(
    model: TrainedModel,
    events: Events,
    moments: Events,
    output: Path,
    *,
    shard: Shard | None,
    device: str,
    progress: Progress,
) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
    """Yield (R, 2) clients and times, and their (R, D) vectors.

    All vectors are first computed into a temporary file beside the output.

    Args:
        model: the model.
        events: the events, as for `embed_as_of`.
        moments: one time for all clients, or a table of clients and times.
        output: the file that is being written; the vectors lie beside it meanwhile.
        shard: index and number of shards; None for all clients.
        device: where to embed.
        progress: where to report to.
    """
    one = single_moment(moments, model.schema)
    wanted = read_moments(
        moments if one is None else _every_client(model, events, one),
        model.schema,
        **model.config.resources,
    )
    if shard is not None:
        wanted = wanted.take(places_in_shard(wanted.table.column(0), shard))
    placed = resolve_device(device)
    tune_malloc()
    with scratch_folder(output) as scratch:
        shape = (len(wanted), model.encoder.output_size)
        allocate(scratch / "vectors", 4 * shape[0] * shape[1])
        vectors = map_vectors(scratch / "vectors", shape, "r+")
        embed_moments(vectors, model, events, wanted, shard=shard, device=placed, progress=progress)
        yield wanted.table, vectors


def single_moment(moments: Events, schema: EventSchema) -> dt.datetime | int | None:
    """Return the single time given as text, date or timestamp; None for a path or a table."""
    if is_moment(moments):
        if schema.time_unit != "timestamp":
            raise InputError(
                f"{moments} is a date, and the model counts time in {schema.time_unit}s. Give a "
                "whole number, as text."
            )
        said = pd.Timestamp(moments)
        naive = said.tz_convert("UTC").tz_localize(None) if said.tzinfo else said
        moment: dt.datetime = naive.to_pydatetime(warn=False)
        return moment
    if isinstance(moments, (int, np.integer)) and schema.time_unit != "timestamp":
        return int(moments)
    if not isinstance(moments, (str, os.PathLike)) or Path(moments).exists():
        return None
    with contextlib.suppress(ValueError):
        if schema.time_unit != "timestamp":
            return int(str(moments))
        said = dt.datetime.fromisoformat(str(moments))
        return said.astimezone(dt.timezone.utc).replace(tzinfo=None) if said.tzinfo else said
    if re.fullmatch(r"[-+0-9.,:/ TZ]+", str(moments)):
        example = (
            "2024-01-31 or 2024-01-31 12:00"
            if schema.time_unit == "timestamp"
            else "365, in whole numbers"
        )
        raise InputError(
            f"{str(moments)!r} is neither a moment nor an existing file. Write one such as "
            f"{example}."
        )
    return None


def moment_us(model: TrainedModel, as_of: str | dt.date | int) -> int:
    """Return a moment in microseconds, in the time scale of the model.

    Args:
        model: the model.
        as_of: a date, a timestamp, or a number if the model counts time in numbers.

    Raises:
        InputError: it is no moment.
    """
    text = as_of.isoformat() if isinstance(as_of, dt.date) else str(as_of)
    moment = single_moment(text, model.schema)
    if moment is None:
        raise InputError(f"{text!r} is not a moment. Write one such as 2024-01-31.")
    kind = pa.int64() if isinstance(moment, int) else pa.timestamp("us")
    row = pa.table({model.schema.client: [0], model.schema.time: pa.array([moment], kind)})
    return int(read_moments(row, model.schema, **model.config.resources).time_us[0])


def _every_client(model: TrainedModel, events: Events, moment: dt.datetime | int) -> pa.Table:
    """Return all clients of the events with this time, in the order of the events."""
    client = model.schema.client
    if is_prepared(events):
        ids = open_prepared(events).sequences.client_ids
    else:
        source = open_events_for(model, events)
        source.require(
            client, "The model was trained with that column; name the columns as they were then."
        )
        ids = source.stream(
            f"SELECT client FROM ({source.clients_sql(client)}) ORDER BY first", _ROWS
        ).read_all()[0]
    kind = pa.int64() if isinstance(moment, int) else pa.timestamp("us")
    return pa.table({client: ids, model.schema.time: pa.repeat(pa.scalar(moment, kind), len(ids))})


def embed_moments(
    vectors: npt.NDArray[np.float32],
    model: TrainedModel,
    events: Events,
    wanted: Moments,
    *,
    shard: Shard | None = None,
    device: torch.device,
    progress: Progress = silent,
) -> None:
    """Compute the vectors of clients and moments, in the order of the events.

    Args:
        vectors: (R, D), to write them to in the order of `wanted`.
        model: a model folder or a `Model`.
        events: see `open_events`.
        wanted: R clients and moments.
        shard: only the clients of one shard; see `embed`.
        progress: where to report progress.
        device: the device to compute on.

    Raises:
        InputError: no client has events.
    """
    vectors[:] = _of_nothing(model, device)
    ids = wanted.table.column(0).to_pandas()
    seen = np.zeros(len(wanted), bool)
    wanted_ids = None
    histories = 0
    last_us: int | None = None
    unseen = UnseenColumns(model)
    _, chunks = sequence_chunks(model, events, shard=shard)
    with progress.task("embed", len(wanted), "moments") as task:
        for sequences in chunks:
            wanted_ids = _ids_like(wanted, sequences) if wanted_ids is None else wanted_ids
            client = pd.Index(sequences.client_ids.to_pandas()).get_indexer(wanted_ids)
            rows = np.flatnonzero(client >= 0)
            seen[rows] = True
            unseen.see(sequences)
            if times := sequences.time_range():
                last_us = times[1] if last_us is None else max(last_us, times[1])
            for begin in range(0, len(rows), CHUNK_CLIENTS):
                part = rows[begin : begin + CHUNK_CLIENTS]
                known = sequences.as_of(
                    torch.from_numpy(client[part].astype(np.int64)),
                    torch.from_numpy(wanted.time_us[part]),
                )
                vectors[part] = embed_sequences(model.encoder, known, model.config, device=device)
                histories += int((known.lengths > 0).sum())
                task.advance(len(part))
    unseen.warn()
    if histories < len(wanted):
        progress.say(
            f"no event before the moment, an empty history: {len(wanted) - histories:,} of "
            f"{count_words(len(wanted), 'row')}"
        )
    if last_us is not None and (late := int((wanted.time_us > last_us + DAY_US).sum())):
        warn(
            progress,
            f"{late:,} of {count_words(len(wanted), 'moment')} are more than a day after "
            f"the last event ({time_in_words(last_us)}), so that their histories may lack what "
            "came between",
        )
    if shard is None and not seen.any():
        examples = ", ".join(repr(i) for i in ids[:3].tolist())
        raise InputError(
            f"No client of {wanted.label} has events. It has "
            f"{count_words(ids.nunique(), 'client')}, such as {examples}. Check that both name the "
            "same clients."
        )


def time_in_words(time_us: int) -> str:
    """Format a time, in microseconds since 1970 or since whatever the events count from."""
    try:
        return str(pd.Timestamp(time_us, unit="us"))
    except (ValueError, OverflowError):
        return f"{time_us:,} µs"


def _ids_like(wanted: Moments, sequences: EncodedSequences) -> pd.Series[Any]:
    """Convert ids to the id type of the events if that keeps their text, else leave them."""
    ids = wanted.table.column(0)
    with contextlib.suppress(ValueError):
        ids = ids_as(ids, sequences.client_ids.type)
    found: pd.Series[Any] = ids.to_pandas()
    return found


@torch.inference_mode()
def _of_nothing(model: TrainedModel, device: torch.device) -> npt.NDArray[np.float32]:
    """Return the vector of an empty sequence."""
    schema = model.schema
    types = {c: kind_of(schema, c).encoded_type(f) for c, f in model.vocabulary.features.items()}
    types[schema.time] = pa.int64()
    row = {model.schema.client: pa.array([0])} | {
        n: pa.array([[]], pa.list_(t)) for n, t in types.items()
    }
    empty = EncodedSequences.from_batches([pa.RecordBatch.from_pydict(row)], time=model.schema.time)
    batch = empty.gather_last(torch.tensor([0]), max_events=1).to(device)
    return np.asarray(model.encoder.to(device).eval().embed(batch)[0].float().cpu().numpy())
