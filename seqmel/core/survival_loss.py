"""The loss of discrete-time survival, of hazards in bins of time.

The hazard of a bin is the probability that the event comes in it, given that it has not come before
(Gensheimer, Narasimhan, PeerJ 2019, arXiv 1805.00917).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["survival_losses"]


def survival_losses(out: Tensor, values: Tensor, edges: Sequence[float]) -> Tensor:
    """Return the negative log-likelihood of each time.

    A censored time survives the bins of which it reaches the middle. An event after the last bin
    survives all.

    Args:
        out: (B, bins), logits of the hazards.
        values: (B,), signed times: a censored one is negative.
        edges: Upper bounds of the bins.

    Returns:
        (B,) losses.
    """
    bounds = torch.tensor(edges, dtype=values.dtype, device=values.device)
    middles = (bounds + F.pad(bounds[:-1], (1, 0))) / 2
    times = values.abs()
    place = torch.bucketize(times, bounds)
    happened = ~values.signbit() & (place < len(bounds))
    bins = torch.arange(len(bounds), device=values.device)
    survived = torch.where(happened[:, None], bins < place[:, None], middles <= times[:, None])
    at = place.clamp(max=len(bounds) - 1)[:, None]
    here = F.softplus(-out.gather(1, at)[:, 0])
    return (F.softplus(out) * survived).sum(1) + torch.where(happened, here, 0.0)
