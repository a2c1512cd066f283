"""Category-balanced batches: the clients of a batch are of a few segments, so that its negatives are hard.

A client's segment is its most frequent value of a categorical column, the smaller code among equals. Clients are ordered by
segment, segments and clients within them at random, and cut into runs of size / C clients; a batch is C such runs, put
together at random. So a batch holds clients of about C segments in equal shares, each client comes at most once an epoch,
and large segments come as often as they have clients. A run may lie across the border of two segments: those with fewer
clients than a run share one. It is class-balanced sampling (P classes, K of each: Hermans et al., arXiv 1703.07737) with
segments for classes and clients still the ones to be told apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.core.errors import ConfigError, did_you_mean, shown
from seqmel.data.samplers.base import Sampler
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["CategoryBalanced", "most_frequent"]

_EVENTS_AT_ONCE = 4_000_000


class CategoryBalanced(Sampler):
    """See the module's text.

    Args:
        sequences, vocabulary, clients, size: see `Sampler`.
        column: the categorical column; the first one where None.
        segments: C, runs of one segment each that make a batch; at most `size`.

    Raises:
        ConfigError: no categorical column, or none of that name.
    """

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        *,
        size: int,
        column: str | None = None,
        segments: int = 4,
    ) -> None:
        super().__init__(sequences, vocabulary, clients, size=size)
        self.runs = min(segments, size)
        chosen = _categorical(vocabulary, column)
        self.segment = most_frequent(sequences, clients, chosen, codes=vocabulary.categorical[chosen].size)

    def order(self, generator: torch.Generator) -> Tensor:
        """(len * size,) clients, one batch after the other."""
        used = torch.randperm(len(self.clients), generator=generator)[: len(self) * self.size]
        segment_rank = torch.randperm(int(self.segment.max()) + 1, generator=generator)
        used = used[torch.argsort(segment_rank[self.segment[used]], stable=True)]
        lengths = [self.size // self.runs + (run < self.size % self.runs) for run in range(self.runs)] * len(self)
        runs = torch.split(used, lengths)
        mixed = [torch.randperm(len(self), generator=generator) for _ in range(self.runs)]
        chosen = [runs[int(mixed[run][b]) * self.runs + run] for b in range(len(self)) for run in range(self.runs)]
        return self.clients[torch.cat(chosen)]


def most_frequent(sequences: EncodedSequences, clients: Tensor, column: str, *, codes: int) -> Tensor:
    """(N,) int64: of each client the most frequent code of a column, the smallest among equals; 0 where it has no event.

    Args:
        sequences, clients: whose.
        column: a categorical column.
        codes: how many codes the column has.
    """
    found, begin = torch.zeros(len(clients), dtype=torch.int64), 0
    ends = sequences.lengths[clients].cumsum(0)
    while begin < len(clients):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, before + _EVENTS_AT_ONCE, right=True)))
        some = clients[begin:end]
        owner = torch.repeat_interleave(torch.arange(len(some)), sequences.lengths[some])
        pairs, counts = torch.unique(owner * codes + sequences.values(column, some).long(), return_counts=True)
        order = torch.argsort(counts, stable=True, descending=True)
        ranked = pairs[order][torch.argsort(pairs[order] // codes, stable=True)]
        owners = ranked // codes
        first = torch.cat([torch.tensor([-1]), owners]).diff() != 0
        found[begin + owners[first]] = ranked[first] % codes
        begin = end
    return found


def _categorical(vocabulary: Vocabulary, column: str | None) -> str:
    known = list(vocabulary.categorical)
    if not known:
        raise ConfigError(
            "sampler category_balanced needs a categorical column, and the events have none. Take random."
        )
    if column is not None and column not in known:
        raise ConfigError(
            f"sampler.column: no categorical column {column!r}.{did_you_mean(column, known)} There are: {shown(known)}."
        )
    return known[0] if column is None else column
