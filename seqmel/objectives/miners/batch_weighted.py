"""Batch weighted: far positives and near negatives more often than others.

Ristani, Tomasi: Features for multi-target multi-camera tracking and re-identification (CVPR 2018, arXiv 1803.10859,
section 4.1): the distances of an anchor's positives are averaged with weights in proportion to exp d, those of its
negatives with weights in proportion to exp -d. Here the weights are the chances of being drawn, so that what comes out
are triplets, for any loss that takes them; the anchor itself, at distance zero, is never drawn. Unit vectors are at most
2 apart, so plain exponentials would weigh all nearly alike: distances are divided by a temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.core.renames import renamed_keywords
from seqmel.objectives.losses.pairs import root
from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["BatchWeighted"]


class BatchWeighted(TripletMiner):
    """`k` triplets an anchor: each time a positive is drawn, and a negative that was not drawn before.

    Args:
        k: triplets an anchor; fewer where there are fewer negatives.
        temperature: what distances are divided by; 1 is as published, smaller comes nearer to batch hard.
        views, chunk_rows: see `Miner`.
    """

    @renamed_keywords(count="k")
    def __init__(
        self, *, k: int = 5, temperature: float = 0.1, views: int | None = None, chunk_rows: int | None = None
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k
        self.temperature = temperature

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """(R, k) triplets."""
        negatives, real = block.weighted_negatives(-root(block.apart) / self.temperature, self.k)
        far = root(block.positives_apart) / self.temperature
        keys = far.unsqueeze(1) + block.gumbel((len(far), negatives.shape[1], far.shape[1]))
        which = keys.masked_fill(~block.there.unsqueeze(1), -torch.inf).argmax(2)
        return block.positives.gather(1, which), negatives, real & block.there.any(1, keepdim=True)
