"""CoLES: contrastive learning for event sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.config import Config
from seqmel.config.options.losses import PMLOptions
from seqmel.config.options.objectives import LeaveOutOptions
from seqmel.core.distributed import all_gather_with_grad
from seqmel.core.own_code import name_own_code
from seqmel.core.poincare_ball import PoincareBall
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.look_alikes import ClientTraits, LookAlikes
from seqmel.objectives.losses import LOSSES, MetricLoss
from seqmel.objectives.losses.pml import PMLLoss
from seqmel.objectives.miners import MINERS, MemoryBank, Miner

__all__ = ["CoLES", "make_loss"]


class CoLES(nn.Module):
    """A contrastive loss on several views of each client (Babaev et al., arXiv 2002.08232).

    The loss pulls views of one client together and pushes views of different clients apart. It is
    computed behind a projection head, on unit vectors if it compares directions (as in SimCLR,
    arXiv 2002.05709, section 4.2), or in a Poincare ball (Ermolov et al.: Hyperbolic vision
    transformers, CVPR 2022, arXiv 2203.10833). The head is dropped after training,
    and the vector in front of it is the embedding. CoLES as published has no head. In distributed
    training the vectors of all ranks are compared.

    Args:
        config: Names loss and miner.
        embedding_size: Width of the encoder's vectors.
        head_size: Width of the projection head. None has no head, as published.
        curvature: Curvature of the ball; None compares unit vectors.
        clip_radius: Longer tangent vectors are shortened to this length, see `PoincareBall`.
        leave_out: The options of `LookAlikes`. None leaves out nothing.
        traits: What is known of the clients, if these options need it.
    """

    def __init__(
        self,
        config: Config,
        *,
        embedding_size: int,
        head_size: int | None = 128,
        curvature: float | None = None,
        clip_radius: float | None = 2.3,
        leave_out: Mapping[str, Any] | None = None,
        traits: ClientTraits | None = None,
    ) -> None:
        super().__init__()
        self.ball = None if curvature is None else PoincareBall(curvature, clip_radius)
        width = head_size or embedding_size
        inner = nn.Linear(embedding_size, 2 * width)
        self.head = (
            nn.Sequential(inner, nn.GELU(), nn.Linear(2 * width, width))
            if head_size
            else nn.Identity()
        )
        self.loss = make_loss(config)
        self.loss.ball = self.ball
        self.look_alikes = LookAlikes(LeaveOutOptions(**leave_out or {}), traits)
        self.left_out: dict[str, Tensor] = {}
        self.miner: Miner | None = None
        self.memory: MemoryBank | None = None
        if config.miner is not None:
            remembered = config.miner.memory
            # The memory has as many views per client as a batch, if it has any: see `MemoryBank`.
            views = config.views.count * (2 if remembered else 1)
            kind = MINERS[config.miner.name]
            with name_own_code(kind, "miner"):
                self.miner = kind(views=views, **_arguments(config.miner, without=("memory",)))
            self.miner.ball = self.ball
            self.memory = MemoryBank(size=remembered, width=width) if remembered else None

    def seed(self, number: int, device: torch.device | str) -> None:
        """Seed the miner's generator. Ranks that mine the same batch must pass the same seed."""
        if self.miner is not None:
            self.miner.random = torch.Generator(device).manual_seed(number)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Return the statistics of the last batch, see `MetricLoss`."""
        return self.loss.statistics | self.left_out

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, a scalar. Similarities need float32, also under autocast."""
        projected = all_gather_with_grad(self.head(encoded.vectors))
        clients = all_gather_with_grad(encoded.batch.clients)
        with torch.autocast(projected.device.type, enabled=False):
            self.loss.set_progress(encoded.progress)
            return self._compared(self._placed(projected.float()), clients, encoded.progress)

    def _placed(self, vectors: Tensor) -> Tensor:
        """Return (N, D) projected vectors where the loss compares them."""
        if self.ball is not None:
            return self.ball.points(vectors)
        return F.normalize(vectors, dim=1) if self.loss.unit else vectors

    def _compared(self, vectors: Tensor, clients: Tensor, progress: float) -> Tensor:
        """Compute the loss of the vectors, or of those that the miner chooses with the memory."""
        if self.miner is None:
            return self.loss(vectors, clients, **self._excluded(vectors, clients, progress))
        if self.memory is None:
            left = self._excluded(vectors, clients, progress)
            return self.loss(vectors, *self.miner.mine(vectors, clients, **left))
        compared, compared_clients = self.memory.with_stored(vectors, clients)
        left = self._excluded(compared, compared_clients, progress, anchors=len(vectors))
        chosen = self.miner.mine(compared, compared_clients, anchors=len(vectors), **left)
        if self.training:
            self.memory.remember(vectors, clients)
        return self.loss(compared, *chosen)

    @torch.no_grad()
    def _excluded(
        self, vectors: Tensor, clients: Tensor, progress: float, *, anchors: int | None = None
    ) -> dict[str, Any]:
        """Return the pairs to leave out of the negatives as a keyword; none if nothing is."""
        anchors = len(vectors) if anchors is None else anchors
        found = self.look_alikes.excluded(vectors, clients, anchors=anchors, progress=progress)
        if found is None:
            return {}
        others = (clients[:anchors].unsqueeze(1) != clients) & (clients >= 0)
        self.left_out = {"left_out": found.sum() / others.sum().clamp(min=1)}
        return {"excluded": found}


def make_loss(config: Config) -> MetricLoss:
    """Build the loss that a config names.

    Raises:
        ConfigError: pytorch-metric-learning is not installed, or does not have the loss or its
            options.
    """
    if isinstance(config.loss, PMLOptions):
        return PMLLoss(**_arguments(config.loss))
    return LOSSES[config.loss.name](**_arguments(config.loss))


def _arguments(options: BaseModel, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the options of a method as the arguments of its class."""
    return options.model_dump(exclude={"name", *without})
