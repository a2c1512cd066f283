"""Random negatives of each anchor, all equally likely: the ablation of mining."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seqmel.config.options.base import Positive
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["RandomNegatives"]


class RandomNegatives(PairMiner):
    """Random negatives of each anchor.

    Args:
        k: number of negatives per anchor; fewer if fewer exist.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns two `Pairs`: all positives, and
        the chosen negatives.

    Examples:
        >>> import torch
        >>> from seqmel.miners import RandomNegatives
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> positives, negatives = RandomNegatives(k=1).mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> negatives.first.tolist(), bool((negatives.second // 2 != negatives.first // 2).all())
        ([0, 1, 2, 3], True)
    """

    how: ClassVar[str] = "`k` random negatives of each anchor"
    source: ClassVar[str] = "Babaev et al., 2002.08232, as an ablation"
    when: ClassVar[str] = (
        "a baseline, and for noisy data in which the hardest negatives are really the same client"
    )

    @renamed_keywords(count="k")
    def __init__(
        self, *, k: Positive = 5, views: int | None = None, chunk_rows: int | None = None
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return (R, k) negatives, independent of distances."""
        return block.random_negatives(self.k)
