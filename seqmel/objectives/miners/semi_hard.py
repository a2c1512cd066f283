"""Semi-hard negatives (Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, arXiv 1503.03832, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["SemiHard", "semi_hard_negative"]


class SemiHard(TripletMiner):
    """For each anchor and each of its positives the nearest negative that is farther away than the positive.

    Where no negative is farther, the farthest is taken: the least wrong one. Nearer negatives, which may draw all
    embeddings to one point at the beginning, are left alone.

    Args:
        views, chunk_rows: see `Miner`.
    """

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """(R, P) triplets."""
        columns = range(block.positives.shape[1])
        negatives = torch.cat([semi_hard_negative(block, block.positives_apart[:, i : i + 1]) for i in columns], dim=1)
        return block.positives, negatives, block.there & block.negative.any(1, keepdim=True)


def semi_hard_negative(block: Block, limit: Tensor) -> Tensor:
    """(R, 1) the nearest negative farther than `limit`, (R, 1) squared distances, or else the farthest."""
    farther = block.negative & (block.apart > limit)
    nearest = block.apart.masked_fill(~farther, torch.inf).min(1, keepdim=True)
    farthest = block.apart.masked_fill(~block.negative, -1.0).argmax(1, keepdim=True)
    return torch.where(nearest.values < torch.inf, nearest.indices, farthest)
