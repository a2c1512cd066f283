"""Random negatives: for each embedding some embeddings of other clients, all equally likely (the ablation of mining)."""

from __future__ import annotations

from torch import Tensor

from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["RandomNegatives"]


class RandomNegatives(PairMiner):
    """`k` different random negatives of each anchor; fewer where there are not so many, never one of the same client.

    Args:
        k: negatives an anchor.
        views, chunk_rows: see `Miner`.
    """

    @renamed_keywords(count="k")
    def __init__(self, *, k: int = 5, views: int | None = None, chunk_rows: int | None = None) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """(R, k) negatives; the distances do not matter."""
        return block.random_negatives(self.k)
