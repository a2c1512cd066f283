"""Every triplet of the batch, up to a bound."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from seqmel.config.options.base import Positive
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["BatchAll"]


class BatchAll(TripletMiner):
    """All triplets of the batch.

    Hermans, Beyer, Leibe: In defense of the triplet loss (arXiv 1703.07737, equation 6). Above the
    bound, each anchor gets equally many random negatives, the same for all of its positives.

    Args:
        max_triplets: maximum number of triplets; each positive of an anchor keeps at least one.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns `Triplets` of anchor, positive
        and negative.

    Examples:
        >>> import torch
        >>> from seqmel.miners import BatchAll
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> triplets, = BatchAll().mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> [t[:3] for t in zip(*(x.tolist() for x in triplets)) if t[3]]
        [(0, 1, 2), (0, 1, 3), (1, 0, 2), (1, 0, 3), (2, 3, 0), (2, 3, 1), (3, 2, 0), (3, 2, 1)]
    """

    how: ClassVar[str] = "all, or random negatives beyond `max_triplets`"
    source: ClassVar[str] = "Hermans et al., 1703.07737"
    when: ClassVar[str] = (
        "small batches and a triplet loss; with reduction: active the easy triplets do not count"
    )

    @renamed_keywords(most="max_triplets")
    def __init__(
        self,
        *,
        max_triplets: Positive = 500_000,
        views: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.max_triplets = max_triplets

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, P * K) triplets of each positive with all negatives, or with random ones.

        Embeddings that are not negatives are masked.
        """
        rows, width = block.positives.shape
        negatives, real = block.all_negatives(
            max(1, self.max_triplets // max(1, block.anchors * width))
        )
        shape = (rows, width, negatives.shape[1])
        positives = block.positives.unsqueeze(2).expand(shape)
        there = block.there.unsqueeze(2) & real.unsqueeze(1)
        return (
            positives.flatten(1),
            negatives.unsqueeze(1).expand(shape).flatten(1),
            there.flatten(1),
        )
