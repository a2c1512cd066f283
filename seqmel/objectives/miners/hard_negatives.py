"""Hard negative mining: for each embedding its nearest embeddings of other clients (CoLES, arXiv 2002.08232, 3.4)."""

from __future__ import annotations

from torch import Tensor

from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["HardNegatives"]


class HardNegatives(PairMiner):
    """The `k` nearest negatives of each anchor; fewer where there are not so many, and never one of the same client.

    Args:
        k: negatives of each anchor.
        skip_hardest: the very nearest are passed over, as far as `k` are left: they may be the same person twice.
        views, chunk_rows: see `Miner`.
    """

    @renamed_keywords(count="k", skip="skip_hardest")
    def __init__(
        self, *, k: int = 5, skip_hardest: int = 0, views: int | None = None, chunk_rows: int | None = None
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k
        self.skip_hardest = skip_hardest

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """(R, k) negatives, nearest first."""
        return block.nearest_negatives(self.k, skip=self.skip_hardest)
