"""All negatives: every pair of two clients, up to a bound."""

from __future__ import annotations

from torch import Tensor

from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["AllNegatives"]


class AllNegatives(PairMiner):
    """All negatives of each anchor; where all would be more than `max_pairs` pairs, equally many random ones of each.

    Args:
        max_pairs: pairs at most, but at least one an anchor.
        views, chunk_rows: see `Miner`.
    """

    @renamed_keywords(most="max_pairs")
    def __init__(self, *, max_pairs: int = 500_000, views: int | None = None, chunk_rows: int | None = None) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.max_pairs = max_pairs

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """(R, K) all embeddings with those masked that are no negatives, or some negatives."""
        return block.all_negatives(max(1, self.max_pairs // block.anchors))
