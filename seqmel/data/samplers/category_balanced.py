"""Category-balanced batches: clients of a few segments per batch, so that negatives are hard."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from seqmel.core.errors import ConfigError, did_you_mean, shown
from seqmel.data.samplers.base import Sampler
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["CategoryBalancedSampler", "most_frequent"]

_EVENTS_AT_ONCE = 4_000_000


class CategoryBalancedSampler(Sampler):
    """Batches from a few segments of clients with the same top category: harder negatives.

    The segment of a client is its most frequent value of a categorical column, the smaller code
    among equals. Clients are ordered by segment, segments and the clients within them at random,
    and cut into runs of size / C clients. A batch consists of C random runs. So a batch has clients
    of about C segments in equal numbers, each client appears at most once per epoch, and segments
    appear in proportion to their size. A run may cross the border of two segments, so small
    segments share a run.

    This is class-balanced sampling (P classes with K members each: Hermans et al., arXiv
    1703.07737) with segments as classes. The objective still distinguishes clients.

    Args:
        sequences: See `Sampler`.
        vocabulary: See `Sampler`.
        clients: See `Sampler`.
        size: See `Sampler`.
        clients_per_epoch: See `Sampler`.
        column: Categorical column; None takes the first.
        segments: Segments C per batch, at most `size`.

    Raises:
        ConfigError: There is no categorical column, or none of that name.
    """

    how: ClassVar[str] = (
        "clients of `segments` segments in equal numbers; the segment of a client is its most "
        "frequent value of the categorical `column`"
    )
    source: ClassVar[str] = "P classes, K of each: Hermans et al., 1703.07737"
    when: ClassVar[str] = (
        "clients fall into segments that are easily distinguished, so that random negatives "
        "teach little"
    )

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        *,
        size: int,
        clients_per_epoch: int | None = None,
        column: str | None = None,
        segments: Annotated[int, Field(ge=1, lt=2**31)] = 4,
    ) -> None:
        super().__init__(
            sequences, vocabulary, clients, size=size, clients_per_epoch=clients_per_epoch
        )
        self.runs = min(segments, size)
        chosen = _categorical(vocabulary, column)
        self.segment = most_frequent(
            sequences, clients, chosen, codes=vocabulary.categorical[chosen].size
        )

    def order(self, generator: torch.Generator) -> Tensor:
        """Return (len * size,) clients, batch by batch."""
        used = torch.randperm(len(self.clients), generator=generator)[: len(self) * self.size]
        segment_rank = torch.randperm(int(self.segment.max()) + 1, generator=generator)
        used = used[torch.argsort(segment_rank[self.segment[used]], stable=True)]
        lengths = [
            self.size // self.runs + (run < self.size % self.runs) for run in range(self.runs)
        ] * len(self)
        runs = torch.split(used, lengths)
        mixed = [torch.randperm(len(self), generator=generator) for _ in range(self.runs)]
        chosen = [
            runs[int(mixed[run][b]) * self.runs + run]
            for b in range(len(self))
            for run in range(self.runs)
        ]
        return self.clients[torch.cat(chosen)]


def most_frequent(
    sequences: EncodedSequences, clients: Tensor, column: str, *, codes: int
) -> Tensor:
    """Return (N,) int64, the most frequent code of a column for each client.

    Ties go to the smallest code. A client without events has code 0.

    Args:
        sequences: The sequences.
        clients: (N,) int64, positions of clients.
        column: A categorical column.
        codes: The number of codes of the column.
    """
    found = torch.zeros(len(clients), dtype=torch.int64)
    begin = 0
    ends = sequences.lengths[clients].cumsum(0)
    while begin < len(clients):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, before + _EVENTS_AT_ONCE, right=True)))
        some = clients[begin:end]
        owner = torch.repeat_interleave(torch.arange(len(some)), sequences.lengths[some])
        pairs, counts = torch.unique(
            owner * codes + sequences.values(column, some).long(), return_counts=True
        )
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
            "sampler category_balanced needs a categorical column, and the events have none. "
            "Take random."
        )
    if column is not None and column not in known:
        raise ConfigError(
            f"sampler.column: no categorical column {column!r}.{did_you_mean(column, known)} "
            f"There are: {shown(known)}."
        )
    return known[0] if column is None else column
