"""The event decoder: from a vector to a distribution over the features of an event, and how likely an event is under it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_sum
from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.events import scaled_gaps

__all__ = ["EventDecoder"]

_EDGES = (-4.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
_BINS = len(_EDGES) + 2  # one below, one above all edges, and one, the first, for the missing
_HOUR, _WEEKDAY, _GAP = "time of day", "day of week", "time to next"
_SECOND_US, _HOUR_US = 1_000_000, 3_600_000_000
_LEAST_SHARE = 1 / 400  # one of a kind that is rarer still is not heard much louder
_MONDAY = 3  # 1970-01-01 was a Thursday


def _evened(kinds: Tensor, count: int) -> Tensor:
    """(E,) weights in inverse proportion to the share of an event's kind, or `_LEAST_SHARE` more; of mean 1 over all ranks."""
    counts = torch.zeros(count, dtype=torch.int64, device=kinds.device).index_add(0, kinds, torch.ones_like(kinds))
    counts = all_reduce_sum(counts.float())
    shares = counts / counts.sum().clamp(min=1)
    weights = 1 / (shares + _LEAST_SHARE)
    return (weights / (weights * shares).sum().clamp(min=1e-6))[kinds]


class EventDecoder(nn.Module):
    """Features are independent given the vector; each has its own few outputs of one small network.

    A category has a logit for each of its codes. A number has a logit for each of fourteen bins of its robust scale and
    one for the missing; a number that is scaled within a category has its expected value in each category instead. The
    time has logits for hours and weekdays, as far as the data shows them.

    Args:
        vocabulary: names the features and their sizes.
        input_size: D, width of the vectors.
        hidden_size: width of the network between.
        time: whether the time is foretold too; not where the vectors were given it.
        gap: whether the time since the event before is predicted, in the bins of a number.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        input_size: int,
        hidden_size: int = 256,
        time: bool = True,
        gap: bool = False,
    ) -> None:
        super().__init__()
        codes = {name: codes.size for name, codes in vocabulary.categorical.items()}
        by = {name: scales.by for name, scales in vocabulary.numeric.items()}
        self.categorical = tuple(codes)
        self.valued = {name: within for name, within in by.items() if within is not None}
        self.binned = tuple(name for name in by if name not in self.valued)
        self.likely = codes | dict.fromkeys(self.binned, _BINS)
        if time and not vocabulary.time.daily:
            self.likely[_HOUR] = 24
        if time and vocabulary.time.span_days >= 14:
            self.likely[_WEEKDAY] = 7
        if gap:
            self.likely[_GAP] = _BINS
        self.time_scale = vocabulary.time
        self.sizes = self.likely | {name: codes[within] for name, within in self.valued.items()}
        ends = torch.tensor([0, *self.sizes.values()]).cumsum(0)
        self.begins: Tensor  # (F,) the first output of each feature
        self.register_buffer("begins", ends[:-1], persistent=False)
        self.network = nn.Sequential(
            nn.LayerNorm(input_size), nn.Linear(input_size, hidden_size), nn.GELU(),
            nn.Linear(hidden_size, sum(self.sizes.values())),
        )  # fmt: skip
        for weights in self.network[-1].parameters():
            nn.init.zeros_(weights)  # every event is equally likely before anything is learnt
        self.edges: Tensor
        self.register_buffer("edges", torch.tensor(_EDGES), persistent=False)

    def costs(self, vectors: Tensor, rows: Tensor, events: SequenceBatch, *, gaps: Tensor | None = None) -> Tensor:
        """(E,) float32: of each event the negative log-likelihood of its features, summed, given a vector.

        For a number within a category it is the Huber loss of its expected value, nothing where it is missing, weighted so that a
        rare category counts nearly as much as a frequent one.

        Args:
            vectors: (R, D).
            rows: (E,) int64, which vector foretells which event.
            events: E events; their division into sequences does not matter.
            gaps: (E,) int64 microseconds since the event before, for a decoder with `gap`.
        """
        outputs = self.network(vectors)
        with torch.autocast(outputs.device.type, enabled=False):
            parts = zip(self.sizes, outputs.float().split(list(self.sizes.values()), dim=1), strict=True)
            table = torch.cat([part.log_softmax(1) if name in self.likely else part for name, part in parts], dim=1)
            places = (rows * table.shape[1]).unsqueeze(1) + self.begins + self._codes(events, gaps)
            found = take_rows(table.view(-1), places.view(-1)).view(places.shape)
            costs = -found[:, : len(self.likely)].sum(1)
            if self.valued:
                costs = costs + self._value_costs(found[:, len(self.likely) :], events).sum(1)
            return costs

    def _value_costs(self, expected: Tensor, events: SequenceBatch) -> Tensor:
        """(E, numbers within a category): the weighted Huber losses of their expected values."""
        numbers = torch.stack([events.columns[name] for name in self.valued], dim=1)
        kinds = dict.fromkeys(self.valued.values())  # in the same order on every rank
        weights = {by: _evened(events.columns[by].long(), self.likely[by]) for by in kinds}
        costs = F.huber_loss(expected, numbers.nan_to_num(), reduction="none").masked_fill(numbers.isnan(), 0.0)
        return costs * torch.stack([weights[by] for by in self.valued.values()], dim=1)

    def _codes(self, events: SequenceBatch, gaps: Tensor | None) -> Tensor:
        """(E, F) int64: which of the outputs of each feature is the event's."""
        codes = {name: events.columns[name].long() for name in self.categorical}
        if self.binned:
            numbers = torch.stack([events.columns[name] for name in self.binned], dim=1)
            bins = (torch.bucketize(numbers.nan_to_num(), self.edges) + 1).masked_fill(numbers.isnan(), 0)
            codes |= dict(zip(self.binned, bins.unbind(1), strict=True))
        if _HOUR in self.likely:
            codes[_HOUR] = events.time // _HOUR_US % 24
        if _WEEKDAY in self.likely:
            codes[_WEEKDAY] = (events.time // (24 * _HOUR_US) + _MONDAY) % 7
        if gaps is not None:
            scaled = scaled_gaps(gaps.abs() / _SECOND_US, self.time_scale)
            codes[_GAP] = (torch.bucketize(scaled, self.edges) + 1).masked_fill(gaps == 0, 0)
        codes |= {name: codes[by] for name, by in self.valued.items()}
        return torch.stack([codes[name] for name in self.sizes], dim=1)
