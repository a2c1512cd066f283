"""CoLES: contrastive learning for event sequences (Babaev et al., SIGMOD 2022, arXiv 2002.08232).

Several slices of each client's sequence are embedded; a loss pulls those of one client together and pushes those of
different clients apart. The loss acts behind a projection head and on unit vectors (as in SimCLR, arXiv 2002.05709,
section 4.2); the head is dropped after training and the vector in front of it is the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config import Config
from seqmel.losses import ContrastiveLoss, InfoNCELoss
from seqmel.losses.pairs import positive_pairs
from seqmel.miners import HardNegatives, RandomNegatives
from seqmel.objectives.encoded import Encoded

__all__ = ["CoLES"]


class CoLES(nn.Module):
    """See the module's text.

    Args:
        config: names loss and miner.
        embedding_size: width of the encoder's vectors.
        head_size: width of the projection head.
    """

    def __init__(self, config: Config, *, embedding_size: int, head_size: int = 128) -> None:
        super().__init__()
        inner = nn.Linear(embedding_size, 2 * head_size)
        self.head = nn.Sequential(inner, nn.GELU(), nn.Linear(2 * head_size, head_size))
        self.loss: ContrastiveLoss | InfoNCELoss
        self.miner: HardNegatives | RandomNegatives | None = None
        if config.loss.name == "infonce":
            self.loss = InfoNCELoss(temperature=config.loss.temperature)
        else:
            self.loss = ContrastiveLoss(margin=config.loss.margin, reduction=config.loss.reduction)
        if config.miner is not None:
            miner = HardNegatives if config.miner.name == "hard_negatives" else RandomNegatives
            self.miner = miner(count=config.miner.count)

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar, in float32: similarities in bfloat16 are too coarse to learn from."""
        projected, clients = self.head(encoded.vectors), encoded.batch.clients
        with torch.autocast(projected.device.type, enabled=False):
            vectors = F.normalize(projected.float(), dim=1)
            if isinstance(self.loss, InfoNCELoss):
                return self.loss(vectors, clients)
            assert self.miner is not None, "the config sees to it that a pair loss has a miner"
            return self.loss(vectors, positive_pairs(clients), self.miner.mine(vectors, clients))
