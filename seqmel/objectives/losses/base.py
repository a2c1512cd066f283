"""What all metric losses share: what they say of themselves, the numbers they compute in, and margins that grow.

Three kinds, told apart by `takes`, which is also what a miner `gives`:

    "pairs"     loss(embeddings, positives, negatives)    two `Pairs`
    "triplets"  loss(embeddings, triplets)                `Triplets`
    "batch"     loss(embeddings, clients)                 whose each embedding is; no miner

All shapes are fixed by the shapes of the input: what does not count is masked and not left out, so that no step waits
for a GPU to tell a number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ClassVar, Concatenate, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["GrowingMargin", "MetricLoss", "Takes", "precisely"]

Takes = Literal["pairs", "triplets", "batch"]

_Rest = ParamSpec("_Rest")
_Self = TypeVar("_Self")


class MetricLoss(nn.Module):
    """A loss over embeddings of several clients, a scalar; zero with zero gradient where there is nothing to compare.

    Attributes:
        takes: what it is given besides the embeddings; see the module's text.
        unit: whether the embeddings have to be unit vectors.
        statistics: what is worth watching of the batch that the loss has seen last, scalars without gradient: where pairs or
            triplets are mined, by a miner or by the loss, the loss itself says little. `active` is the share of the negatives
            or triplets that cost something, `mined_positive_distance` and `mined_negative_distance` the mean distances of
            those that were chosen.
    """

    takes: ClassVar[Takes] = "batch"
    unit: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.statistics: dict[str, Tensor] = {}

    def set_progress(self, share: float) -> None:
        """Told before each step how much of the training is done, 0 to 1; for losses that change on the way."""


class GrowingMargin(MetricLoss):
    """A loss with a margin, which may grow linearly over the training: easy at first, then harder.

    Args:
        margin: its size, at the end of the training where it grows.
        margin_start: its size at the beginning; None keeps it as it is.
    """

    def __init__(self, *, margin: float, margin_start: float | None = None) -> None:
        super().__init__()
        self.margin = margin if margin_start is None else margin_start
        self._ends = (self.margin, margin)

    def set_progress(self, share: float) -> None:
        """Set the margin for this share of the training."""
        start, end = self._ends
        self.margin = start + (end - start) * min(1.0, max(0.0, share))


def precisely(
    forward: Callable[Concatenate[_Self, Tensor, _Rest], Tensor],
) -> Callable[Concatenate[_Self, Tensor, _Rest], Tensor]:
    """Let a loss compute in float32, or in float64 where it is given that, whatever autocast says around it.

    Similarities in bfloat16 have two or three digits: too coarse to learn from.
    """

    @functools.wraps(forward)
    def computed(self: _Self, embeddings: Tensor, /, *args: _Rest.args, **kwargs: _Rest.kwargs) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            exact = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
            return forward(self, exact, *args, **kwargs)

    return computed
