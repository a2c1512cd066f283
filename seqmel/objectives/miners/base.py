"""What all miners share: they look at some anchors at a time, so that no matrix of all distances is ever held.

A miner is of one of two kinds, told apart by `gives`, which is what a loss `takes`:

    "pairs"     mine(embeddings, clients) -> (positives, negatives)    two `Pairs`
    "triplets"  mine(embeddings, clients) -> (triplets,)               `Triplets`

All positives are given to a pair loss; what is chosen are the negatives. Shapes are fixed by the shapes of the input,
what is not there is masked: mining never waits for a GPU. What is random comes from `Miner.random`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from seqmel.objectives.losses.pairs import Pairs, Triplets, cross_distances, positive_pairs, positives_of

__all__ = ["NOBODY", "Block", "Gives", "Miner", "PairMiner", "TripletMiner"]

NOBODY = -1
"""The client of an embedding that is none: it is nobody's positive or negative."""

Gives = Literal["pairs", "triplets"]

_CELLS = 2**22  # anchors times embeddings that are looked at together: 16 MB of distances, some 100 MB with the masks


@dataclass(frozen=True)
class Block:
    """R anchors against all G embeddings.

    Attributes:
        embeddings: (G, D) without gradient.
        rows: where the anchors stand among them.
        anchors: how many anchors there are in all blocks.
        positives: (R, P) int64, the other embeddings of the anchor's client, as far as they are `there`, (R, P) bool.
        negative: (R, G) bool, the embeddings of other clients.
        random: where chance comes from, see `Miner`.
    """

    embeddings: Tensor
    rows: slice
    anchors: int
    positives: Tensor
    there: Tensor
    negative: Tensor
    random: torch.Generator | None = None

    @functools.cached_property
    def apart(self) -> Tensor:
        """(R, G) squared distances."""
        return cross_distances(self.embeddings[self.rows], self.embeddings)

    @functools.cached_property
    def positives_apart(self) -> Tensor:
        """(R, P) squared distances of the positives."""
        return self.apart.gather(1, self.positives)

    def nearest_negatives(self, count: int, *, skip: int = 0) -> tuple[Tensor, Tensor]:
        """(R, count) the nearest negatives, and which of them are there.

        The `skip` nearest are passed over, but not so many that fewer than `count` would be left.
        """
        most = self.negative.shape[1]
        found = self.apart.masked_fill(~self.negative, torch.inf).topk(min(count + skip, most), dim=1, largest=False)
        available = self.negative.sum(1, keepdim=True)
        place = torch.arange(min(count, most), device=available.device) + (available - count).clamp(0, skip)
        return found.indices.gather(1, place.clamp(max=found.indices.shape[1] - 1)), place < available

    def random_negatives(self, count: int) -> tuple[Tensor, Tensor]:
        """(R, count) different random negatives, all equally likely, and which of them are there."""
        return self.weighted_negatives(torch.zeros((), device=self.negative.device), count)

    def all_negatives(self, most: int) -> tuple[Tensor, Tensor]:
        """(R, K) all embeddings and which of them are negatives; or random negatives where K has to be at most `most`."""
        if self.negative.shape[1] > most:
            return self.random_negatives(most)
        return torch.arange(self.negative.shape[1], device=self.negative.device).expand_as(self.negative), self.negative

    def weighted_negatives(self, log_weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(R, count) different negatives, drawn in proportion to weights (R, G), and which of them are there.

        The largest of the log-weights plus Gumbel noise are a draw without replacement (Vieira's trick; Efraimidis,
        Spirakis: Weighted random sampling with a reservoir, 2006).
        """
        keys = log_weights + self.gumbel(self.negative.shape)
        drawn = keys.masked_fill(~self.negative, -torch.inf).topk(min(count, self.negative.shape[1]), dim=1)
        return drawn.indices, drawn.values > -torch.inf

    def gumbel(self, shape: tuple[int, ...]) -> Tensor:
        """Standard Gumbel noise, always finite."""
        drawn = torch.empty(shape, device=self.negative.device).exponential_(generator=self.random)
        return -drawn.clamp(min=1e-30).log()


class Miner(ABC):
    """Chooses what a loss looks at.

    Args:
        views: at most so many embeddings of one client are looked at as positives; counted where None, which waits for a
            GPU.
        chunk_rows: so many anchors are looked at together; None takes as many as make a block of 4 million cells.

    Attributes:
        random: where chance comes from, on the device of the embeddings; torch's own state where None.
    """

    gives: ClassVar[Gives]

    def __init__(self, *, views: int | None = None, chunk_rows: int | None = None) -> None:
        self.views = views
        self.chunk_rows = chunk_rows
        self.random: torch.Generator | None = None

    @abstractmethod
    def mine(self, embeddings: Tensor, clients: Tensor, *, anchors: int | None = None) -> tuple[Any, ...]:
        """What a loss takes after the embeddings.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) whose they are, not negative; `NOBODY` among those that are no anchors is passed over.
            anchors: only the first so many are anchors, the others are remembered from earlier batches; all where None.
        """

    def blocks(self, embeddings: Tensor, clients: Tensor, anchors: int) -> Iterator[Block]:
        """All anchors, some at a time."""
        embeddings = embeddings.detach().float()
        positives, there = positives_of(clients, anchors=anchors, most=self.views)
        size = self.chunk_rows or max(1, _CELLS // len(clients))
        somebody = (clients != NOBODY).unsqueeze(0)
        for begin in range(0, anchors, size):
            rows = slice(begin, min(begin + size, anchors))
            negative = (clients[rows].unsqueeze(1) != clients.unsqueeze(0)) & somebody
            yield Block(embeddings, rows, anchors, positives[rows], there[rows], negative, self.random)


def _joined(parts: Iterator[tuple[Tensor, ...]], rows: int) -> tuple[Tensor, ...]:
    """The columns of all blocks, one below the other: copied into place, because small tensors that stay, each between two
    blocks, keep the large ones that were given back from being used again."""
    whole: tuple[Tensor, ...] = ()
    begin = 0
    for part in parts:
        whole = whole or tuple(column.new_empty((rows, *column.shape[1:])) for column in part)
        for into, column in zip(whole, part, strict=True):
            into[begin : begin + len(column)] = column
        begin += len(part[0])
    return whole


class PairMiner(Miner):
    """All positive pairs, and the negatives that the kind of miner chooses."""

    gives: ClassVar[Gives] = "pairs"

    @torch.no_grad()
    def mine(self, embeddings: Tensor, clients: Tensor, *, anchors: int | None = None) -> tuple[Pairs, Pairs]:
        """Positive and negative pairs; see `Miner.mine`."""
        anchors = len(clients) if anchors is None else anchors
        negatives, real = _joined(map(self.choose, self.blocks(embeddings, clients, anchors)), anchors)
        rows = torch.arange(anchors, device=clients.device).unsqueeze(1).expand_as(negatives)
        positives = positive_pairs(clients, anchors=anchors, most=self.views)
        return positives, Pairs(rows.reshape(-1), negatives.reshape(-1), real.reshape(-1))

    @abstractmethod
    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """(R, K) negatives of each anchor, and which of them are there."""


class TripletMiner(Miner):
    """The triplets that the kind of miner chooses."""

    gives: ClassVar[Gives] = "triplets"

    @torch.no_grad()
    def mine(self, embeddings: Tensor, clients: Tensor, *, anchors: int | None = None) -> tuple[Triplets]:
        """Triplets; see `Miner.mine`."""
        anchors = len(clients) if anchors is None else anchors
        positive, negative, real = _joined(map(self.choose, self.blocks(embeddings, clients, anchors)), anchors)
        rows = torch.arange(anchors, device=clients.device).unsqueeze(1).expand_as(positive)
        return (Triplets(rows.reshape(-1), positive.reshape(-1), negative.reshape(-1), real.reshape(-1)),)

    @abstractmethod
    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """(R, T) positives, negatives, and which of these triplets are there."""
