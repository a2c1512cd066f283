"""All negatives: every pair of two clients, up to a bound."""

from __future__ import annotations

from torch import Tensor

from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["AllNegatives"]


class AllNegatives(PairMiner):
    """All negatives of each anchor; where all would be more than `most` pairs, equally many random ones of each.

    Args:
        most: pairs at most, but at least one an anchor.
        views, chunk_rows: see `Miner`.
    """

    def __init__(self, *, most: int = 500_000, views: int | None = None, chunk_rows: int | None = None) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.most = most

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """(R, K) all embeddings with those masked that are no negatives, or some negatives."""
        return block.all_negatives(max(1, self.most // block.anchors))
