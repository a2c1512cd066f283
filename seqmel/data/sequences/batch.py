"""A batch of sequences without padding.

Flat columns of all events, and offsets of the sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["NO_TIME", "SequenceBatch", "to_device_async"]

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
    """

    columns: dict[str, Tensor]
    time: Tensor
    offsets: Tensor
    lengths: Tensor
    previous_time: Tensor | None = None
    previous_source_times: Tensor | None = None
    now: Tensor | None = None
    clock: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """The device of the events."""
        return self.time.device

    @property
    def events(self) -> int:
        """E, the total number of events."""
        return len(self.time)

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
    def sequence_index(self) -> Tensor:
        """(E,) int64, the sequence of each event."""
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.device),
            self.offsets.diff(),
            output_size=self.events,
        )

    @cached_property
    def first_events(self) -> Tensor:
        """int64, the first event of each non-empty sequence."""
        begins = self.lengths.cumsum(0) - self.lengths
        return to_device_async(begins[self.lengths > 0], self.device)

    def positions(self) -> Tensor:
        """Return (E,) int64, the position of each event within its sequence, from 0 on."""
        begins = self.offsets.index_select(0, self.sequence_index)
        return torch.arange(self.events, device=self.device) - begins

    def take(self, events: Tensor) -> SequenceBatch:
        """Return these events (int64) as one sequence."""
        columns = {name: values.index_select(0, events) for name, values in self.columns.items()}
        ends = torch.tensor([0, len(events)])
        clock = None if self.clock is None else self.clock.index_select(0, events)
        time = self.time.index_select(0, events)
        return SequenceBatch(
            columns, time, to_device_async(ends, self.device), ends[1:], clock=clock
        )
