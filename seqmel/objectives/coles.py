"""CoLES: contrastive learning for event sequences (Babaev et al., SIGMOD 2022, arXiv 2002.08232).

Several slices of each client's sequence are embedded; a loss pulls those of one client together and pushes those of
different clients apart. The loss acts behind a projection head and on unit vectors (as in SimCLR, arXiv 2002.05709,
section 4.2); the head is dropped after training and the vector in front of it is the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config import Config
from seqmel.data.batch import SequenceBatch
from seqmel.data.sequences import EncodedSequences
from seqmel.data.views import RandomSlices
from seqmel.losses import ContrastiveLoss, InfoNCELoss
from seqmel.losses.pairs import positive_pairs
from seqmel.miners import HardNegatives, RandomNegatives
from seqmel.nn.encoder import SequenceEncoder

__all__ = ["CoLES", "ViewBatch"]


@dataclass(frozen=True)
class ViewBatch:
    """The views of a batch and whose they are, (S,) int64."""

    sequences: SequenceBatch
    clients: Tensor

    def to(self, device: torch.device | str) -> ViewBatch:
        """The same views on another device."""
        return ViewBatch(self.sequences.to(device), self.clients.to(device, non_blocking=True))


class CoLES(nn.Module):
    """See the module's text.

    Args:
        config: names views, loss, miner and head; settled, so that the slices have lengths.
        embedding_size: width of the encoder's vectors.
    """

    def __init__(self, config: Config, *, embedding_size: int) -> None:
        super().__init__()
        views = config.views
        assert views.min_length is not None, "settle() comes before"
        assert views.max_length is not None, "settle() comes before"
        self.views = RandomSlices(count=views.count, min_length=views.min_length, max_length=views.max_length)
        size = config.objective.head_size
        self.head = nn.Sequential(nn.Linear(embedding_size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.loss: ContrastiveLoss | InfoNCELoss
        self.miner: HardNegatives | RandomNegatives | None = None
        if config.loss.name == "infonce":
            self.loss = InfoNCELoss(temperature=config.loss.temperature)
        else:
            self.loss = ContrastiveLoss(margin=config.loss.margin, reduction=config.loss.reduction)
        if config.miner is not None:
            miner = HardNegatives if config.miner.name == "hard_negatives" else RandomNegatives
            self.miner = miner(count=config.miner.count)

    def draw(self, sequences: EncodedSequences, clients: Tensor, generator: torch.Generator) -> ViewBatch:
        """The views of a batch of clients (positions, int64), gathered where the events lie."""
        views = self.views.draw(clients, sequences.lengths[clients], generator)
        return ViewBatch(sequences.gather(views.clients, views.starts, views.lengths), views.clients)

    def forward(self, encoder: SequenceEncoder, batch: ViewBatch) -> Tensor:
        """The loss of a batch, a scalar, in float32: similarities in bfloat16 are too coarse to learn from."""
        projected = self.head(encoder.embed(batch.sequences))
        with torch.autocast(projected.device.type, enabled=False):
            vectors = F.normalize(projected.float(), dim=1)
            if isinstance(self.loss, InfoNCELoss):
                return self.loss(vectors, batch.clients)
            assert self.miner is not None, "the config sees to it that a pair loss has a miner"
            return self.loss(vectors, positive_pairs(batch.clients), self.miner.mine(vectors, batch.clients))
