"""The interface of all metric losses, their precision, and margins that grow during training.

There are three kinds. `takes` names the kind, and equals what a fitting miner `gives`:

    "pairs"     loss(embeddings, positives, negatives)    two `Pairs`
    "triplets"  loss(embeddings, triplets)                `Triplets`
    "batch"     loss(embeddings, clients)                 client indices (N,); no miner

Output shapes depend on input shapes only. Pairs that do not count are masked instead of filtered,
so no step synchronises with the GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar, Concatenate, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from seqmel.core.poincare_ball import PoincareBall

__all__ = ["GrowingMargin", "MetricLoss", "Takes", "precisely"]

Takes = Literal["pairs", "triplets", "batch"]

_Rest = ParamSpec("_Rest")
_Self = TypeVar("_Self")


class MetricLoss(nn.Module):
    """A loss over embeddings of several clients.

    It is a scalar. It is zero with zero gradient if there is nothing to compare.

    Attributes:
        takes: the kind of its arguments besides the embeddings; see the module docstring.
        default_miner: the name of the miner that is used if the config names none.
        how: the equation, for the table of losses in the documentation.
        when: for which data, or for what, to choose it, for its page.
        source: where the loss was published, for the same table.
        unit: whether the embeddings must be unit vectors.
        hyperbolic: whether the loss is defined by distances alone, so that the embeddings may be
            points of a ball.
        leaves_out: whether `forward` of a loss without a miner takes `excluded`, pairs of clients
            that are no negatives.
        ball: the ball that the embeddings are points of; None for Euclidean vectors.
        statistics: scalars without gradient about the last batch. With mining, by a miner or by the
            loss, the loss alone says little about progress. `active` is the fraction of the
            negatives or triplets with non-zero loss. `mined_positive_distance` and
            `mined_negative_distance` are the mean distances of the chosen pairs.
    """

    takes: ClassVar[Takes] = "batch"
    default_miner: ClassVar[str | None] = None
    how: ClassVar[str] = ""
    when: ClassVar[str] = ""
    source: ClassVar[str] = ""
    unit: ClassVar[bool] = True
    hyperbolic: ClassVar[bool] = False
    leaves_out: ClassVar[bool] = False
    ball: PoincareBall | None = None

    def __init__(self) -> None:
        super().__init__()
        self.statistics: dict[str, Tensor] = {}

    def set_progress(self, share: float) -> None:
        """Called before each step with the training progress in [0, 1].

        Override it to anneal hyperparameters.

        Args:
            share: fraction of the training steps that are done.
        """


class GrowingMargin(MetricLoss):
    """A loss with a margin that may grow linearly during training, from easy to hard.

    Args:
        margin: the margin, or its value at the end of training if it grows.
        margin_start: the margin at the start of training; None keeps it constant.
    """

    def __init__(self, *, margin: float, margin_start: float | None = None) -> None:
        super().__init__()
        self.margin = margin if margin_start is None else margin_start
        self._ends = (self.margin, margin)

    def set_progress(self, share: float) -> None:
        """Set the margin for the training progress in [0, 1].

        Args:
            share: fraction of the training steps that are done.
        """
        start, end = self._ends
        self.margin = start + (end - start) * min(1.0, max(0.0, share))


def precisely(
    forward: Callable[Concatenate[_Self, Tensor, _Rest], Tensor],
) -> Callable[Concatenate[_Self, Tensor, _Rest], Tensor]:
    """Make a loss compute in float32, or in float64 if its input is, even under autocast.

    Similarities in bfloat16 have two or three digits, which is too coarse for training.

    Args:
        forward: the `forward` method of a loss.

    Returns:
        The method, with autocast disabled.
    """

    @functools.wraps(forward)
    def computed(
        self: _Self, embeddings: Tensor, /, *args: _Rest.args, **kwargs: _Rest.kwargs
    ) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            exact = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
            return forward(self, exact, *args, **kwargs)

    return computed
