"""Rhythm: the gaps between the events of a client, and the time since each category value.

What happens next, and when, depends on how long ago things were: a salary comes a month after the
last one. With the scaled logarithms g_1 .. g_m of the m gaps of a sequence, there are

    mean, standard deviation and maximum of g
    g_m, g_(m-1), g_(m-2)                                      zero for a gap that is missing
    sum_j q^(n-1-j) g_j / (1 + q + ... + q^(m-1))              q = 2^(-1/2) and 2^(-1/8) per event

and for each category value, with the seconds a from its last event to the last event of all, and u
the median gap of the training data, -ln(1 + a / u). A value that never was there has 1, away from
those that are overdue: trees then tell "long ago" from all others in one split. A sequence without
gaps, or without events, has zeros.

All are sums, maxima or copies, so summaries of an earlier and a later part can be merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import TimeScale
from seqmel.nn.events import GAP_CLIP, clipped_gaps, gap_seconds
from seqmel.nn.pooling import Summary
from seqmel.nn.segments import (
    decayed_count,
    final_rows,
    last_rows,
    merged_ago,
    merged_last_rows,
    segment_max,
    segment_sum,
    where_some,
)
from seqmel.nn.sources import Kind, latest_of_slots

__all__ = ["GAP_STATISTICS", "HALF_LIVES", "LAST_GAPS", "NEVER", "Rhythm"]

HALF_LIVES = (2.0, 8.0)
"""In events."""
LAST_GAPS = 3
NEVER = 1.0
GAP_STATISTICS = 3 + LAST_GAPS + len(HALF_LIVES)
_RATES = tuple(math.log(2) / half_life for half_life in HALF_LIVES)
_LEAST = -GAP_CLIP


class Rhythm(nn.Module):
    """Statistics of gaps, and the time since each category value: (B, output_size).

    Args:
        scale: The scale of gaps.
        slots: Categorical column, or the kinds of several event tables -> its number of codes with
            a slot. The others share that of the unseen.
    """

    def __init__(self, scale: TimeScale, slots: Mapping[Kind, int]) -> None:
        super().__init__()
        self.scale = scale
        self.slots = dict(slots)
        self.unit = max(math.expm1(scale.gap_center), 1e-3)
        """Seconds."""
        self.output_size = GAP_STATISTICS + sum(slots.values())
        self.rates: Tensor  # (half-lives,)
        self.register_buffer("rates", torch.tensor(_RATES), persistent=False)

    def gaps(self, batch: SequenceBatch) -> Tensor:
        """Return (E, 3) float32: the scaled gap before each event, whether it has one, and seconds.

        The gap of a first event is that since the previous event, if the batch knows it.
        """
        known = batch.positions() > 0
        if batch.previous_time is not None:
            before = batch.previous_time
            if not batch.is_one:
                before = before.index_select(0, batch.sequence_index)
            known = known | (before != NO_TIME)
        gap = clipped_gaps(batch, self.scale).masked_fill(~known, 0.0)
        return torch.stack([gap, known.float(), gap_seconds(batch).float()], dim=1)

    def summarise(self, gaps: Tensor, batch: SequenceBatch) -> Summary:
        """Summarise the events of each sequence, (B, ...) float32 each.

        Args:
            gaps: (E, 3), from `gaps`.
            batch: The sequences of the events.
        """
        gap, known = gaps[:, :1], gaps[:, 1:2]
        decay = torch.exp(batch.ages.unsqueeze(1) * -self.rates)
        sums = segment_sum(torch.cat([gaps, gap * decay], dim=1), batch)
        number = sums[:, 1:2]
        mean = sums[:, :1] / number.clamp(min=1)
        of_event = mean if batch.is_one else mean.index_select(0, batch.sequence_index)
        away = (gap - of_event) * known
        largest = segment_max(torch.where(known > 0, gap, _LEAST), batch)
        found = {
            "number": number,
            "mean": mean,
            "squares": segment_sum(away.square(), batch),
            "max": where_some(number, largest, torch.full_like(largest, _LEAST)),
            "last": last_rows(gap, batch, LAST_GAPS),
            "decayed": sums[:, 3:],
            "span": sums[:, 2:3],
        }
        return found | {"ago": self._ago(batch)} if self.slots else found

    def _ago(self, batch: SequenceBatch) -> Tensor:
        """Return (B, slots), seconds from the last event of each value to the last; -1 is never."""
        if not batch.events:
            return torch.full((len(batch), sum(self.slots.values())), -1.0, device=batch.device)
        kinds = self.slots.items()
        latest = torch.cat([latest_of_slots(batch, kind, slots) for kind, slots in kinds], dim=1)
        end = final_rows(batch.time, batch).unsqueeze(1)
        since = (end - batch.time[latest.clamp(min=0)]).double() / 1e6
        return since.float().masked_fill(latest < 0, -1.0)

    def read(self, summary: Summary, count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        number = summary["number"]
        some = number.clamp(min=1)
        weights = torch.cat([decayed_count(some, rate) for rate in _RATES], dim=1)
        statistics = [
            summary["mean"],
            (summary["squares"] / some).sqrt(),
            summary["max"],
            summary["last"],
            summary["decayed"] / weights,
        ]
        shown = torch.cat(statistics, dim=1)
        of_gaps = where_some(number, shown, torch.zeros_like(shown))
        if not self.slots:
            return of_gaps
        ago = summary["ago"]
        since = (-torch.log1p(ago.clamp(min=0) / self.unit)).masked_fill(ago < 0, NEVER)
        since = where_some(count, since, torch.zeros_like(since))
        return torch.cat([of_gaps, since], dim=1)

    def merge(self, earlier: Summary, later: Summary, before: Tensor, new: Tensor) -> Summary:  # noqa: ARG002 as all parts
        """Merge summaries of consecutive parts with `before` and `new` (B, 1) events."""
        number = later["number"]
        total = earlier["number"] + number
        apart = later["mean"] - earlier["mean"]
        share = number / total.clamp(min=1)
        decay = torch.exp(new * -self.rates)
        merged = {
            "number": total,
            "mean": earlier["mean"] + apart * share,
            "squares": earlier["squares"]
            + later["squares"]
            + apart.square() * earlier["number"] * share,
            "max": torch.maximum(earlier["max"], later["max"]),
            "last": merged_last_rows(earlier["last"], later["last"], number, LAST_GAPS),
            "decayed": earlier["decayed"] * decay + later["decayed"],
            "span": earlier["span"] + later["span"],
        }
        if not self.slots:
            return merged
        return merged | {"ago": merged_ago(earlier["ago"], later["ago"], later["span"])}
