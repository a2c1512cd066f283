"""Every pair of two clients, up to a bound."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seqmel.config.options.base import Positive
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["AllNegatives"]


class AllNegatives(PairMiner):
    """All negatives of each anchor.

    Args:
        max_pairs: maximum number of pairs. Above it, each anchor gets equally many random
            negatives, at least one.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns two `Pairs`: all positives, and
        the chosen negatives.

    Examples:
        >>> import torch
        >>> from seqmel.miners import AllNegatives
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> positives, negatives = AllNegatives().mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> real = negatives.real
        >>> list(zip(negatives.first[real].tolist(), negatives.second[real].tolist()))
        [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0), (3, 1)]
    """

    how: ClassVar[str] = "all, or random ones beyond `max_pairs`"
    when: ClassVar[str] = (
        "small batches, or losses that weight pairs themselves, such as binomial_deviance"
    )

    @renamed_keywords(most="max_pairs")
    def __init__(
        self,
        *,
        max_pairs: Positive = 500_000,
        views: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.max_pairs = max_pairs

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return (R, K) embeddings and a mask of the negatives; random ones above the bound."""
        return block.all_negatives(max(1, self.max_pairs // block.anchors))
