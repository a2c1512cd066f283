"""Batch all: every triplet of the batch, up to a bound (Hermans, Beyer, Leibe, arXiv 1703.07737, equation 6)."""

from __future__ import annotations

from torch import Tensor

from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["BatchAll"]


class BatchAll(TripletMiner):
    """Every anchor with every positive and every negative; where these would be more than `max_triplets` triplets, equally many
    random negatives for each anchor, the same for all of its positives.

    Args:
        max_triplets: triplets at most, but at least one for each positive of an anchor.
        views, chunk_rows: see `Miner`.
    """

    @renamed_keywords(most="max_triplets")
    def __init__(self, *, max_triplets: int = 500_000, views: int | None = None, chunk_rows: int | None = None) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.max_triplets = max_triplets

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """(R, P * K) triplets: for each positive all embeddings with those masked that are no negatives, or some negatives."""
        rows, width = block.positives.shape
        negatives, real = block.all_negatives(max(1, self.max_triplets // max(1, block.anchors * width)))
        shape = (rows, width, negatives.shape[1])
        positives = block.positives.unsqueeze(2).expand(shape)
        there = block.there.unsqueeze(2) & real.unsqueeze(1)
        return positives.flatten(1), negatives.unsqueeze(1).expand(shape).flatten(1), there.flatten(1)
