"""How near the public holidays are to an event."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.core.units import DAY_US
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import TimeScale

__all__ = ["Holidays"]


class Holidays(nn.Module):
    """Whether the local day is a holiday, and how near the next and the last one are.

    Nearness is 1 / (1 + days), and 0 without a holiday.

    Args:
        scale: Has the holidays of all events, and those of tables with their own.

    Attributes:
        column: The category that names the table of an event; None if all have the same holidays.
        codes: The codes of the tables with their own holidays.
        output_size: 3, or 0 without holidays.
    """

    def __init__(self, scale: TimeScale) -> None:
        super().__init__()
        self.codes = tuple(scale.holidays_of)
        self.column = scale.zone_column if self.codes else None
        calendars = (scale.holidays, *scale.holidays_of.values())
        self.output_size = 3 * any(calendars)
        for i, days in enumerate(calendars):
            self.register_buffer(f"days_{i}", torch.tensor(days, dtype=torch.int64), False)

    @property
    def calendars(self) -> list[Tensor]:
        """(D,) days since 1970 for all tables, then those of each of `codes`."""
        return [self.get_buffer(f"days_{i}") for i in range(1 + len(self.codes))]

    def forward(self, batch: SequenceBatch, time: Tensor) -> Tensor:
        """Return (E, 3).

        Args:
            batch: The events.
            time: (E,) local times in microseconds.
        """
        day = torch.div(time, DAY_US, rounding_mode="floor")
        common, *own = self.calendars
        found = _near(day, common)
        if self.column is not None:
            code = batch.columns[self.column].long()
            for of, days in zip(self.codes, own, strict=True):
                found = torch.where((code == of).unsqueeze(1), _near(day, days), found)
        return found


def _near(day: Tensor, days: Tensor) -> Tensor:
    """Return (E, 3) for days (E,) and holidays (D,)."""
    last = len(days) - 1
    if last < 0:
        return day.new_zeros(len(day), 3, dtype=torch.float32)
    after = torch.bucketize(day, days)  # the first holiday from this day on
    upto = torch.bucketize(day, days, right=True) - 1
    ahead = days[after.clamp(max=last)] - day
    since = day - days[upto.clamp(min=0)]
    near = [torch.where(after <= last, 1 / (1 + ahead.abs().float()), 0.0),
            torch.where(upto >= 0, 1 / (1 + since.abs().float()), 0.0)]  # fmt: skip
    return torch.stack([(upto >= after).float(), *near], dim=1)
