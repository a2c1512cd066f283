"""For each anchor its farthest positive and its nearest negative: one triplet per anchor."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seqmel.config.options.base import Natural
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["BatchHard"]


class BatchHard(TripletMiner):
    """The farthest positive and the nearest negative of each anchor.

    Hermans, Beyer, Leibe: In defense of the triplet loss (arXiv 1703.07737, equation 5). Early in
    training it can collapse all embeddings to one point; a larger batch makes this more likely.

    Args:
        skip_hardest: number of nearest negatives to skip, as long as one is left: they may be the
            same person under another id.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns `Triplets` of anchor, positive
        and negative.

    Examples:
        >>> import torch
        >>> from seqmel.miners import BatchHard
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> triplets, = BatchHard().mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> [t[:3] for t in zip(*(x.tolist() for x in triplets)) if t[3]]
        [(0, 1, 3), (1, 0, 3), (2, 3, 1), (3, 2, 1)]
    """

    how: ClassVar[str] = (
        "the farthest positive with the nearest negative; `skip_hardest` skips the nearest"
    )
    source: ClassVar[str] = "Hermans et al., 1703.07737"
    when: ClassVar[str] = (
        "clean data and a triplet loss; outliers among the positives are what it looks at first"
    )

    @renamed_keywords(skip="skip_hardest")
    def __init__(
        self, *, skip_hardest: Natural = 0, views: int | None = None, chunk_rows: int | None = None
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.skip_hardest = skip_hardest

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, 1) triplets."""
        which = block.positives_apart.masked_fill(~block.there, -1.0).argmax(1, keepdim=True)
        negative, real = block.nearest_negatives(1, skip=self.skip_hardest)
        return block.positives.gather(1, which), negative, block.there.any(1, keepdim=True) & real
