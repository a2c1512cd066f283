"""A batch of sequences without padding: flat columns of all events, and where each sequence begins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["NO_TIME", "SequenceBatch"]

NO_TIME = -(2**63)


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
    """

    columns: dict[str, Tensor]
    time: Tensor
    offsets: Tensor
    lengths: Tensor
    previous_time: Tensor | None = None
    now: Tensor | None = None

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
        columns = {name: values.to(device, non_blocking=True) for name, values in self.columns.items()}
        previous = None if self.previous_time is None else self.previous_time.to(device, non_blocking=True)
        return SequenceBatch(
            columns,
            self.time.to(device, non_blocking=True),
            self.offsets.to(device, non_blocking=True),
            self.lengths,
            previous,
            None if self.now is None else self.now.to(device, non_blocking=True),
        )

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
        return begins[self.lengths > 0].to(self.device, non_blocking=True)

    def take(self, events: Tensor) -> SequenceBatch:
        """These events (numbers, int64) as one sequence."""
        columns = {name: values.index_select(0, events) for name, values in self.columns.items()}
        ends = torch.tensor([0, len(events)])
        return SequenceBatch(
            columns, self.time.index_select(0, events), ends.to(self.device, non_blocking=True), ends[1:]
        )
