"""Hard negative mining: for each embedding its nearest embeddings of other clients (CoLES, arXiv 2002.08232, 3.4)."""

from __future__ import annotations

from torch import Tensor

from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["HardNegatives"]


class HardNegatives(PairMiner):
    """The `count` nearest negatives of each anchor; fewer where there are not so many, and never one of the same client.

    Args:
        count: k, negatives an anchor.
        skip: the very nearest are passed over, as far as `count` are left: they may be the same person twice.
        views, chunk_rows: see `Miner`.
    """

    def __init__(
        self, *, count: int = 5, skip: int = 0, views: int | None = None, chunk_rows: int | None = None
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.count = count
        self.skip = skip

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """(R, count) negatives, nearest first."""
        return block.nearest_negatives(self.count, skip=self.skip)
