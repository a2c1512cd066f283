"""Encoded sequences in memory, in a memory map or on a GPU: one tensor, and an index of its events.

The format on disk is an Arrow IPC file with one row per client and list columns. The buffers of an
uncompressed Arrow file are 64-byte aligned, so the whole file can be viewed as one int32 tensor.
The values of a column in a chunk are a contiguous part of it, and so are the events of a client.
Gathering views is one index operation per column without other copies, for a memory map, memory or
a device alike.
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
        client: The name of the client column.
        client_ids: (N,) the ids, in their own type, in the order of the input.
        time: The name of the time column.
        columns: The feature columns, without the time.
        lengths: (N,) int64, number of events per client.
        moments: (N,) int64, microseconds: the moment that each sequence was cut at, by `as_of`.
            None if sequences are whole.
    """

    client: str
    client_ids: pa.ChunkedArray
    time: str
    columns: tuple[str, ...]
    lengths: Tensor
    _storage: Tensor  # the whole file as int32, on the device of the events
    _on_host: Tensor  # the same on the host, to draw views without waiting for the device
    # Column -> (chunks,) where its values begin in the storage, in elements of its own size.
    _origins: dict[str, Tensor]
    _dtypes: dict[str, torch.dtype]
    _widths: dict[str, int]  # column -> numbers per event
    _sizes: Tensor  # (chunks,) number of events of each chunk
    _chunk: Tensor  # (N,) the chunk of each client
    _start: Tensor  # (N,) the first event of each client within its chunk
    moments: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """The device of the events."""
        return self._storage.device

    @property
    def events(self) -> int:
        """Number of events of all clients."""
        return int(self.lengths.sum())

    @classmethod
    def from_batches(cls, batches: Iterable[pa.RecordBatch], *, time: str) -> EncodedSequences:
        """Hold the output of `encode` in memory."""
        sink = pa.BufferOutputStream()
        _write(sink, batches)
        return cls._of_buffer(sink.getvalue(), time)

    @classmethod
    def open(cls, path: Path, *, time: str) -> EncodedSequences:
        """Memory-map a file of `write_sequences`. It is read on use.

        Raises:
            OSError: The file does not exist or cannot be read.
            ValueError: The file has other content.
            pyarrow.ArrowException: The file is damaged.
        """
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls._of_buffer(pa.py_buffer(mapped), time)

    @classmethod
    def _of_buffer(cls, buffer: pa.Buffer, time: str) -> EncodedSequences:
        if buffer.slice(0, 6).to_pybytes() != b"ARROW1":
            raise ValueError("it does not begin like an Arrow file")
        reader = pa.ipc.open_file(pa.BufferReader(buffer))
        names = reader.schema.names
        fields = list(reader.schema)
        _check_columns(fields, time)
        chunks = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        if not chunks:
            raise ValueError("no client in it")
        for chunk in chunks:
            chunk.validate(full=True)  # finds lists that end outside their values
        values = {f.name: [_flat(c.column(f.name).values) for c in chunks] for f in fields[1:]}
        lengths = [
            torch.from_numpy(np.diff(c.column(time).offsets.to_numpy()).astype(np.int64))
            for c in chunks
        ]
        dtypes = {f.name: _DTYPES[_number_type(f.type.value_type)] for f in fields[1:]}
        widths = {f.name: getattr(f.type.value_type, "list_size", 1) for f in fields[1:]}
        storage = _as_int32(buffer)
        return cls(
            client=names[0],
            client_ids=pa.chunked_array([c.column(0) for c in chunks], fields[0].type),
            time=time,
            columns=tuple(n for n in names[1:] if n != time),
            lengths=torch.cat(lengths),
            _storage=storage,
            _on_host=storage,
            _origins={
                n: torch.tensor([_origin(v, buffer, dtypes[n]) for v in values[n]])
                for n in names[1:]
            },
            _dtypes=dtypes,
            _widths=widths,
            _sizes=torch.tensor([int(x.sum()) for x in lengths]),
            _chunk=torch.repeat_interleave(
                torch.arange(len(chunks)), torch.tensor([len(x) for x in lengths])
            ),
            _start=torch.cat([x.cumsum(0) - x for x in lengths]),
        )

    def to(self, device: torch.device | str) -> EncodedSequences:
        """Copy all events to a device. The index stays on the host, where views are drawn."""
        return replace(self, _storage=self._storage.to(device))

    def in_memory(self) -> EncodedSequences:
        """Read all sequences into memory, with each column in one chunk."""
        pieces: list[Tensor] = []
        origins: dict[str, Tensor] = {}
        at = 0
        # Large types first, so that all columns are aligned.
        for name in sorted(self._origins, key=lambda n: -self._dtypes[n].itemsize):
            values = self._storage.view(self._dtypes[name])
            step = self._dtypes[name].itemsize // 4
            sizes = self._sizes * self._widths[name]
            runs = zip(self._origins[name].tolist(), sizes.tolist(), strict=True)
            pieces += [values[origin : origin + size].view(torch.int32) for origin, size in runs]
            origins[name] = torch.tensor([at // step])
            at += step * int(sizes.sum())
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
        """Select clients (positions, int64), in this order. The events are shared, not copied."""
        return replace(
            self,
            client_ids=self.client_ids.take(pa.array(clients.numpy())),
            lengths=self.lengths[clients],
            _chunk=self._chunk[clients],
            _start=self._start[clients],
            moments=None if self.moments is None else self.moments[clients],
        )

    def as_of(self, clients: Tensor, moments: Tensor) -> EncodedSequences:
        """Select what was known of clients at a moment each: their events strictly before it.

        The events are shared, not copied. A client may occur several times.

        Args:
            clients: (R,) int64, positions of clients.
            moments: (R,) int64, microseconds.

        Returns:
            R sequences, possibly empty, which are embedded as of their moments.
        """
        lengths = self.events_before(clients, moments)
        return replace(self.subset(clients), lengths=lengths, moments=moments)

    def owners(self) -> Tensor:
        """Return (N,) int64 codes of clients: sequences that share their events have one code."""
        both = torch.stack([self._chunk, self._start], dim=1)
        codes: Tensor = torch.unique(both, dim=0, return_inverse=True)[1]
        return codes

    def events_before(self, clients: Tensor, moments: Tensor) -> Tensor:
        """Return (R,) the number of events of each client before a moment, excluding events at it.

        Args:
            clients: (R,) int64, positions of clients, not necessarily unique.
            moments: (R,) int64, microseconds.
        """
        low = torch.zeros_like(clients)
        high = self.lengths[clients]
        while len(searched := (low < high).nonzero()[:, 0]):
            middle = (low[searched] + high[searched]) // 2
            earlier = self._times_at(clients[searched], middle) < moments[searched]
            low[searched[earlier]] = middle[earlier] + 1
            high[searched[~earlier]] = middle[~earlier]
        return low

    def time_range(self) -> tuple[int, int] | None:
        """Return the times of the first and the last event, in microseconds; None if none."""
        some = (self.lengths > 0).nonzero()[:, 0]
        if not len(some):
            return None
        first = self._times_at(some, torch.zeros_like(some))
        last = self._times_at(some, self.lengths[some] - 1)
        return int(first.min()), int(last.max())

    def _times_at(self, clients: Tensor, places: Tensor) -> Tensor:
        """Return (R,) the time of one event of each client, on the host."""
        offsets = torch.arange(len(clients) + 1)
        return self._take(self._on_host, (self.time,), clients, places, offsets, None)[self.time]

    def gather(
        self, clients: Tensor, starts: Tensor, lengths: Tensor, events: Tensor | None = None
    ) -> SequenceBatch:
        """Gather a batch of S views.

        Args:
            clients: (S,) int64, positions of clients, possibly repeated.
            starts: (S,) int64, the first event of each view within its client.
            lengths: (S,) int64, number of events of each view.
            events: (sum of lengths,) int64, the events of views that are not contiguous: the
                position of each event within its client.

        Returns:
            The batch, on the device of the events.
        """
        offsets = _offsets(lengths)
        taken = self._take(
            self._storage, (self.time, *self.columns), clients, starts, offsets, events
        )
        on_device = to_device_async(offsets, self.device)
        now = None if self.moments is None else to_device_async(self.moments[clients], self.device)
        return SequenceBatch(
            {n: taken[n] for n in self.columns}, taken[self.time], on_device, lengths, now=now
        )

    def times(self, clients: Tensor) -> Tensor:
        """Return the times of all events of these clients, client by client.

        (E,) int64 on the host.
        """
        return self.values(self.time, clients)

    def values(self, name: str, clients: Tensor) -> Tensor:
        """Return a column of all events of these clients, client by client: (E,) on the host."""
        starts = torch.zeros_like(clients)
        return self._take(
            self._on_host, (name,), clients, starts, _offsets(self.lengths[clients]), None
        )[name]

    def _take(
        self,
        storage: Tensor,
        names: tuple[str, ...],
        clients: Tensor,
        starts: Tensor,
        offsets: Tensor,
        events: Tensor | None,
    ) -> dict[str, Tensor]:
        device = storage.device
        total = int(offsets[-1])
        which = torch.repeat_interleave(
            torch.arange(len(clients), device=device),
            to_device_async(offsets.diff(), device),
            output_size=total,
        )
        if events is None:
            begin = self._start[clients] + starts - offsets[:-1]
            within = torch.arange(total, device=device)
        else:
            begin = self._start[clients]
            within = to_device_async(events, device)

        def indices(begins: Tensor) -> Tensor:
            return to_device_async(begins, device).index_select(0, which).add_(within)

        chunk = self._chunk[clients]
        if len(chunk) and bool((chunk == chunk[0]).all()):  # one index is enough for all columns
            index = indices(begin)
            origins = {name: int(self._origins[name][chunk[0]]) for name in names}
            return {
                n: _rows(storage.view(self._dtypes[n])[origins[n] :], index, self._widths[n])
                for n in names
            }
        found = {}
        for n in names:
            # Where a chunk begins is counted in numbers, and `begin` in events.
            first = self._origins[n][chunk]
            width = self._widths[n]
            whole = storage.view(self._dtypes[n])
            if width == 1:
                found[n] = whole.index_select(0, indices(first + begin))
                continue
            starts = indices(begin).mul_(width) + first.to(device).index_select(0, which)
            places = starts.unsqueeze(1) + torch.arange(width, device=device)
            found[n] = whole.index_select(0, places.flatten()).view(-1, width)
        return found

    def gather_last(self, clients: Tensor, *, max_events: int) -> SequenceBatch:
        """Gather the last events of each of these clients, at most `max_events`."""
        lengths = self.lengths[clients].clamp(max=max_events)
        return self.gather(clients, self.lengths[clients] - lengths, lengths)


def _check_columns(fields: list[pa.Field], time: str) -> None:
    """Raise a `ValueError` unless these are a client, and lists of codes, numbers and times."""
    kinds = {f.name: f.type.value_type if pa.types.is_list(f.type) else None for f in fields[1:]}
    if kinds.get(time) != pa.int64() or any(
        _number_type(k) not in (pa.int32(), pa.float32()) for n, k in kinds.items() if n != time
    ):
        raise ValueError("columns that seqmel does not write")


def _number_type(kind: pa.DataType | None) -> pa.DataType | None:
    """Return the type of the numbers of an encoded value."""
    return kind.value_type if kind is not None and pa.types.is_fixed_size_list(kind) else kind


def _flat(values: pa.Array) -> pa.Array:
    """Return the numbers of encoded values, without a copy."""
    return values.flatten() if pa.types.is_fixed_size_list(values.type) else values


def _rows(values: Tensor, index: Tensor, width: int) -> Tensor:
    """Select encoded values: (E,), or (E, width) of more than one number each."""
    if width == 1:
        return values.index_select(0, index)
    return values[: len(values) // width * width].view(-1, width).index_select(0, index)


def _offsets(lengths: Tensor) -> Tensor:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return offsets


def write_sequences(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write the output of `encode` to an Arrow IPC file, batch by batch."""
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
    """View a buffer as int32 without a copy.

    Bytes after the last whole int64 belong to the footer.
    """
    with warnings.catch_warnings():
        # The tensor is never written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.frombuffer(buffer, dtype=np.int32, count=buffer.size // 8 * 2))


def _origin(values: pa.Array, buffer: pa.Buffer, dtype: torch.dtype) -> int:
    """Return where the values of a column begin in the file, in elements of their own size."""
    data = values.buffers()[1]
    address = data.address if data is not None and data.size else buffer.address
    return int((address - buffer.address) // dtype.itemsize + values.offset)
