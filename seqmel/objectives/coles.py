"""CoLES: contrastive learning for event sequences (Babaev et al., SIGMOD 2022, arXiv 2002.08232).

Several views of each client's sequence are embedded; a loss pulls those of one client together and pushes those of
different clients apart. The loss acts behind a projection head and on unit vectors (as in SimCLR, arXiv 2002.05709,
section 4.2), or on the vectors as they are where it does not compare directions; the head is dropped after training and
the vector in front of it is the embedding. CoLES as published has no such head. Where several processes train together, the vectors of all of them are
compared.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config import Config
from seqmel.config.options.losses import PMLOptions
from seqmel.core.distributed import all_gather_with_grad
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.losses import LOSSES, MetricLoss
from seqmel.objectives.losses.pml import PMLLoss
from seqmel.objectives.miners import MINERS, MemoryBank, Miner

__all__ = ["CoLES", "make_loss"]


class CoLES(nn.Module):
    """See the module's text.

    Args:
        config: names loss and miner.
        embedding_size: width of the encoder's vectors.
        head_size: width of the projection head; None has none, as published.
    """

    def __init__(self, config: Config, *, embedding_size: int, head_size: int | None = 128) -> None:
        super().__init__()
        width = head_size or embedding_size
        inner = nn.Linear(embedding_size, 2 * width)
        self.head = nn.Sequential(inner, nn.GELU(), nn.Linear(2 * width, width)) if head_size else nn.Identity()
        self.loss = make_loss(config)
        self.miner: Miner | None = None
        self.memory: MemoryBank | None = None
        if config.miner is not None:
            remembered = config.miner.memory
            # of a client as many views are remembered, if any, as it has in a batch: see `MemoryBank`
            views = config.views.count * (2 if remembered else 1)
            self.miner = MINERS[config.miner.name](views=views, **_arguments(config.miner, without=("memory",)))
            self.memory = MemoryBank(size=remembered, width=width) if remembered else None

    def seed(self, number: int, device: torch.device | str) -> None:
        """Let what the miner draws on this device hang on a number alone, which processes that mine the same batch share."""
        if self.miner is not None:
            self.miner.random = torch.Generator(device).manual_seed(number)

    @property
    def figures(self) -> dict[str, Tensor]:
        """What is worth watching of the last batch, see `MetricLoss`."""
        return self.loss.figures

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar, in float32: similarities in bfloat16 are too coarse to learn from."""
        projected, clients = (
            all_gather_with_grad(self.head(encoded.vectors)),
            all_gather_with_grad(encoded.batch.clients),
        )
        with torch.autocast(projected.device.type, enabled=False):
            vectors = F.normalize(projected.float(), dim=1) if self.loss.unit else projected.float()
            self.loss.set_progress(encoded.progress)
            return self._compared(vectors, clients)

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


def make_loss(config: Config) -> MetricLoss:
    """The loss that a config names.

    Raises:
        ConfigError: a loss of a library that is not installed, or that does not know it or its options.
    """
    if isinstance(config.loss, PMLOptions):
        return PMLLoss(**_arguments(config.loss))
    return LOSSES[config.loss.name](**_arguments(config.loss))


def _arguments(options: BaseModel, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options of a method as the arguments of its class."""
    return options.model_dump(exclude={"name", *without})
