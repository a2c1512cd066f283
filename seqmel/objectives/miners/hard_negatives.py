"""The nearest negatives of each anchor."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seqmel.config.options.base import Natural, Positive
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["HardNegatives"]


class HardNegatives(PairMiner):
    """The nearest negatives of each anchor.

    Babaev et al.: CoLES (SIGMOD 2022, arXiv 2002.08232, section 3.4).

    Args:
        k: number of negatives per anchor; fewer if fewer exist.
        skip_hardest: number of nearest negatives to skip, as long as `k` are left: they may be the
            same person under another id.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns two `Pairs`: all positives, and
        the chosen negatives.

    Examples:
        >>> import torch
        >>> from seqmel.miners import HardNegatives
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> positives, negatives = HardNegatives(k=1).mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> real = negatives.real
        >>> list(zip(negatives.first[real].tolist(), negatives.second[real].tolist()))
        [(0, 3), (1, 3), (2, 1), (3, 1)]
    """

    how: ClassVar[str] = (
        "the `k` nearest negatives of each anchor; `skip_hardest` skips the very nearest"
    )
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    when: ClassVar[str] = (
        "the default of the pair losses: only near negatives teach something once training "
        "has begun"
    )

    @renamed_keywords(count="k", skip="skip_hardest")
    def __init__(
        self,
        *,
        k: Positive = 5,
        skip_hardest: Natural = 0,
        views: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k
        self.skip_hardest = skip_hardest

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return (R, k) negatives, nearest first."""
        return block.nearest_negatives(self.k, skip=self.skip_hardest)
