"""Random negatives, drawn so that all distances are about equally frequent."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from seqmel.config.options.base import Natural, NotAbove, Positive
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.losses.pairs import root
from seqmel.objectives.miners.base import Block, PairMiner

__all__ = ["DistanceWeighted"]

_LAST = -1e6  # A log-weight below any other, yet finite.


class DistanceWeighted(PairMiner):
    """Random negatives, weighted so that all distances are about equally frequent.

    Wu, Manmatha, Smola, Krähenbühl: Sampling matters in deep embedding learning (ICCV 2017, arXiv
    1706.07567, section 4): distances d of random points on the unit sphere in D dimensions have the
    density

        q(d) = d^(D - 2) * (1 - d^2 / 4)^((D - 3) / 2),

    concentrated at sqrt(2). Negatives are drawn in proportion to 1 / q(max(d, cutoff)). They are
    harder than random ones, without the noise of the hardest.

    Args:
        k: number of negatives per anchor; fewer if fewer exist.
        cutoff: smaller distances are weighted like this distance.
        nonzero_loss_cutoff: negatives beyond this distance, below 2, are drawn only if there are no
            others.
        skip_hardest: number of nearest negatives that are drawn only if there are no others: they
            may be the same person under another id.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns two `Pairs`: all positives, and
        the chosen negatives.

    Examples:
        >>> import torch
        >>> from seqmel.miners import DistanceWeighted
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> positives, negatives = DistanceWeighted(k=1).mine(embeddings, clients)
        >>> negatives.first.tolist(), bool((negatives.second // 2 != negatives.first // 2).all())
        ([0, 1, 2, 3], True)
    """

    how: ClassVar[str] = (
        "`k` negatives drawn with weight 1 / q(d), q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2); "
        "`skip_hardest` skips the nearest"
    )
    source: ClassVar[str] = "Wu et al., 1706.07567"
    when: ClassVar[str] = (
        "the hardest negatives make training unstable: easy, medium and hard ones are drawn "
        "about equally often"
    )

    hyperbolic: ClassVar[bool] = False

    @renamed_keywords(
        count="k", nearest="cutoff", farthest="nonzero_loss_cutoff", skip="skip_hardest"
    )
    def __init__(
        self,
        *,
        k: Positive = 5,
        cutoff: Annotated[float, Field(gt=0, lt=2), NotAbove("nonzero_loss_cutoff")] = 0.5,
        nonzero_loss_cutoff: Annotated[float, Field(gt=0, lt=2)] = 1.4,
        skip_hardest: Natural = 0,
        views: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.k = k
        self.cutoff = cutoff
        self.nonzero_loss_cutoff = nonzero_loss_cutoff
        self.skip_hardest = skip_hardest

    def choose(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return (R, k) negatives."""
        size = block.embeddings.shape[1]
        apart = root(block.apart)
        d = apart.clamp(self.cutoff, self.nonzero_loss_cutoff)
        density = (size - 2) * d.log() + (size - 3) / 2 * torch.log1p(-d.square() / 4)
        weights = (-density).masked_fill(apart > self.nonzero_loss_cutoff, _LAST)
        if self.skip_hardest:
            hardest, _ = block.nearest_negatives(self.skip_hardest)
            weights = weights.scatter(1, hardest, 2 * _LAST)
        return block.weighted_negatives(weights, self.k)
