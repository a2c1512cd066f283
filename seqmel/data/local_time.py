"""The local time of events, by which the calendar is read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.core.time_zones import utc_offsets
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import TimeScale

__all__ = ["LocalTime"]

_NEVER = 2**63 - 1


class LocalTime(nn.Module):
    """How far the local time of each event is from UTC, daylight saving included.

    Args:
        scale: Names the time zone of all events, or that of each table.
    """

    def __init__(self, scale: TimeScale) -> None:
        super().__init__()
        self.column = scale.zone_column if scale.zones else None
        zones = [scale.time_zone, *scale.zones.values()]
        self.is_utc = not any(zones)
        found = [utc_offsets(zone) if zone else ((), (0,)) for zone in zones]
        most = max(len(changes) for changes, _ in found)
        changes = [[*times, *[_NEVER] * (most - len(times))] for times, _ in found]
        offsets = [[*by, *by[-1:] * (most + 1 - len(by))] for _, by in found]
        place = [0] * (1 + max(scale.zones, default=0))
        for i, code in enumerate(scale.zones):
            place[code] = i + 1
        self.changes: Tensor  # (Z, T) microseconds, ascending
        self.offsets: Tensor  # (Z, T + 1) microseconds
        self.zone: Tensor  # (codes,) the zone of each table
        self.register_buffer("changes", torch.tensor(changes, dtype=torch.int64), False)
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.int64), False)
        self.register_buffer("zone", torch.tensor(place, dtype=torch.int64), False)

    def forward(self, batch: SequenceBatch) -> Tensor | None:
        """Return (E,) int64 microseconds to add to UTC; None for UTC."""
        if self.is_utc:
            return None
        if self.column is None:
            return self._of_zone(0, batch.time)
        code = batch.columns[self.column].long().clamp(max=len(self.zone) - 1)
        zone = self.zone.index_select(0, code)
        found = torch.zeros_like(batch.time)
        for i in range(len(self.changes)):
            found = torch.where(zone == i, self._of_zone(i, batch.time), found)
        return found

    def _of_zone(self, zone: int, time: Tensor) -> Tensor:
        place = torch.bucketize(time, self.changes[zone], right=True)
        return self.offsets[zone].index_select(0, place)
