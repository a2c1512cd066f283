"""Incremental updates: compute vectors from stored states and new events only.

The state of a client summarises its events up to now: what pooling and the recurrence need, about
as many numbers as the vector has. So a nightly run reads the events of one day instead of all
years, and embeds only the clients with new events. The vectors equal those of embedding all events
at once, up to rounding.

A state file is Parquet with one row per client: the id, `events`, `first_time` and `last_time`
(timestamps, null if there are no events), for several event tables `source_times` with the last
time in each, and a list column for each part of the summary. Its metadata has the fingerprint of
the model and a digest of the events of each update.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seqmel.core.atomic_files import (
    allocate,
    atomic_write,
    check_output,
    map_vectors,
    scratch_folder,
    translate_disk_full,
)
from seqmel.core.device import resolve_device, tune_malloc, with_own_defaults
from seqmel.core.errors import InputError, ModelError, shell_words
from seqmel.core.progress import Task
from seqmel.core.units import count_words
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences, write_sequences
from seqmel.data.sequences.prepared import is_prepared
from seqmel.data.sources.client_ids import ids_as
from seqmel.data.sources.reading import Events, only_clients
from seqmel.data.sources.shard import Shard
from seqmel.data.sources.source import EventSource
from seqmel.data.tables.vector_files import VectorLayout, write_vectors
from seqmel.inference.embed import finite, map_batches, no_sequences, open_events_for, token_batches
from seqmel.inference.options import EmbedOptions
from seqmel.inference.unseen import UnseenColumns
from seqmel.model import AnyModel, TrainedModel, as_model
from seqmel.nn.pooling import Summary
from seqmel.nn.profile import first_and_last
from seqmel.nn.sources import last_by_source

__all__ = ["Updated", "read_states", "update_embeddings"]

FORMAT = 2
_TIME = pa.timestamp("us")
_META = b"seqmel"
_SOURCE_TIMES = "source_times"
_ROWS = 8_192
_MOST_UPDATES = 4_096  # Maximum number of updates with a stored digest.
# Derived from the golden ratio, as in splitmix.
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True)
class Updated:
    """The result of an update.

    Attributes:
        clients: number of clients with events, which have a row in the output.
        new: number of these that were not in the state before.
        known: number of clients in the state after the update.
        dimensions: embedding dimension.
        recomputed: number of `clients` with late events, earlier than their last one, that were
            recomputed from the history.
        skipped: ids of the clients that were left unchanged, because they have late events and no
            full history.
    """

    clients: int
    new: int
    known: int
    dimensions: int
    recomputed: int = 0
    skipped: tuple[Any, ...] = ()

    @property
    def words(self) -> str:
        """A message about clients with late events; empty if there are none."""
        again = (
            f"computed anew: {count_words(self.recomputed, 'client')} with late events, from "
            "the history"
            if self.recomputed
            else ""
        )
        if not self.skipped:
            return again
        first = ", ".join(map(repr, self.skipped[:3]))
        more = f" and {len(self.skipped) - 3:,} more" if len(self.skipped) > 3 else ""
        left = (
            f"{count_words(len(self.skipped), 'client was', 'clients were')} skipped, since they "
            f"have events earlier than their last one ({first}{more}); their vectors are those of "
            "before. Give their whole history to compute them anew (--history EVENTS)"
        )
        return f"{again}; {left}" if again else left


@dataclass(frozen=True)
class _State:
    """The states of n clients.

    Attributes:
        ids: (n,) client ids.
        events: (n,) number of events.
        first_time, last_time: (n,) int64 microseconds, `NO_TIME` without events.
        source_times: (n, S) int64 microseconds, the last event of each of several tables by its
            code, or `NO_TIME`. S is 0 for one table.
        summary: what pooling and the recurrence need.
    """

    ids: pa.Array
    events: Tensor
    first_time: Tensor
    last_time: Tensor
    source_times: Tensor
    summary: Summary

    def take(self, rows: Tensor) -> _State:
        summary = {name: values[rows] for name, values in self.summary.items()}
        ids = self.ids.take(pa.array(rows.numpy()))
        first = self.first_time[rows]
        last = self.last_time[rows]
        return _State(ids, self.events[rows], first, last, self.source_times[rows], summary)

    def put(self, rows: Tensor, other: _State) -> None:
        self.events[rows] = other.events
        self.first_time[rows], self.last_time[rows] = other.first_time, other.last_time
        self.source_times[rows] = other.source_times
        for name, values in other.summary.items():
            self.summary[name][rows] = values


@with_own_defaults
def update_embeddings(
    model: AnyModel,
    events: Events,
    state: str | Path,
    output: str | Path,
    *,
    history: Events | None = None,
    skipped: str | Path | None = None,
    **options: Any,
) -> Updated:
    """Update the state with new events, and write the vectors of the clients with new events.

    A client with late events, earlier than its last one, cannot be updated from its state. It is
    recomputed if its `history` is given. Otherwise it is skipped and keeps its state; other clients
    are updated.

    The output is written first and the state last, both atomically. After a crash, run the same
    command again, with `overwrite` if the output exists. No event is counted twice.

    Args:
        model: a model folder or a `Model`, with encoder none, gru or lstm.
        events: the events since the last update; see `open_events`. All events if there is no state
            yet.
        state: the state file to update; it is created if it does not exist.
        output: the Parquet file to write.
        history: all events up to now, including the new ones. It is used only for clients with late
            events. A client is skipped if its history has fewer events than the state and the new
            events together.
        skipped: a Parquet file to write the ids of skipped clients to; None writes none.
        **options: layout, dtype, dim, scales, shard, device, overwrite, progress: see
            `EmbedOptions`. Each shard needs its own state.

    Returns:
        The numbers of clients with events, of new clients, and of clients in the state; see
        `Updated`.

    Raises:
        ModelError: the encoder is a Transformer, or the state belongs to another model.
        ConfigError: the shard index is out of range.
        InputError: the state belongs to another shard; the events cannot be read; they are those of
            an earlier update and no history is given; or their ids cannot be converted to the id
            type of the state.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> done = seqmel.update_embeddings(model, data.events, "state.parquet", "vectors.parquet")
        >>> done.new, done.known
        (20, 20)
    """
    asked = EmbedOptions.of(options)
    model = as_model(model)
    state = Path(state)
    output = Path(output)
    check_output(output, overwrite=asked.overwrite, folder=False, reads=(events, state, history))
    check_output(state, overwrite=True, folder=False, reads=(events, history))
    if skipped is not None:
        check_output(
            Path(skipped), overwrite=asked.overwrite, folder=False, reads=(events, state, history)
        )
    how = asked.vector_layout(model)
    shard = asked.shard
    if is_prepared(events) or is_prepared(history):
        raise InputError(
            f"{events} is a folder of prepared sequences. An update takes the events themselves."
        )
    placed = resolve_device(asked.device)
    tune_malloc()
    with scratch_folder(output) as scratch:
        source = open_events_for(model, events, scratch, empty=True, new=True)
        if source.is_empty:
            return _nothing_new(model, source, state, output, how, shard)
        with atomic_write(state) as new_state, atomic_write(output) as partial:
            kept = _kept(state, model, shard)
            sequences = _encoded(model, source, scratch / "new.arrow", shard)
            sequences = sequences if kept is None else _with_ids_of(kept, sequences, state)
            unseen = UnseenColumns(model)
            unseen.see(sequences)
            seen, again = _seen_with(
                kept, _digest(scratch / "new.arrow"), state, history=history is not None
            )
            late = _late(sequences, state, all_known=again) if kept is not None else _NOBODY
            anew = (
                _history_of(model, history, sequences, late, scratch, shard)
                if len(late.rows)
                else None
            )
            usable = np.ones(len(sequences), np.bool_)
            usable[late.rows] = late.enough(anew, sequences, again=again)
            left = sequences.client_ids.filter(pa.array(~usable)).to_pylist()
            sequences = sequences.subset(torch.from_numpy(np.flatnonzero(usable)))
            shape = (len(sequences), model.encoder.output_size)
            allocate(scratch / "vectors", 4 * shape[0] * shape[1])
            vectors = (
                map_vectors(scratch / "vectors", shape, "r+")
                if len(sequences)
                else np.empty(shape, np.float32)
            )
            run = _Update(model, sequences, vectors, placed, shard, seen, anew)
            with (
                asked.reporter.task("update", len(sequences), "clients") as task,
                translate_disk_full(state),
            ):
                known = run.write(new_state, state, task)
            keys = pa.table({model.schema.client: sequences.client_ids})
            write_vectors(partial, keys, vectors, how)
            if skipped is not None:
                ids = pa.table({model.schema.client: pa.array(left, sequences.client_ids.type)})
                with atomic_write(Path(skipped)) as listed:
                    pq.write_table(ids, listed)
    dimensions = how.dim or model.encoder.output_size
    unseen.warn()
    done = Updated(len(sequences), run.new, known, dimensions, run.recomputed, tuple(left))
    if done.words:
        asked.reporter.say(done.words)
    return done


@dataclass(frozen=True)
class _Late:
    """Clients of the new events with later events in the state.

    Attributes:
        rows: (L,) their positions among the new sequences.
        events: (L,) their numbers of events in the state.
    """

    rows: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]

    def enough(
        self, anew: EncodedSequences | None, sequences: EncodedSequences, *, again: bool
    ) -> npt.NDArray[np.bool_]:
        """Return (L,) whether the history has all events of the state and of the new events."""
        if anew is None:
            return np.zeros(len(self.rows), np.bool_)
        ids = sequences.client_ids.take(pa.array(self.rows)).to_pandas()
        place = pd.Index(anew.client_ids.to_pandas()).get_indexer(ids)
        there = (
            np.where(place >= 0, anew.lengths.numpy()[place], 0)
            if len(anew)
            else np.zeros(len(ids), np.int64)
        )
        new = 0 if again else sequences.lengths.numpy()[self.rows]
        return np.asarray((there > 0) & (there >= self.events + new))


_NOBODY = _Late(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _late(sequences: EncodedSequences, state: Path, *, all_known: bool) -> _Late:
    """Return the clients with late events: before the last one in the state.

    Args:
        sequences: the new events.
        state: the state file.
        all_known: the state has already counted these events, so every client in it is late.
    """
    some = (sequences.lengths > 0).nonzero()[:, 0]
    first = torch.full((len(sequences),), 2**63 - 1)
    zeros = torch.zeros(len(some), dtype=torch.int64)
    first[some] = sequences.gather(some, zeros, zeros + 1).time if len(some) else zeros
    places = pd.Index(sequences.client_ids.to_pandas())
    rows = [np.zeros(0, np.int64)]
    events = [np.zeros(0, np.int64)]
    with pq.ParquetFile(state) as file:
        names = file.schema_arrow.names
        for batch in file.iter_batches(_ROWS, columns=[names[0], "events", "last_time"]):
            row = places.get_indexer(batch.column(0).to_pandas())
            last = _micros(batch.column("last_time")).numpy()
            late = (row >= 0) & (all_known | (first.numpy()[row] < last))
            rows.append(row[late].astype(np.int64))
            events.append(batch.column("events").to_numpy()[late])
    return _Late(np.concatenate(rows), np.concatenate(events))


def _history_of(
    model: TrainedModel,
    history: Events | None,
    sequences: EncodedSequences,
    late: _Late,
    folder: Path,
    shard: Shard | None,
) -> EncodedSequences | None:
    """Return all events of the late clients, with ids of the new events; None without history."""
    if history is None:
        return None
    source = open_events_for(model, history, folder)
    wanted = pa.table({"id": sequences.client_ids.take(pa.array(late.rows))})
    found = _encoded(
        model, only_clients(source, model.schema.client, wanted), folder / "history.arrow", shard
    )
    try:
        return replace(found, client_ids=ids_as(found.client_ids, sequences.client_ids.type))
    except ValueError:
        return found


def _nothing_new(
    model: TrainedModel,
    source: EventSource,
    state: Path,
    output: Path,
    how: VectorLayout,
    shard: Shard | None,
) -> Updated:
    """Write an output without rows, and leave the state unchanged."""
    kept = _kept(state, model, shard)
    keys = pa.table({model.schema.client: no_sequences(source, model).client_ids})
    if kept is not None:
        keys = keys.cast(pa.schema([pa.field(model.schema.client, kept.field(0).type)]))
    size = model.encoder.output_size
    with atomic_write(output) as partial:
        write_vectors(partial, keys, np.empty((0, size), np.float32), how)
    known = pq.ParquetFile(state).metadata.num_rows if kept is not None else 0
    return Updated(0, 0, known, how.dim or size)


def _encoded(
    model: TrainedModel, source: EventSource, path: Path, shard: Shard | None
) -> EncodedSequences:
    """Encode events to a file. Their clients are needed in the order of the state."""
    write_sequences(path, encode(source, model.schema, model.vocabulary, shard=shard))
    return EncodedSequences.open(path, time=model.schema.time)


class _Update:
    """One pass over the old state, then over the clients that are not in it."""

    def __init__(
        self,
        model: TrainedModel,
        sequences: EncodedSequences,
        vectors: npt.NDArray[np.float32],
        device: torch.device,
        shard: Shard | None,
        seen: list[str],
        anew: EncodedSequences | None = None,
    ) -> None:
        self.model = model
        self.encoder = model.encoder.to(device).eval()
        self.sequences = sequences
        self.vectors = vectors
        self.device = device
        self.share = _share(shard)
        self.seen = seen
        self.places = pd.Index(sequences.client_ids.to_pandas())
        self.new = self.recomputed = 0
        self.anew: _Update | None = None
        if anew is not None:
            size = (len(anew), model.encoder.output_size)
            self.anew = _Update(model, anew, np.empty(size, np.float32), device, shard, seen)

    def write(self, path: Path, before: Path, task: Task) -> int:
        """Write the new state, and return its number of clients."""
        pending = np.ones(len(self.sequences), bool)
        known = 0
        nothing = self._advanced(
            self._fresh(torch.empty(0, dtype=torch.int64)), torch.empty(0, dtype=torch.int64)
        )
        meta: dict[str, Any] = {
            "format": FORMAT,
            "model": self.model.fingerprint(),
            "updates": self.seen,
        }
        meta |= {"shard": self.share} if self.share else {}
        schema = _table(self.model.schema.client, nothing).schema.with_metadata(
            {_META: json.dumps(meta).encode()}
        )
        with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
            for state in _read(before, schema):
                place = self.places.get_indexer(state.ids.to_pandas())
                late = self._compute_anew(state, place)
                rows = torch.from_numpy(np.flatnonzero((place >= 0) & ~late))
                clients = place[rows.numpy()].astype(np.int64)
                state.put(rows, self._advanced(state.take(rows), torch.from_numpy(clients)))
                pending[place[place >= 0]] = False
                known += self._put(writer, state, schema, int((place >= 0).sum()), task)
            for part in torch.split(torch.from_numpy(np.flatnonzero(pending)), _ROWS):
                self.new += len(part)
                known += self._put(
                    writer, self._advanced(self._fresh(part), part), schema, len(part), task
                )
        return known

    def _compute_anew(self, state: _State, place: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Replace states of late clients by those of their history; return an (n,) mask of them.

        `place` has the position of each client among the new sequences.
        """
        if self.anew is None:
            return np.zeros(len(place), np.bool_)
        there = self.anew.places.get_indexer(state.ids.to_pandas())
        late: npt.NDArray[np.bool_] = (place >= 0) & (there >= 0)
        rows = torch.from_numpy(np.flatnonzero(late))
        clients = torch.from_numpy(there[late].astype(np.int64))
        if len(rows):
            state.put(rows, self.anew._advanced(self.anew._fresh(clients), clients))
            self.vectors[place[late]] = self.anew.vectors[clients.numpy()]
            self.recomputed += len(rows)
        return late

    def _put(
        self, writer: pq.ParquetWriter, state: _State, schema: pa.Schema, changed: int, task: Task
    ) -> int:
        writer.write_table(_table(self.model.schema.client, state).cast(schema))
        task.advance(changed)
        return len(state.events)

    def _fresh(self, clients: Tensor) -> _State:
        """Return empty states for new clients."""
        n = len(clients)
        ids = self.sequences.subset(clients).client_ids.combine_chunks()
        return _State(
            ids,
            torch.zeros(n, dtype=torch.int64),
            torch.full((n,), NO_TIME),
            torch.full((n,), NO_TIME),
            torch.full((n, self._sources), NO_TIME),
            {},
        )

    @property
    def _sources(self) -> int:
        """The number of codes of several tables; 0 for one table."""
        vocabulary = self.model.vocabulary
        return 0 if vocabulary.source is None else vocabulary.categorical[vocabulary.source].size

    @torch.inference_mode()
    def _advanced(self, state: _State, clients: Tensor) -> _State:
        """Return the states after the new events of these clients, and store their vectors."""
        lengths = self.sequences.lengths[clients]
        some = len(clients) > 0
        batches = token_batches(lengths, self.model.config.events_at_a_time) if some else [clients]

        def part_of(rows: Tensor) -> Summary:
            starts = torch.zeros(len(rows), dtype=torch.int64)
            batch = self.sequences.gather(clients[rows], starts, lengths[rows])
            batch = replace(batch, previous_time=state.last_time[rows])
            if self._sources:
                batch = replace(batch, previous_source_times=state.source_times[rows])
            batch = batch.to(self.device)
            old = {name: values[rows].to(self.device) for name, values in state.summary.items()}
            summary = self.encoder.advance(batch, old or None)
            first, last = self._times(state, rows, batch)
            known = [torch.where(x == NO_TIME, 0, x).to(self.device) for x in (first, last)]
            self.vectors[clients[rows].numpy()] = finite(
                self.encoder.read(summary, *known).float().cpu()
            ).numpy()
            times = torch.column_stack([first, last, self._source_times(state, rows, batch)])
            return {name: values.float().cpu() for name, values in summary.items()} | {"": times}

        found = map_batches(part_of, batches, self.encoder, device=self.device)
        order, parts = zip(*found, strict=True)
        back = torch.argsort(torch.cat(order))
        merged = {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}
        times = merged.pop("")
        first, last, sources = (x.contiguous() for x in (times[:, 0], times[:, 1], times[:, 2:]))
        return _State(state.ids, state.events + lengths, first, last, sources, merged)

    def _source_times(self, state: _State, rows: Tensor, batch: SequenceBatch) -> Tensor:
        """Return (n, S), the last event of each table with new events."""
        source = self.model.vocabulary.source
        if source is None:
            return state.source_times[rows]
        new = last_by_source(batch, source, self._sources).cpu()
        return torch.maximum(state.source_times[rows], new)

    @staticmethod
    def _times(state: _State, rows: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return first and last time of these clients, with new events; NO_TIME without any."""
        new_first, new_last = (x.cpu() for x in first_and_last(batch))
        some = batch.lengths > 0
        old = state.first_time[rows]
        first = torch.where(some & (old == NO_TIME), new_first, old)
        return first, torch.where(some, new_last, state.last_time[rows])


def _kept(
    path: Path, model: TrainedModel, shard: Shard | None, *, any_shard: bool = False
) -> pa.Schema | None:
    """Return the columns of the state file, checked to be of this model and shard.

    It is None if the file does not exist.
    """
    if not path.exists():
        return None
    try:
        schema = pq.read_schema(path)
        meta = json.loads(schema.metadata[_META])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path} is not a state that seqmel wrote. Name another file to begin a new one."
        ) from None
    if meta["format"] > FORMAT:
        raise InputError(
            f"{path} has state format {meta['format']}; this version reads up to {FORMAT}. Update "
            "seqmel."
        )
    if meta["model"] != model.fingerprint():
        raise ModelError(
            f"The state in {path} belongs to another model. Begin a new one with all events."
        )
    if not any_shard and meta.get("shard") != _share(shard):
        has, asked = (
            f"the clients of shard {x}" if x else "all clients"
            for x in (meta.get("shard"), _share(shard))
        )
        raise InputError(
            f"The state in {path} is of {has}, and {asked} were requested. Each shard has a state "
            "of its own."
        )
    return schema


def _digest(path: Path) -> str:
    """Return a digest of encoded events that is independent of their order.

    It is the sum over events of a hash of client and values.
    """
    total = np.zeros(1, np.uint64)
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            ids, *columns = reader.get_batch(number).columns
            clients = pd.util.hash_array(ids.to_pandas().astype(str).to_numpy(object))
            mixed = (
                np.repeat(clients, np.diff(columns[0].offsets.to_numpy())) if columns else clients
            )
            for column in columns:
                for values in _numbers_of(column.values):
                    mixed = (mixed ^ values.view(f"u{values.itemsize}").astype(np.uint64)) * _MIX
                    mixed ^= mixed >> _SHIFT
            total += mixed.sum(dtype=np.uint64)
    return f"{int(total[0]):016x}"


def _numbers_of(values: pa.Array) -> list[npt.NDArray[Any]]:
    """Return the numbers of (E,) encoded values: one array of (E,), or several of a wide kind."""
    if not pa.types.is_fixed_size_list(values.type):
        return [values.to_numpy(zero_copy_only=False)]
    flat = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
    return [np.ascontiguousarray(column) for column in flat.T]


def _seen_with(
    kept: pa.Schema | None, new: str, path: Path, *, history: bool
) -> tuple[list[str], bool]:
    """Return the digests of all updates, this one last, and whether it occurred before.

    Comparing times would miss a repeated update if times are whole days.

    Raises:
        InputError: it occurred before, and there is no history to recompute its clients from.
    """
    seen: list[str] = (
        json.loads(kept.metadata[_META]).get("updates", []) if kept is not None else []
    )
    if new in seen and not history:
        raise InputError(
            f"The state in {path} has seen just these events in an earlier update. Give only the "
            "events since the last one."
        )
    return (seen if new in seen else [*seen, new][-_MOST_UPDATES:]), new in seen


def _share(shard: Shard | None) -> str | None:
    return "/".join(map(str, shard)) if shard else None


def _with_ids_of(kept: pa.Schema, sequences: EncodedSequences, path: Path) -> EncodedSequences:
    """Convert the ids of the new events to the id type of the state.

    CSV ids of one day may look like numbers, and those of another may not.
    """
    kind = kept.field(0).type
    try:
        return replace(sequences, client_ids=ids_as(sequences.client_ids, kind))
    except ValueError as error:
        raise InputError(
            f"The state in {path} has client ids of type {kind}, and {error.args[0]!r} of the new "
            "events is none. Write the ids as they were, or begin a new state with all events."
        ) from None


def read_states(
    path: str | Path, model: TrainedModel, clients: Sequence[Any]
) -> Iterator[tuple[Any, _State]]:
    """Yield each of these clients that a state file holds, with its state.

    Args:
        path: the state file.
        model: the model of the states.
        clients: ids, of the type in the file.

    Raises:
        InputError: the file does not exist or holds no states.
        ModelError: it is of another model.
    """
    path = Path(path)
    wanted = set(clients)
    if not path.is_file():
        raise InputError(
            f"No state file at {path}. Write one: seqmel embed --state {shell_words(path)}"
        )
    _kept(path, model, None, any_shard=True)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS):
            ids = batch.column(0).to_pylist()
            rows = [row for row, one in enumerate(ids) if one in wanted]
            state = _state_of(batch.take(pa.array(rows, pa.int64())))
            for place, row in enumerate(rows):
                yield ids[row], state.take(torch.tensor([place]))


def _read(path: Path, schema: pa.Schema) -> Iterator[_State]:
    if not path.exists():
        return
    with pq.ParquetFile(path) as file:
        if not _of_this_format(file.schema_arrow).equals(schema):
            raise InputError(
                f"{path} has other columns than a state of this model. Begin a new one with all "
                "events."
            )
        for batch in file.iter_batches(_ROWS):
            yield _state_of(batch)


def _of_this_format(schema: pa.Schema) -> pa.Schema:
    """Convert a schema of format 1, which had microseconds instead of timestamps."""
    for name in ("first_time", "last_time"):
        place = schema.get_field_index(name)
        if place > 0 and schema.field(place).type == pa.int64():
            schema = schema.set(place, schema.field(place).with_type(_TIME))
    return schema


def _micros(times: pa.Array) -> Tensor:
    """Return (n,) int64 microseconds of a time column of a state; NO_TIME if null."""
    return torch.from_numpy(times.cast(pa.int64()).fill_null(NO_TIME).to_numpy().copy())


def _timestamps(micros: Tensor) -> pa.Array:
    return pa.array(micros.numpy(), mask=(micros == NO_TIME).numpy()).cast(_TIME)


def _lists(values: pa.Array, width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(values, width)


def _table(client: str, state: _State) -> pa.Table:
    numbers = {
        "events": pa.array(state.events.numpy()),
        "first_time": _timestamps(state.first_time),
        "last_time": _timestamps(state.last_time),
    }
    if state.source_times.shape[1]:
        flat = _timestamps(state.source_times.flatten())
        numbers[_SOURCE_TIMES] = _lists(flat, state.source_times.shape[1])
    # Only its position is used.
    client = f"client {client}" if client in numbers or client.startswith("state_") else client
    columns = {client: state.ids} | numbers
    for name, values in state.summary.items():
        if name != "count":
            flat = pa.array(np.ascontiguousarray(values.numpy()).reshape(-1))
            columns[f"state_{name}"] = _lists(flat, values.shape[1])
    return pa.table(columns)


def _state_of(batch: pa.RecordBatch) -> _State:
    events = torch.from_numpy(batch.column(1).to_numpy().copy())
    first = _micros(batch.column(2))
    last = _micros(batch.column(3))
    summary = {"count": events.unsqueeze(1).float()}
    sources = torch.empty(len(events), 0, dtype=torch.int64)
    for name, column in zip(batch.schema.names[4:], batch.columns[4:], strict=True):
        width = column.type.list_size
        if name == _SOURCE_TIMES:
            sources = _micros(column.flatten()).view(-1, width)
            continue
        summary[name.removeprefix("state_")] = torch.from_numpy(
            column.flatten().to_numpy().reshape(-1, width).copy()
        )
    return _State(batch.column(0), events, first, last, sources, summary)
