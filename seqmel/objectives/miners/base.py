"""The interface of all miners, which process anchors in blocks to bound memory.

There are two kinds. `gives` names the kind, and equals what a fitting loss `takes`:

    "pairs"     mine(embeddings, clients) -> (positives, negatives)    two `Pairs`
    "triplets"  mine(embeddings, clients) -> (triplets,)               `Triplets`

A pair loss gets all positives; only negatives are chosen. Output shapes depend on input shapes
only, and what does not exist is masked. So mining never synchronises with a GPU. Random numbers
come from `Miner.random`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from seqmel.core.own_code import name_own_code
from seqmel.core.poincare_ball import PoincareBall
from seqmel.objectives.losses.pairs import (
    Pairs,
    Triplets,
    cross_distances,
    positive_pairs,
    positives_of,
)

__all__ = ["NOBODY", "Block", "Gives", "Miner", "PairMiner", "TripletMiner"]

NOBODY = -1
"""Client id of an empty memory slot; never a positive or a negative."""

Gives = Literal["pairs", "triplets"]

# Cells (anchors times embeddings) per block: 16 MB of distances, about 100 MB with masks.
_CELLS = 2**22


@dataclass(frozen=True)
class Block:
    """R anchors against all G embeddings.

    Attributes:
        embeddings: (G, D) without gradient.
        rows: the slice of the anchors among them.
        anchors: number of anchors in all blocks.
        positives: (R, P) int64, indices of the other embeddings of the anchor's client.
        there: (R, P) bool, which of the positives exist.
        negative: (R, G) bool, the embeddings of other clients.
        random: the random generator; see `Miner`.
        ball: the ball that the embeddings are points of; None for Euclidean vectors.
    """

    embeddings: Tensor
    rows: slice
    anchors: int
    positives: Tensor
    there: Tensor
    negative: Tensor
    random: torch.Generator | None = None
    ball: PoincareBall | None = None

    @functools.cached_property
    def apart(self) -> Tensor:
        """(R, G) squared distances."""
        return cross_distances(self.embeddings[self.rows], self.embeddings, ball=self.ball)

    @functools.cached_property
    def positives_apart(self) -> Tensor:
        """(R, P) squared distances of the positives."""
        return self.apart.gather(1, self.positives)

    def nearest_negatives(self, count: int, *, skip: int = 0) -> tuple[Tensor, Tensor]:
        """Return (R, count) indices of the nearest negatives, and a mask of those that exist.

        The `skip` nearest are passed over as long as `count` negatives are left.

        Args:
            count: number of negatives per anchor.
            skip: number of nearest negatives to pass over.
        """
        most = self.negative.shape[1]
        found = self.apart.masked_fill(~self.negative, torch.inf).topk(
            min(count + skip, most), dim=1, largest=False
        )
        available = self.negative.sum(1, keepdim=True)
        place = torch.arange(min(count, most), device=available.device) + (available - count).clamp(
            0, skip
        )
        return found.indices.gather(
            1, place.clamp(max=found.indices.shape[1] - 1)
        ), place < available

    def random_negatives(self, count: int) -> tuple[Tensor, Tensor]:
        """Return (R, count) uniformly drawn distinct negatives, and a mask of those that exist.

        Args:
            count: number of negatives per anchor.
        """
        return self.weighted_negatives(torch.zeros((), device=self.negative.device), count)

    def all_negatives(self, most: int) -> tuple[Tensor, Tensor]:
        """Return (R, K) embeddings and a mask of the negatives.

        If there are more than `most` embeddings, return random negatives instead, with K = `most`.

        Args:
            most: maximum number K of columns.
        """
        if self.negative.shape[1] > most:
            return self.random_negatives(most)
        return torch.arange(self.negative.shape[1], device=self.negative.device).expand_as(
            self.negative
        ), self.negative

    def weighted_negatives(self, log_weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Draw (R, count) distinct negatives in proportion to weights, and a mask.

        The largest log-weights plus Gumbel noise are a draw without replacement (Vieira's trick;
        Efraimidis, Spirakis: Weighted random sampling with a reservoir, 2006).

        Args:
            log_weights: broadcastable to (R, G).
            count: number of negatives per anchor.
        """
        keys = log_weights + self.gumbel(self.negative.shape)
        drawn = keys.masked_fill(~self.negative, -torch.inf).topk(
            min(count, self.negative.shape[1]), dim=1
        )
        return drawn.indices, drawn.values > -torch.inf

    def gumbel(self, shape: tuple[int, ...]) -> Tensor:
        """Draw standard Gumbel noise. It is always finite."""
        drawn = torch.empty(shape, device=self.negative.device).exponential_(generator=self.random)
        return -drawn.clamp(min=1e-30).log()


