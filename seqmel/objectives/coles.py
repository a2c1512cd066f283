"""CoLES: contrastive learning for event sequences (Babaev et al., SIGMOD 2022, arXiv 2002.08232).

Several views of each client's sequence are embedded; a loss pulls those of one client together and pushes those of
different clients apart. The loss acts behind a projection head and on unit vectors (as in SimCLR, arXiv 2002.05709,
section 4.2), or on the vectors as they are where it does not compare directions; the head is dropped after training and
the vector in front of it is the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config import Config
from seqmel.data.batch import SequenceBatch
from seqmel.data.sequences import EncodedSequences
from seqmel.data.views import VIEWS
from seqmel.losses import LOSSES
from seqmel.miners import MINERS, MemoryBank, Miner
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
        config: names views, loss, miner and head; settled, so that the views have lengths.
        embedding_size: width of the encoder's vectors.

    Attributes:
        share_done: how much of the training is done, 0 to 1, set by whoever trains; margins that grow follow it.
    """

    def __init__(self, config: Config, *, embedding_size: int) -> None:
        super().__init__()
        assert config.views.min_length is not None, "settle() comes before"
        self.share_done = 0.0
        self.views = VIEWS[config.views.name](**_arguments(config.views))
        size = config.objective.head_size
        self.head = nn.Sequential(nn.Linear(embedding_size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.loss = LOSSES[config.loss.name](**_arguments(config.loss))
        self.miner: Miner | None = None
        self.memory: MemoryBank | None = None
        if config.miner is not None:
            remembered = config.miner.memory
            # of a client in a batch as many views are remembered, if any, as it has there
            views = config.views.count * (2 if remembered else 1)
            self.miner = MINERS[config.miner.name](views=views, **_arguments(config.miner, without=("memory",)))
            self.memory = MemoryBank(size=remembered, width=size) if remembered else None

    def draw(self, sequences: EncodedSequences, clients: Tensor, generator: torch.Generator) -> ViewBatch:
        """The views of a batch of clients (positions, int64), gathered where the events lie."""
        times = sequences.times(clients) if self.views.needs_times else None
        views = self.views.draw(clients, sequences.lengths[clients], generator, times)
        return ViewBatch(sequences.gather(views.clients, views.starts, views.lengths, views.events), views.clients)

    def forward(self, encoder: SequenceEncoder, batch: ViewBatch) -> Tensor:
        """The loss of a batch, a scalar, in float32: similarities in bfloat16 are too coarse to learn from."""
        projected = self.head(encoder.embed(batch.sequences))
        with torch.autocast(projected.device.type, enabled=False):
            vectors = F.normalize(projected.float(), dim=1) if self.loss.unit else projected.float()
            self.loss.grow(self.share_done)
            return self._compared(vectors, batch.clients)

    def _compared(self, vectors: Tensor, clients: Tensor) -> Tensor:
        """What the loss says of these vectors, or of what the miner chooses of them and of the remembered ones."""
        if self.miner is None:
            return self.loss(vectors, clients)
        if self.memory is None:
            return self.loss(vectors, *self.miner.mine(vectors, clients))
        compared, whose = self.memory.beside(vectors, clients)
        chosen = self.miner.mine(compared, whose, anchors=len(vectors))
        if self.training:
            self.memory.remember(vectors, clients)
        return self.loss(compared, *chosen)


def _arguments(options: BaseModel, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options of a method as the arguments of its class."""
    return options.model_dump(exclude={"name", *without})
