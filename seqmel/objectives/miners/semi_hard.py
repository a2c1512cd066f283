"""For each anchor and positive, the nearest negative farther away than the positive."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.objectives.miners.base import Block, TripletMiner

__all__ = ["SemiHard", "semi_hard_negative"]


class SemiHard(TripletMiner):
    """For each positive the nearest negative that is farther away.

    Schroff, Kalenichenko, Philbin: FaceNet (CVPR 2015, arXiv 1503.03832, section 3.2). If no
    negative is farther away, the farthest is taken. Nearer negatives are avoided, because they can
    collapse all embeddings early in training.

    Args:
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns `Triplets` of anchor, positive
        and negative.

    Examples:
        >>> import torch
        >>> from seqmel.miners import SemiHard
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> triplets, = SemiHard().mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> [t[:3] for t in zip(*(x.tolist() for x in triplets)) if t[3]]
        [(0, 1, 3), (1, 0, 2), (2, 3, 1), (3, 2, 1)]
    """

    how: ClassVar[str] = (
        "of each positive the nearest negative that is farther away, or else the farthest"
    )
    source: ClassVar[str] = "Schroff et al., 1503.03832"
    when: ClassVar[str] = (
        "the default of triplet: hard enough to learn from, without the collapse that the "
        "hardest can cause"
    )

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, P) triplets."""
        columns = range(block.positives.shape[1])
        negatives = torch.cat(
            [semi_hard_negative(block, block.positives_apart[:, i : i + 1]) for i in columns], dim=1
        )
        return block.positives, negatives, block.there & block.negative.any(1, keepdim=True)


def semi_hard_negative(block: Block, limit: Tensor) -> Tensor:
    """Return (R, 1) the nearest negative beyond `limit`, or the farthest if there is none.

    Args:
        block: R anchors.
        limit: (R, 1) squared distances.
    """
    farther = block.negative & (block.apart > limit)
    nearest = block.apart.masked_fill(~farther, torch.inf).min(1, keepdim=True)
    farthest = block.apart.masked_fill(~block.negative, -1.0).argmax(1, keepdim=True)
    return torch.where(nearest.values < torch.inf, nearest.indices, farthest)
