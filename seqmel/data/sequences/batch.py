"""A batch of sequences without padding: flat columns of all events, and where each sequence begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["NO_TIME", "SequenceBatch", "to_device_async"]

NO_TIME = -(2**63)


def to_device_async(values: Tensor, device: torch.device | str) -> Tensor:
    """The values on a device, whose work goes on meanwhile.

    To a GPU they go by way of page-locked memory, of which torch keeps what is given back: from any other memory the host may
    wait with them until all work before is done.
    """
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


@dataclass(frozen=True)
class SequenceBatch:
    """B sequences with E events in all.

    Attributes:
        columns: feature -> (E,) int32 codes or float32 scaled numbers.
        time: (E,) int64, microseconds.
        offsets: (B + 1,) int64; sequence b is events offsets[b] : offsets[b + 1].
        lengths: the B lengths again, on the host, so that no step has to ask the device for a shape.
        previous_time: (B,) int64, microseconds, when the client's event before the sequence was, `NO_TIME` where there
            was none; None where the sequences are looked at for themselves.
        now: (B,) int64, microseconds, the moment at which each sequence is looked at; None is the end of the training.
        clock: (E, C) int64, microseconds, the time that the phase of each of the `CYCLES` is read from; None is `time`.
    """

    columns: dict[str, Tensor]
    time: Tensor
    offsets: Tensor
    lengths: Tensor
    previous_time: Tensor | None = None
    now: Tensor | None = None
    clock: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the events lie."""
        return self.time.device

    @property
    def events(self) -> int:
        """E, the number of events in all."""
        return len(self.time)

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same batch on another device."""
        columns = {name: to_device_async(values, device) for name, values in self.columns.items()}
        previous, now, clock = (
            None if x is None else to_device_async(x, device) for x in (self.previous_time, self.now, self.clock)
        )
        time, offsets = to_device_async(self.time, device), to_device_async(self.offsets, device)
        return SequenceBatch(columns, time, offsets, self.lengths, previous, now, clock)

    def with_shifted_clock(self, shifts: Tensor) -> SequenceBatch:
        """The same batch with phases that are read from shifted times; times and gaps stay.

        Args:
            shifts: (B, C) int64 on the host, microseconds, for each sequence and each of the `CYCLES`.
        """
        moved = to_device_async(shifts, self.device).index_select(0, self.sequence_index)
        return replace(self, clock=moved.add_(self.time.unsqueeze(1)))

    @cached_property
    def sequence_index(self) -> Tensor:
        """(E,) int64: to which sequence each event belongs."""
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.device), self.offsets.diff(), output_size=self.events
        )

    @cached_property
    def first_events(self) -> Tensor:
        """int64, which event is the first of each sequence that has events."""
        begins = self.lengths.cumsum(0) - self.lengths
        return to_device_async(begins[self.lengths > 0], self.device)

    def places(self) -> Tensor:
        """(E,) int64: the place of each event within its sequence, from 0 on."""
        begins = self.offsets.index_select(0, self.sequence_index)
        return torch.arange(self.events, device=self.device) - begins

    def take(self, events: Tensor) -> SequenceBatch:
        """These events (numbers, int64) as one sequence."""
        columns = {name: values.index_select(0, events) for name, values in self.columns.items()}
        ends = torch.tensor([0, len(events)])
        clock = None if self.clock is None else self.clock.index_select(0, events)
        time = self.time.index_select(0, events)
        return SequenceBatch(columns, time, to_device_async(ends, self.device), ends[1:], clock=clock)
