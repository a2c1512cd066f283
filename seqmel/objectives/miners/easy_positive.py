"""Each anchor with its nearest positive only, so that the views of a client may stay spread out."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from seqmel.config.options.base import Natural, Only
from seqmel.core.renames import renamed_keywords
from seqmel.objectives.miners.base import Block, TripletMiner
from seqmel.objectives.miners.semi_hard import semi_hard_negative

__all__ = ["EasyPositive"]


class EasyPositive(TripletMiner):
    """The nearest positive of each anchor, with a semi-hard or the hardest negative.

    Xuan, Stylianou, Pless: Improved embeddings with easy positive triplet mining (WACV 2020, arXiv
    1904.04370).

    Args:
        negative: "semi_hard", the nearest negative farther away than the positive, or "hard", the
            nearest.
        skip_hardest: with "hard", number of nearest negatives to skip, as long as one is left: they
            may be the same person under another id.
        views: maximum number of embeddings per client used as positives; None counts them, which
            synchronises with a GPU.
        chunk_rows: anchors per block of the distance matrix; None bounds a block to 4 million
            cells.

    Shapes:
        mine((N, D) unit vectors, (N,) int64 client of each) returns `Triplets` of anchor, positive
        and negative.

    Examples:
        >>> import torch
        >>> from seqmel.miners import EasyPositive
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> triplets, = EasyPositive().mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> [t[:3] for t in zip(*(x.tolist() for x in triplets)) if t[3]]
        [(0, 1, 3), (1, 0, 2), (2, 3, 1), (3, 2, 1)]
    """

    how: ClassVar[str] = (
        "the nearest positive, with a semi-hard or the hardest negative; with `hard` "
        "`skip_hardest` skips the nearest"
    )
    source: ClassVar[str] = "Xuan et al., 1904.04370"
    when: ClassVar[str] = (
        "views of one client may differ a lot, by season, say: each needs to be near only one other"
    )

    @renamed_keywords(skip="skip_hardest")
    def __init__(
        self,
        *,
        negative: Literal["semi_hard", "hard"] = "semi_hard",
        skip_hardest: Annotated[Natural, Only(negative="hard")] = 0,
        views: int | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(views=views, chunk_rows=chunk_rows)
        self.negative = negative
        self.skip_hardest = skip_hardest

    def choose(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, 1) triplets."""
        nearest = block.positives_apart.masked_fill(~block.there, torch.inf).min(1, keepdim=True)
        positive = block.positives.gather(1, nearest.indices)
        if self.negative == "hard":
            negative = block.nearest_negatives(1, skip=self.skip_hardest)[0]
        else:
            negative = semi_hard_negative(block, nearest.values.nan_to_num(posinf=0.0))
        return (
            positive,
            negative,
            block.there.any(1, keepdim=True) & block.negative.any(1, keepdim=True),
        )
