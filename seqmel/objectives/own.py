"""A user's own losses and parts of an objective, held to what the training expects of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from seqmel.core.errors import ConfigError
from seqmel.core.own_code import name_own_code
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.losses.base import MetricLoss, precisely

__all__ = ["OWN_OBJECTIVES", "OwnLoss", "OwnObjective"]

OWN_OBJECTIVES: dict[str, Any] = {}
"""Name -> the class of a registered part of the objective."""


class OwnLoss(MetricLoss):
    """Any module that maps unit vectors and the client of each, or what a miner chose, to a scalar.

    Args:
        inner: the module; its attributes `takes`, `unit`, `statistics` and its method
            `set_progress` are used where it has them.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.takes = getattr(inner, "takes", "batch")  # type: ignore[misc]
        self.unit = getattr(inner, "unit", True)  # type: ignore[misc]

    def set_progress(self, share: float) -> None:
        """Pass the progress of the training on, in [0, 1]."""
        if hasattr(self.inner, "set_progress"):
            advance: Any = self.inner.set_progress
            advance(share)

    @precisely
    def forward(self, embeddings: Tensor, *chosen: Any) -> Tensor:
        """The loss of a batch, a scalar; the arguments are those of the module."""
        with name_own_code(self.inner, "loss"):
            found = self.inner(embeddings, *chosen)
        loss = _scalar(found, self.inner)
        # A constant zero is the loss of a batch without pairs.
        if embeddings.requires_grad and not loss.requires_grad and bool(loss):
            raise ConfigError(
                f"The loss {type(self.inner).__name__} has no gradient, so it teaches nothing. "
                "Compute it with torch from the embeddings, without detach, item or no_grad."
            )
        self.statistics = getattr(self.inner, "statistics", {})
        return loss


class OwnObjective(nn.Module):
    """Any module that maps the encoded views of a batch to a scalar.

    Args:
        inner: the module.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in float32."""
        with name_own_code(self.inner, "objective"):
            found = self.inner(encoded)
        return _scalar(found, self.inner).float()


def _scalar(loss: Any, module: nn.Module) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim():
        found = (
            f"a tensor of shape {tuple(loss.shape)}"
            if isinstance(loss, Tensor)
            else f"a {type(loss).__name__}"
        )
        raise ConfigError(
            f"{type(module).__name__} returned {found}. Expected a scalar tensor: take the mean "
            f"or the sum."
        )
    return loss
