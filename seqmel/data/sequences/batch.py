"""A batch of sequences without padding.

Flat columns of all events, and offsets of the sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["NO_TIME", "OneSequence", "SequenceBatch", "to_device_async"]

NO_TIME = -(2**63)


def to_device_async(values: Tensor, device: torch.device | str) -> Tensor:
    """Copy values to a device without waiting.

    Copies to a GPU use page-locked memory, which torch reuses. From other memory the host could
    wait for all queued work of the GPU.
    """
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


@dataclass(frozen=True)
class SequenceBatch:
    """B sequences with E events in total.

    Attributes:
        columns: Feature -> (E,) int32 codes or float32 scaled numbers.
        time: (E,) int64, microseconds.
        offsets: (B + 1,) int64. Sequence b is events offsets[b] : offsets[b + 1].
        lengths: (B,) int64 on the host, so that shapes need not be read from the device.
        previous_time: (B,) int64, microseconds, the time of the client's event before the sequence,
            or `NO_TIME` if there is none. None if sequences are independent of earlier events.
        previous_source_times: (B, S) int64, microseconds, the same for each table of events, by its
            code. None as for `previous_time`.
        now: (B,) int64, microseconds, the time as of which each sequence is embedded. None is the
            end of the training data.
        clock: (E, C) int64, microseconds, the time from which the phase of each of the `CYCLES` is
            read. None is `time`.
        is_one: Whether sums over sequences are sums over all events, see `OneSequence`.
    """

    is_one: ClassVar[bool] = False

    columns: dict[str, Tensor]
    time: Tensor
    offsets: Tensor
    lengths: Tensor
    previous_time: Tensor | None = None
    previous_source_times: Tensor | None = None
    now: Tensor | None = None
    clock: Tensor | None = None

    def __len__(self) -> int:
        return self.lengths.shape[0]  # less than half the time of len()

    @property
    def device(self) -> torch.device:
        """The device of the events."""
        return self.time.device

    @property
    def events(self) -> int:
        """E, the total number of events."""
        return self.time.shape[0]

    def to(self, device: torch.device | str) -> SequenceBatch:
        """Copy the batch to a device."""
        columns = {name: to_device_async(values, device) for name, values in self.columns.items()}
        previous, of_sources, now, clock = (
            None if x is None else to_device_async(x, device)
            for x in (self.previous_time, self.previous_source_times, self.now, self.clock)
        )
        time = to_device_async(self.time, device)
        offsets = to_device_async(self.offsets, device)
        return SequenceBatch(columns, time, offsets, self.lengths, previous, of_sources, now, clock)

    def with_shifted_clock(self, shifts: Tensor) -> SequenceBatch:
        """Read the phases of cycles from shifted times. Times and gaps do not change.

        Args:
            shifts: (B, C) int64 on the host, microseconds, for each sequence and each of the
                `CYCLES`.
        """
        moved = to_device_async(shifts, self.device).index_select(0, self.sequence_index)
        return replace(self, clock=moved.add_(self.time.unsqueeze(1)))

    @cached_property
    def counts(self) -> Tensor:
        """(B,) int64, number of events of each sequence, on the device of the events."""
        return self.offsets.diff()

    @cached_property
    def sequence_index(self) -> Tensor:
        """(E,) int64, the sequence of each event."""
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.device), self.counts, output_size=self.events
        )

    @cached_property
    def final_events(self) -> Tensor:
        """(B, 1) int64, the last event of each sequence; the event before an empty one."""
        return (self.offsets[1:] - 1).unsqueeze(1)

    @cached_property
    def first_events(self) -> Tensor:
        """int64, the first event of each non-empty sequence."""
        begins = self.lengths.cumsum(0) - self.lengths
        return to_device_async(begins[self.lengths > 0], self.device)

    @cached_property
    def _positions(self) -> Tensor:
        begins = self.offsets.index_select(0, self.sequence_index)
        return torch.arange(self.events, device=self.device) - begins

    def positions(self) -> Tensor:
        """Return (E,) int64, the position of each event within its sequence, from 0 on."""
        return self._positions

    @cached_property
    def ages(self) -> Tensor:
        """(E,) float32, the number of events after each event in its sequence."""
        return (self.counts.index_select(0, self.sequence_index) - 1 - self._positions).float()

    @cached_property
    def _computed(self) -> dict[tuple[Hashable, bool], Tensor]:
        return {}

    def once(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return what a function computes from this batch, computed once per key.

        It must not need a gradient. Tensors of inference mode are not shared with training.

        Args:
            key: names the values.
            compute: the function.
        """
        here = (key, torch.is_inference_mode_enabled())
        if here not in self._computed:
            self._computed[here] = compute()
        return self._computed[here]

    def stacked(self, names: tuple[str, ...]) -> Tensor:
        """Return (E, C), some columns side by side: int32 codes or float32 numbers."""
        return self.once(
            ("stacked", names), lambda: torch.stack([self.columns[n] for n in names], dim=1)
        )

    def codes(self, names: tuple[str, ...]) -> Tensor:
        """Return (E, C) int64, the codes of some categories."""
        return self.once(("codes", names), lambda: self.stacked(names).long())

    def every_other(self, first: int) -> SequenceBatch:
        """Return every other event of each sequence, beginning with the event at `first`, 0 or 1.

        Times of events before the sequence and shifted clocks are left out.
        """
        events = torch.nonzero(self.positions() % 2 == first).squeeze(1)
        taken = self._select(events, (self.lengths + 1 - first) // 2)
        return replace(taken, now=self.now, clock=None)

    def split(self, events: int) -> Iterator[SequenceBatch]:
        """Yield consecutive sequences, of at most so many events together or alone if longer.

        They share the memory of this batch.

        Args:
            events: Largest number of events.
        """
        ends = self.lengths.cumsum(0)
        begin = done = 0
        while begin < len(self):
            most = int(torch.searchsorted(ends, done + events, right=True))
            end = max(begin + 1, most)
            stop = int(ends[end - 1])
            yield self._consecutive(slice(begin, end), slice(done, stop))
            begin, done = end, stop

    def _consecutive(self, sequences: slice, events: slice) -> SequenceBatch:
        """Return these sequences, which have these events."""
        previous, of_sources, now = (
            None if x is None else x[sequences]
            for x in (self.previous_time, self.previous_source_times, self.now)
        )
        ends = self.offsets[sequences.start : sequences.stop + 1] - events.start
        return SequenceBatch(
            {name: values[events] for name, values in self.columns.items()},
            self.time[events],
            ends,
            self.lengths[sequences],
            previous,
            of_sources,
            now,
            None if self.clock is None else self.clock[events],
        )

    def take(self, events: Tensor) -> SequenceBatch:
        """Return these events (int64) as one sequence."""
        return self._select(events, torch.tensor([len(events)]))

    def _select(self, events: Tensor, lengths: Tensor) -> SequenceBatch:
        """Return these events as sequences of these lengths."""
        columns = {name: values.index_select(0, events) for name, values in self.columns.items()}
        ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        clock = None if self.clock is None else self.clock.index_select(0, events)
        time = self.time.index_select(0, events)
        return SequenceBatch(
            columns, time, to_device_async(ends, self.device), lengths, clock=clock
        )


class OneSequence(SequenceBatch):
    """A batch of one sequence on the CPU, with at least one event.

    Its sums need no index, which is faster for so few events. They are sums in another order, so
    vectors differ in the last bits from those of a `SequenceBatch`. Only online scoring uses it.
    """

    is_one: ClassVar[bool] = True

    @property
    def counts(self) -> Tensor:
        """(1,) int64, number of events."""
        return self.lengths

    @cached_property
    def sequence_index(self) -> Tensor:
        """(E,) int64, zeros."""
        return torch.zeros(self.events, dtype=torch.int64)

    @cached_property
    def _positions(self) -> Tensor:
        return torch.arange(self.events)

    @cached_property
    def ages(self) -> Tensor:
        """(E,) float32, the number of events after each event."""
        return torch.arange(self.events - 1, -1, -1, dtype=torch.float32)
