"""Losses of pytorch-metric-learning under their names there: `loss: pml/CircleLoss`.

Musgrave, Belongie, Lim: PyTorch Metric Learning (arXiv 2008.09164). The extra `seqmel[pml]`
installs the library. It is imported only to build such a loss: reading a config or loading a model
that names one does not need it. A loss must take embeddings and labels. Wrappers of other losses do
not fit. Losses that learn a vector for each of a fixed set of classes do not fit either, because
the clients of a batch are not fixed classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqmel.core.errors import TrainingError
from seqmel.core.metric_learning_library import make_loss
from seqmel.core.units import count_words
from seqmel.objectives.losses.base import MetricLoss, precisely

__all__ = ["PMLLoss"]

_EQUAL_VIEWS = {"SmoothAPLoss"}
"""Losses that need equally many embeddings per client."""


class PMLLoss(MetricLoss):
    """A loss of pytorch-metric-learning over unit vectors, with the client as the label.

    Args:
        loss: the name of its class, such as CircleLoss.
        options: its arguments.

    Raises:
        ConfigError: the library is not installed, does not have the loss, or the loss rejects these
            options or a batch of embeddings with labels.
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
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar, reduced by the library.

        Raises:
            TrainingError: the library rejects this batch. Some losses do if clients have different
                numbers of views.
        """
        if self.name in _EQUAL_VIEWS:
            kept = _equally_many(clients)
            embeddings = embeddings[kept]
            clients = clients[kept]
        try:
            loss = torch.as_tensor(self.inner(embeddings, clients))
        except ValueError as error:
            line = " ".join(str(error).split())
            raise TrainingError(
                f"{self.name} of pytorch-metric-learning refuses a batch of {len(clients)} "
                f"embeddings of {count_words(len(set(clients.tolist())), 'client')}: {line}"
            ) from None
        _detach_state(self.inner)
        return loss


def _detach_state(module: nn.Module) -> None:
    """Detach the state that a loss carries across batches, such as a histogram, from the graph."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(part, name, value.detach())


def _equally_many(clients: Tensor) -> Tensor:
    """Return the rows of the first views of each client, equally many per client.

    Clients with one view are left out.
    """
    _, which, counts = torch.unique(clients, return_inverse=True, return_counts=True)
    several = counts[counts > 1]
    least = int(several.min()) if len(several) else 0
    order = torch.argsort(which, stable=True)
    begins = counts.cumsum(0) - counts
    place = torch.empty_like(which)
    place[order] = torch.arange(len(which), device=which.device) - begins[which[order]]
    return ((place < least) & (counts[which] > 1)).nonzero()[:, 0]
