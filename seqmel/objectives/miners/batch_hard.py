"""Batch hard: for each anchor its farthest positive and its nearest negative.

Hermans, Beyer, Leibe: In defense of the triplet loss (arXiv 1703.07737, equation 5). At the beginning it can draw all
embeddings to one point; a larger batch makes it harder still.
"""

from __future__ import annotations

from torch import Tensor

from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["BatchHard"]


class BatchHard(TripletMiner):
    """One triplet an anchor, the hardest; none where it has no positive or no negative.

    Args:
        skip_hardest: the very nearest negatives are passed over, as far as one is left: they may be the same person twice.
        views, chunk_rows: see `Miner`.
    """

    @renamed_keywords(skip="skip_hardest")
    def __init__(self, *, skip_hardest: int = 0, views: int | None = None, chunk_rows: int | None = None) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.skip_hardest = skip_hardest

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """(R, 1) triplets."""
        which = block.positives_apart.masked_fill(~block.there, -1.0).argmax(1, keepdim=True)
        negative, real = block.nearest_negatives(1, skip=self.skip_hardest)
        return block.positives.gather(1, which), negative, block.there.any(1, keepdim=True) & real
