"""The event decoder: from a vector to a distribution over the features of an event, and how likely an event is under it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.data.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.parallel import summed
from seqmel.sums import take_cells

__all__ = ["EventDecoder"]

_EDGES = (-4.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
_BINS = len(_EDGES) + 2  # one below, one above all edges, and one, the first, for the missing
_HOUR, _WEEKDAY = "time of day", "day of week"
_HOUR_US = 3_600_000_000
_LEAST_SHARE = 1 / 400  # one of a kind that is rarer still is not heard much louder
_MONDAY = 3  # 1970-01-01 was a Thursday


def _evened(kinds: Tensor, count: int) -> Tensor:
    """(E,) weights in inverse proportion to the share of an event's kind, or `_LEAST_SHARE` more; of mean 1 over all ranks."""
    counts = torch.zeros(count, dtype=torch.int64, device=kinds.device).index_add(0, kinds, torch.ones_like(kinds))
    counts = summed(counts.float())
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
    """

    def __init__(self, vocabulary: Vocabulary, *, input_size: int, hidden_size: int = 256, time: bool = True) -> None:
        super().__init__()
        codes = {name: codes.size for name, codes in vocabulary.categorical.items()}
        self.by = {name: scales.by for name, scales in vocabulary.numeric.items()}
        self.sizes = codes | {name: codes[by] if by else _BINS for name, by in self.by.items()}
        if time and not vocabulary.time.daily:
            self.sizes[_HOUR] = 24
        if time and vocabulary.time.span_days >= 14:
            self.sizes[_WEEKDAY] = 7
        self.categorical = tuple(codes)
        self.network = nn.Sequential(
            nn.LayerNorm(input_size), nn.Linear(input_size, hidden_size), nn.GELU(),
            nn.Linear(hidden_size, sum(self.sizes.values())),
        )  # fmt: skip
        for weights in self.network[-1].parameters():
            nn.init.zeros_(weights)  # every event is equally likely before anything is learnt
        self.edges: Tensor
        self.register_buffer("edges", torch.tensor(_EDGES), persistent=False)

    def costs(self, vectors: Tensor, rows: Tensor, events: SequenceBatch) -> Tensor:
        """(E,) float32: of each event the negative log-likelihood of its features, summed, given a vector.

        For a number within a category it is the Huber loss of its expected value, nothing where it is missing, weighted so that a
        rare category counts nearly as much as a frequent one.

        Args:
            vectors: (R, D).
            rows: (E,) int64, which vector foretells which event.
            events: E events; their division into sequences does not matter.
        """
        outputs = self.network(vectors)
        with torch.autocast(outputs.device.type, enabled=False):
            parts = dict(zip(self.sizes, outputs.float().split(list(self.sizes.values()), dim=1), strict=True))
            bys = [by for by in dict.fromkeys(self.by.values()) if by is not None]  # in the same order on every rank
            weights = {by: _evened(events.columns[by].long(), self.sizes[by]) for by in bys}
            costs = [self._one(name, output, rows, events, weights) for name, output in parts.items()]
            return torch.stack(costs).sum(0)

    def _one(
        self, name: str, output: Tensor, rows: Tensor, events: SequenceBatch, weights: dict[str, Tensor]
    ) -> Tensor:
        """(E,) the cost of one feature; `weights` (E,) are those of the categories that numbers lie within."""
        by = self.by.get(name)
        if by is not None:
            number, kinds = events.columns[name], events.columns[by].long()
            cost = F.huber_loss(take_cells(output, rows, kinds), number.nan_to_num(), reduction="none")
            return cost.masked_fill(number.isnan(), 0.0) * weights[by]
        return -take_cells(output.log_softmax(1), rows, self._codes(name, events))

    def _codes(self, name: str, events: SequenceBatch) -> Tensor:
        """(E,) int64: which of the outputs of a feature is the event's."""
        if name == _HOUR:
            return events.time // _HOUR_US % 24
        if name == _WEEKDAY:
            return (events.time // (24 * _HOUR_US) + _MONDAY) % 7
        values = events.columns[name]
        if name in self.categorical:
            return values.long()
        return (torch.bucketize(values.nan_to_num(), self.edges) + 1).masked_fill(values.isnan(), 0)