class Miner(ABC):
    """Base class of miners: chooses what a loss compares.

    Args:
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Attributes:
        gives: what `mine` returns.
        how: what it chooses, for the table of miners in the documentation.
        when: for which data, or for what, to choose it, for its page.
        source: where the miner was published, for the same table.
        random: the random generator, on the device of the embeddings; None uses the global state of
            torch.
        hyperbolic: whether it uses the order of distances only, so that the embeddings may be
            points of a ball.
        ball: the ball that the embeddings are points of; None for Euclidean vectors.
    """

    gives: ClassVar[Gives]
    how: ClassVar[str] = ""
    when: ClassVar[str] = ""
    source: ClassVar[str] = ""
    hyperbolic: ClassVar[bool] = True

    def __init__(self, *, views: int | None = None, chunk_rows: int | None = None) -> None:
        self.views = views
        self.chunk_rows = chunk_rows
        self.random: torch.Generator | None = None
        self.ball: PoincareBall | None = None

    @abstractmethod
    def mine(
        self,
        embeddings: Tensor,
        clients: Tensor,
        *,
        anchors: int | None = None,
        excluded: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Return the arguments that a loss takes after the embeddings.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding, not negative. After the anchors,
                `NOBODY` marks empty slots, which are ignored.
            anchors: only the first `anchors` embeddings are anchors; the others come from earlier
                batches. None makes all of them anchors.
            excluded: (A, N) bool, pairs of an anchor and another client that are no negatives. None
                excludes none.

        Returns:
            Two `Pairs` (positives, negatives), or one `Triplets`, as a tuple.
        """

    def blocks(
        self, embeddings: Tensor, clients: Tensor, anchors: int, excluded: Tensor | None = None
    ) -> Iterator[Block]:
        """Yield all anchors in blocks.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.
            anchors: number of anchors, which come first.
            excluded: (A, N) bool, pairs that are no negatives; None excludes none.
        """
        embeddings = embeddings.detach().float()
        positives, there = positives_of(clients, anchors=anchors, most=self.views)
        size = self.chunk_rows or max(1, _CELLS // len(clients))
        somebody = (clients != NOBODY).unsqueeze(0)
        for begin in range(0, anchors, size):
            rows = slice(begin, min(begin + size, anchors))
            negative = (clients[rows].unsqueeze(1) != clients.unsqueeze(0)) & somebody
            if excluded is not None:
                negative &= ~excluded[rows]
            yield Block(
                embeddings,
                rows,
                anchors,
                positives[rows],
                there[rows],
                negative,
                self.random,
                self.ball,
            )


def _joined(parts: Iterator[tuple[Tensor, ...]], rows: int) -> tuple[Tensor, ...]:
    """Concatenate the columns of all blocks, copying each block into preallocated tensors.

    Small tensors that stay alive between blocks would fragment memory: the allocator could not
    reuse the large blocks freed between them.
    """
    whole: tuple[Tensor, ...] = ()
    begin = 0
    for part in parts:
        whole = whole or tuple(column.new_empty((rows, *column.shape[1:])) for column in part)
        for into, column in zip(whole, part, strict=True):
            into[begin : begin + len(column)] = column
        begin += len(part[0])
    return whole


class PairMiner(Miner):
    """A miner of all positive pairs and chosen negatives."""

    gives: ClassVar[Gives] = "pairs"

    @torch.no_grad()
    def mine(
        self,
        embeddings: Tensor,
        clients: Tensor,
        *,
        anchors: int | None = None,
        excluded: Tensor | None = None,
    ) -> tuple[Pairs, Pairs]:
        """Return positive and negative pairs; see `Miner.mine`."""
        anchors = len(clients) if anchors is None else anchors
        with name_own_code(self, "miner"):
            negatives, real = _joined(
                map(self.choose, self.blocks(embeddings, clients, anchors, excluded)), anchors
            )
        rows = torch.arange(anchors, device=clients.device).unsqueeze(1).expand_as(negatives)
        positives = positive_pairs(clients, anchors=anchors, most=self.views)
        return positives, Pairs(rows.reshape(-1), negatives.reshape(-1), real.reshape(-1))

    @abstractmethod
    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return (R, K) negatives of each anchor, and a mask of those that exist.

        Args:
            block: R anchors.
        """


class TripletMiner(Miner):
    """A miner of triplets."""

    gives: ClassVar[Gives] = "triplets"

    @torch.no_grad()
    def mine(
        self,
        embeddings: Tensor,
        clients: Tensor,
        *,
        anchors: int | None = None,
        excluded: Tensor | None = None,
    ) -> tuple[Triplets]:
        """Return triplets; see `Miner.mine`."""
        anchors = len(clients) if anchors is None else anchors
        with name_own_code(self, "miner"):
            positive, negative, real = _joined(
                map(self.choose, self.blocks(embeddings, clients, anchors, excluded)), anchors
            )
        rows = torch.arange(anchors, device=clients.device).unsqueeze(1).expand_as(positive)
        return (
            Triplets(
                rows.reshape(-1), positive.reshape(-1), negative.reshape(-1), real.reshape(-1)
            ),
        )

    @abstractmethod
    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, T) positives, (R, T) negatives, and a mask of the triplets that exist.

        Args:
            block: R anchors.
        """
