"""The losses of quantities, on encoded labels; see `Target`."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.data.tables.targets import LARGEST_LINK, Target

__all__ = ["quantity_losses"]

_SMOOTH = 0.05  # standard deviations: where the pinball loss is quadratic, so that it has a slope


def quantity_losses(out: Tensor, values: Tensor, target: Target) -> Tensor:
    """Return the loss of each output.

    Poisson and Tweedie losses are half the unit deviance (Jorgensen, 1987), the latter with the
    power 1.5: zero where the prediction is the label. The pinball loss (Koenker, Bassett, 1978) is
    rounded off at zero.

    Args:
        out: (B,), outputs of the head.
        values: (B,), encoded labels.
        target: The target.

    Returns:
        (B,) losses.
    """
    if target.loss == "squared":
        return (out - values) ** 2
    if target.loss == "quantile":
        error = values - out
        slope = error.sign() * (error.abs() - _SMOOTH / 2)
        rounded = torch.where(error.abs() < _SMOOTH, error**2 / (2 * _SMOOTH), slope.abs())
        return torch.where(error > 0, target.quantile, 1 - target.quantile) * rounded
    log = out.clamp(max=LARGEST_LINK)
    if target.loss == "poisson":
        return log.exp() - values * log - values + torch.xlogy(values, values)
    root = (log / 2).exp()
    return 2 * (values / root + root) - 4 * values.sqrt()
