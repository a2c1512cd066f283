"""Far positives and near negatives are drawn more often than others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.base import Above, Positive
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.losses.pairs import root
from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["BatchWeighted"]


class BatchWeighted(TripletMiner):
    """Random positives and negatives, far positives and near negatives more often.

    Ristani, Tomasi: Features for multi-target multi-camera tracking and re-identification (CVPR
    2018, arXiv 1803.10859, section 4.1): positives are weighted in proportion to exp(d / t),
    negatives to exp(-d / t). Here the weights are sampling probabilities, without replacement for
    negatives. Unit vectors are at most 2 apart, so plain exponentials would weight all of them
    nearly equally. Hence the temperature t.

    Args:
        k: number of triplets per anchor; fewer if there are fewer negatives.
        temperature: temperature t; 1 is as published. Smaller values approach batch hard mining.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns `Triplets` of anchor, positive
        and negative.

    Examples:
        >>> import torch
        >>> from seqmel.miners import BatchWeighted
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> triplets, = BatchWeighted(k=1).mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> triplets.anchor.tolist(), triplets.positive.tolist()
        ([0, 1, 2, 3], [1, 0, 3, 2])
    """

    how: ClassVar[str] = (
        "`k` triplets per anchor, positives drawn in proportion to e^(d/t), negatives to e^(-d/t)"
    )
    source: ClassVar[str] = "after Ristani, Tomasi, 1803.10859"
    when: ClassVar[str] = "as batch_hard, less easily misled by outliers"

    @renamed_keywords(count="k")
    def __init__(
        self,
        *,
        k: Positive = 5,
        temperature: Above = 0.1,
        views: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k
        self.temperature = temperature

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, k) triplets."""
        negatives, real = block.weighted_negatives(-root(block.apart) / self.temperature, self.k)
        far = root(block.positives_apart) / self.temperature
        keys = far.unsqueeze(1) + block.gumbel((len(far), negatives.shape[1], far.shape[1]))
        which = keys.masked_fill(~block.there.unsqueeze(1), -torch.inf).argmax(2)
        return block.positives.gather(1, which), negatives, real & block.there.any(1, keepdim=True)
