"""Pooling: statistics of the (E, H) event vectors of each sequence, concatenated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.by_category import ByCategory
from seqmel.nn.segments import final_rows, segment_max, segment_sum, where_some

__all__ = ["POOLINGS", "Pooling", "Summary", "in_blocks", "joined", "side_by_side"]


Summary: TypeAlias = dict[str, Tensor]
"""The state of B sequences: `count` (B, 1), and what each pooling needs, each (B, ...)."""

_BLOCK_NUMBERS = 2**20  # 4 MB of states, and a few times that for intermediate results


def in_blocks(
    states: Sequence[Tensor], batch: SequenceBatch
) -> Iterator[tuple[Tensor, SequenceBatch]]:
    """Yield neighbouring sequences and their states, about `_BLOCK_NUMBERS` numbers at a time."""
    most = max(1, _BLOCK_NUMBERS // sum(part.shape[1] for part in states))
    if batch.events <= most:
        yield side_by_side(states), batch
        return
    ends = batch.lengths.cumsum(0)
    begin = 0
    while begin < len(batch):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, before + most, right=True)))
        events = slice(before, int(ends[end - 1]))
        offsets = batch.offsets[begin : end + 1] - before
        columns = {name: values[events] for name, values in batch.columns.items()}
        yield (
            side_by_side([part[events] for part in states]),
            SequenceBatch(columns, batch.time[events], offsets, batch.lengths[begin:end]),
        )
        begin = end


def joined(found: Sequence[Summary]) -> Summary:
    """Return the summary of all sequences, given those of neighbouring blocks of them."""
    if len(found) == 1:
        return found[0]
    return {name: torch.cat([summary[name] for summary in found]) for name in found[0]}


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate several (E, H_i) to (E, H)."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


POOLINGS = ("last", "mean", "max", "std", "log_sum", "attention", "category_mean")
"""Names of the ways to pool states; those of `seqmel.nn.recent` see the events themselves."""


class Pooling(nn.Module):
    """Several ways of pooling, their results side by side: (E, H) -> (B, len(names) * H).

    "log_sum" is sign(s) ln(1 + |s|) of the sum s: with "mean" beside it, it tells how many events
    there were of what. "attention" is a learned weight for each event and head of 32 numbers
    (self-attentive embedding, Lin et al., arXiv 1703.03130), "category_mean" a learned mean within
    each kind of event; the others have nothing to learn. An empty sequence gives zeros.

    Pooling goes through a summary, and summaries of the earlier and the later part of a sequence
    can be merged, so that a client's vector can be updated from its new events alone.
    """

    def __init__(
        self, names: Sequence[str], *, size: int, by_category: ByCategory | None = None
    ) -> None:
        super().__init__()
        self.names = tuple(
            name for name in names if name != "category_mean" or by_category is not None
        )
        self.by_category = by_category if "category_mean" in self.names else None
        self.sizes = [
            self.by_category.output_size if n == "category_mean" and self.by_category else size
            for n in self.names
        ]
        self.output_size = sum(self.sizes)
        which = self.names.index("category_mean") if self.by_category is not None else 0
        self.columns_by_category = (
            (sum(self.sizes[:which]), self.sizes[which]) if self.by_category is not None else (0, 0)
        )
        """First column and number of columns of `category_mean`."""
        self.heads = next(h for h in range(max(1, size // 32), 0, -1) if size % h == 0)
        self.scores = nn.Linear(size, self.heads) if "attention" in self.names else None

    def forward(self, states: Tensor | Sequence[Tensor], batch: SequenceBatch) -> Tensor:
        """Pool the events of each sequence; see `summarise`."""
        return self.read(self.summarise(states, batch))

    def summarise(self, states: Tensor | Sequence[Tensor], batch: SequenceBatch) -> Summary:
        """The summary of the events of each sequence; zeros for an empty one.

        Args:
            states: (E, H), or several such with their columns to stand side by side.
            batch: the batch of the events.
        """
        parts = [states] if isinstance(states, Tensor) else states
        if batch.device.type != "cpu" or torch.is_grad_enabled() or not batch.events:
            return self._summarise(side_by_side(parts), batch)
        return joined([self._summarise(some, extent) for some, extent in in_blocks(parts, batch)])

    def _summarise(self, states: Tensor, batch: SequenceBatch) -> Summary:
        states = states.float()
        count = batch.counts.unsqueeze(1).float()
        summary = {"count": count}
        if not {"mean", "std", "log_sum"}.isdisjoint(self.names):
            summary["mean"] = segment_sum(states, batch) / count.clamp(min=1)
        if "std" in self.names:
            # squares are least about the mean: no gradient goes through it
            mean = summary["mean"].detach()
            away = states - (mean if batch.is_one else mean.index_select(0, batch.sequence_index))
            summary["squares"] = segment_sum(away * away, batch)
        if "max" in self.names:
            summary["max"] = segment_max(states, batch)
        if "last" in self.names:
            summary["last"] = final_rows(states, batch)
        if self.by_category is not None:
            summary["kinds"] = self.by_category.summarise(states, batch)
        if self.scores is not None:
            scores = self.scores(states).float()
            summary["peak"] = segment_max(scores.detach(), batch)
            weights = (scores - summary["peak"][batch.sequence_index]).exp()
            summary["weight"] = segment_sum(weights, batch)
            weighted = states.unflatten(1, (self.heads, -1)) * weights.unsqueeze(2)
            summary["attended"] = segment_sum(weighted.flatten(1), batch)
        return summary

    def read(self, summary: Summary) -> Tensor:
        """(B, output_size): the pooled values that a summary stands for."""
        return torch.cat([self._one(name, summary) for name in self.names], dim=1)

    def _one(self, name: str, summary: Summary) -> Tensor:
        if (
            name == "std"
            # zero for a single event; the constant keeps the gradient finite where all events are
            # equal
        ):
            return (summary["squares"] / summary["count"].clamp(min=1) + 1e-6).sqrt() - 1e-3
        if name == "log_sum":
            total = summary["mean"] * summary["count"]
            return total.sign() * total.abs().log1p()
        if name == "category_mean" and self.by_category is not None:
            return self.by_category.read(summary["kinds"])
        if name == "attention":
            weight = torch.where(summary["weight"] > 0, summary["weight"], 1.0)
            return (
                summary["attended"].unflatten(1, (self.heads, -1)) / weight.unsqueeze(2)
            ).flatten(1)
        return summary[name]

    def merge(self, earlier: Summary, later: Summary) -> Summary:
        """The summary of two parts of the same sequences, one after the other.

        Means and squares as in Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for
        computing sample variances (1979); attention as running softmax (Milakov, Gimelshein, arXiv
        1805.02867).
        """
        before = earlier["count"]
        new = later["count"]
        merged = {"count": before + new}
        if "mean" in earlier:
            apart = later["mean"] - earlier["mean"]
            share = new / merged["count"].clamp(min=1)
            merged["mean"] = earlier["mean"] + apart * share
        if "squares" in earlier:
            merged["squares"] = (
                earlier["squares"] + later["squares"] + apart * apart * before * share
            )
        if "max" in earlier:
            larger = torch.maximum(earlier["max"], later["max"])
            merged["max"] = where_some(
                before, where_some(new, larger, earlier["max"]), later["max"]
            )
        if "last" in earlier:
            merged["last"] = where_some(new, later["last"], earlier["last"])
        if "kinds" in earlier:
            merged["kinds"] = earlier["kinds"] + later["kinds"]
        if "peak" in earlier:
            merged |= self._merge_attention(earlier, later)
        return merged

    def _merge_attention(self, earlier: Summary, later: Summary) -> Summary:
        before = torch.where(earlier["count"] > 0, earlier["peak"], -torch.inf)
        new = torch.where(later["count"] > 0, later["peak"], -torch.inf)
        peak = torch.maximum(before, new)
        peak = torch.where(peak.isfinite(), peak, 0.0)  # no event at all
        fade = (before - peak).exp()
        rise = (new - peak).exp()
        width = earlier["attended"].shape[1] // self.heads
        return {
            "peak": peak,
            "weight": earlier["weight"] * fade + later["weight"] * rise,
            "attended": earlier["attended"] * fade.repeat_interleave(width, dim=1)
            + later["attended"] * rise.repeat_interleave(width, dim=1),
        }
