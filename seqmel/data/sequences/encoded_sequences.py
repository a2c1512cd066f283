"""Encoded sequences as they lie in memory, in a memory map, or on a GPU: one tensor, and where each client's events are.

The format on disk is an Arrow IPC file with one row a client and list columns. An uncompressed Arrow file is its
buffers, 64-byte aligned, so the whole file is looked at as one int32 tensor: the values of a column in a chunk are a
run of it, a client's events a run of that. Gathering is one `take` a column, with no copy of the file in between, and
works the same whether that tensor is a memory map, memory, or on a device.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from seqmel.data.sequences.batch import SequenceBatch, to_device_async

__all__ = ["EncodedSequences", "write_sequences"]

_DTYPES = {pa.int32(): torch.int32, pa.float32(): torch.float32, pa.int64(): torch.int64}


@dataclass(frozen=True)
class EncodedSequences:
    """The encoded event sequences of N clients.

    Attributes:
        client_ids: (N,) the ids, in their own type, in the order of the input.
        lengths: (N,) int64, events a client.
        columns: the feature columns; `time` is the name of the time column, kept apart.
    """

    client: str
    client_ids: pa.ChunkedArray
    time: str
    columns: tuple[str, ...]
    lengths: Tensor
    _storage: Tensor  # the whole file as int32
    _on_host: Tensor  # the same again where the events lie on a device: what views are drawn by is read here, without waiting for it
    _origins: dict[
        str, Tensor
    ]  # column -> (chunks,) where its values begin in the storage, in elements of its own size
    _dtypes: dict[str, torch.dtype]
    _sizes: Tensor  # (chunks,) events in each
    _chunk: Tensor  # (N,)
    _start: Tensor  # (N,) first event, within the chunk

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the events lie."""
        return self._storage.device

    @property
    def events(self) -> int:
        """Events of all clients."""
        return int(self.lengths.sum())

    @classmethod
    def from_batches(cls, batches: Iterable[pa.RecordBatch], *, time: str) -> EncodedSequences:
        """Hold in memory what `encode` yields."""
        sink = pa.BufferOutputStream()
        _write(sink, batches)
        return cls._of_buffer(sink.getvalue(), time)

    @classmethod
    def open(cls, path: Path, *, time: str) -> EncodedSequences:
        """Memory-map a file that `write_sequences` wrote: opened at once, read where it is used.

        Raises:
            OSError, ValueError, pyarrow.ArrowException: it is not there, cut off, or no such file.
        """
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls._of_buffer(pa.py_buffer(mapped), time)

    @classmethod
    def _of_buffer(cls, buffer: pa.Buffer, time: str) -> EncodedSequences:
        if buffer.slice(0, 6).to_pybytes() != b"ARROW1":
            raise ValueError("its beginning is not that of an Arrow file")
        reader = pa.ipc.open_file(pa.BufferReader(buffer))
        names, fields = reader.schema.names, list(reader.schema)
        _check_columns(fields, time)
        chunks = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        if not chunks:
            raise ValueError("no client in it")
        for chunk in chunks:
            chunk.validate(full=True)  # lists that end outside their values; the values themselves are not looked at
        values = {f.name: [c.column(f.name).values for c in chunks] for f in fields[1:]}
        lengths = [torch.from_numpy(np.diff(c.column(time).offsets.to_numpy()).astype(np.int64)) for c in chunks]
        dtypes, storage = {f.name: _DTYPES[f.type.value_type] for f in fields[1:]}, _as_int32(buffer)
        return cls(
            client=names[0],
            client_ids=pa.chunked_array([c.column(0) for c in chunks], fields[0].type),
            time=time,
            columns=tuple(n for n in names[1:] if n != time),
            lengths=torch.cat(lengths),
            _storage=storage,
            _on_host=storage,
            _origins={n: torch.tensor([_origin(v, buffer, dtypes[n]) for v in values[n]]) for n in names[1:]},
            _dtypes=dtypes,
            _sizes=torch.tensor([int(x.sum()) for x in lengths]),
            _chunk=torch.repeat_interleave(torch.arange(len(chunks)), torch.tensor([len(x) for x in lengths])),
            _start=torch.cat([x.cumsum(0) - x for x in lengths]),
        )

    def to(self, device: torch.device | str) -> EncodedSequences:
        """The same sequences with all events on a device; the index stays on the host, where views are drawn."""
        return replace(self, _storage=self._storage.to(device))

    def in_memory(self) -> EncodedSequences:
        """The same sequences read into memory as a whole, each column in one piece, where they were mapped from a file."""
        pieces, origins, at = [], {}, 0
        for name in sorted(self._origins, key=lambda n: -self._dtypes[n].itemsize):  # so that each lies aligned
            values, step = self._storage.view(self._dtypes[name]), self._dtypes[name].itemsize // 4
            runs = zip(self._origins[name].tolist(), self._sizes.tolist(), strict=True)
            pieces += [values[origin : origin + size].view(torch.int32) for origin, size in runs]
            origins[name] = torch.tensor([at // step])
            at += step * int(self._sizes.sum())
        before = self._sizes.cumsum(0) - self._sizes
        storage = torch.cat([*pieces, torch.zeros(at % 2, dtype=torch.int32)])
        return replace(
            self,
            _storage=storage,
            _on_host=storage,
            _origins=origins,
            _sizes=self._sizes.sum(0, keepdim=True),
            _chunk=torch.zeros_like(self._chunk),
            _start=self._start + before[self._chunk],
        )

    def subset(self, clients: Tensor) -> EncodedSequences:
        """Only these clients (positions, int64), in this order; the events are shared, not copied."""
        return replace(
            self,
            client_ids=self.client_ids.take(pa.array(clients.numpy())),
            lengths=self.lengths[clients],
            _chunk=self._chunk[clients],
            _start=self._start[clients],
        )

    def gather(self, clients: Tensor, starts: Tensor, lengths: Tensor, events: Tensor | None = None) -> SequenceBatch:
        """A batch of S views, drawn with one index where they lie in one chunk of the file, one a column otherwise, and one `take` a column.

        Args:
            clients: (S,) int64, positions of clients; a client may come several times.
            starts: (S,) int64, first event of each run, counted within its client.
            lengths: (S,) int64, events of each view.
            events: (sum of lengths,) int64, where the views are no runs: the place of each event within its client.
        """
        offsets = _offsets(lengths)
        taken = self._take(self._storage, (self.time, *self.columns), clients, starts, offsets, events)
        on_device = to_device_async(offsets, self.device)
        return SequenceBatch({n: taken[n] for n in self.columns}, taken[self.time], on_device, lengths)

    def times(self, clients: Tensor) -> Tensor:
        """(E,) int64, microseconds, on the host: the times of all events of these clients, client after client."""
        return self.values(self.time, clients)

    def values(self, name: str, clients: Tensor) -> Tensor:
        """(E,) on the host: a column, or the times, of all events of these clients, client after client."""
        starts = torch.zeros_like(clients)
        return self._take(self._on_host, (name,), clients, starts, _offsets(self.lengths[clients]), None)[name]

    def _take(
        self,
        storage: Tensor,
        names: tuple[str, ...],
        clients: Tensor,
        starts: Tensor,
        offsets: Tensor,
        events: Tensor | None,
    ) -> dict[str, Tensor]:
        device, total = storage.device, int(offsets[-1])
        which = torch.repeat_interleave(
            torch.arange(len(clients), device=device), to_device_async(offsets.diff(), device), output_size=total
        )
        if events is None:
            begin, within = self._start[clients] + starts - offsets[:-1], torch.arange(total, device=device)
        else:
            begin, within = self._start[clients], to_device_async(events, device)

        def places(begins: Tensor) -> Tensor:
            return to_device_async(begins, device).index_select(0, which).add_(within)

        chunk = self._chunk[clients]
        if len(chunk) and bool((chunk == chunk[0]).all()):  # then one index does for all columns
            index, origins = places(begin), {name: int(self._origins[name][chunk[0]]) for name in names}
            return {n: storage.view(self._dtypes[n])[origins[n] :].index_select(0, index) for n in names}
        return {
            n: storage.view(self._dtypes[n]).index_select(0, places(self._origins[n][chunk] + begin)) for n in names
        }

    def whole(self, clients: Tensor, *, most: int) -> SequenceBatch:
        """The last `most` events of each of these clients, or all where there are fewer."""
        lengths = self.lengths[clients].clamp(max=most)
        return self.gather(clients, self.lengths[clients] - lengths, lengths)


def _check_columns(fields: list[pa.Field], time: str) -> None:
    """A `ValueError` where these are not a client and lists of codes, numbers and one of times."""
    kinds = {f.name: f.type.value_type if pa.types.is_list(f.type) else None for f in fields[1:]}
    if kinds.get(time) != pa.int64() or any(k not in (pa.int32(), pa.float32()) for n, k in kinds.items() if n != time):
        raise ValueError("other columns than seqmel writes")


def _offsets(lengths: Tensor) -> Tensor:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return offsets


def write_sequences(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write what `encode` yields to an Arrow IPC file, batch by batch."""
    with pa.OSFile(str(path), "wb") as sink:
        _write(sink, batches)


def _write(sink: pa.NativeFile, batches: Iterable[pa.RecordBatch]) -> None:
    writer = None
    for batch in batches:
        writer = writer or pa.ipc.new_file(sink, batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def _as_int32(buffer: pa.Buffer) -> Tensor:
    """The buffer itself, not a copy; up to the last whole int64, since what follows the values is the file's footer."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing here writes
        return torch.from_numpy(np.frombuffer(buffer, dtype=np.int32, count=buffer.size // 8 * 2))


def _origin(values: pa.Array, buffer: pa.Buffer, dtype: torch.dtype) -> int:
    """Where a column's values begin in the file, in elements of their own size."""
    data = values.buffers()[1]
    address = data.address if data is not None and data.size else buffer.address
    return int((address - buffer.address) // dtype.itemsize + values.offset)
