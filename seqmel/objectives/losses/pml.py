"""Losses of pytorch-metric-learning by their name there (Musgrave, Belongie, Lim, arXiv 2008.09164): `loss: pml/CircleLoss`.

The library comes with the extra `seqmel[pml]` and is imported only where such a loss is named: a config that names one is read with it, a
model that was trained with one is loaded without. A loss of it takes embeddings
and whose each is; wrappers around other losses, and those that learn a vector for each of a fixed set of classes, do not fit,
since the clients of a batch are no fixed classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqmel.core.errors import TrainingError
from seqmel.core.metric_learning_library import make_loss
from seqmel.objectives.losses.base import MetricLoss, precisely

__all__ = ["PMLLoss"]

_EQUAL_VIEWS = {"SmoothAPLoss"}
"""Losses that want as many embeddings of each client."""


class PMLLoss(MetricLoss):
    """A loss of the library over unit vectors, with the client for the label.

    Args:
        loss: the name of its class, such as CircleLoss.
        options: its arguments.

    Raises:
        ConfigError: the library is not installed, has no such loss, or the loss does not take these options or a batch of
            embeddings with labels.
    """

    def __init__(self, *, loss: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.name = loss
        self.inner = make_loss(loss, options)

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) whose they are.

        Returns:
            A scalar, as the library reduces it.

        Raises:
            TrainingError: the library refuses this batch, as some losses do where clients have unequal numbers of views.
        """
        if self.name in _EQUAL_VIEWS:
            kept = _equally_many(clients)
            embeddings, clients = embeddings[kept], clients[kept]
        try:
            loss = torch.as_tensor(self.inner(embeddings, clients))
        except ValueError as error:
            line = " ".join(str(error).split())
            raise TrainingError(
                f"{self.name} of pytorch-metric-learning refuses a batch of {len(clients)} embeddings of"
                f" {len(set(clients.tolist()))} clients: {line}"
            ) from None
        _detach_state(self.inner)
        return loss


def _detach_state(module: nn.Module) -> None:
    """Cut what a loss keeps from batch to batch, such as a histogram, from the graph of this one."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(part, name, value.detach())


def _equally_many(clients: Tensor) -> Tensor:
    """The rows of as many views of each client, the first ones; clients with a single view have none."""
    _, which, counts = torch.unique(clients, return_inverse=True, return_counts=True)
    several = counts[counts > 1]
    least = int(several.min()) if len(several) else 0
    order = torch.argsort(which, stable=True)
    begins = counts.cumsum(0) - counts
    place = torch.empty_like(which)
    place[order] = torch.arange(len(which), device=which.device) - begins[which[order]]
    return ((place < least) & (counts[which] > 1)).nonzero()[:, 0]
