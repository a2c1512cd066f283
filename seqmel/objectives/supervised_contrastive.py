"""Supervised contrastive learning on clients with a label, beside the other parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.objectives.labelled import LabelledPart
from seqmel.objectives.losses.pairs import masked_mean
from seqmel.objectives.losses.supcon import costs_of_rows

__all__ = ["SupervisedContrastive"]


class SupervisedContrastive(LabelledPart):
    """Pulls views of one class together (Khosla et al., arXiv 2004.11362).

    Source: NeurIPS 2020, equation 2.

    With s the cosine similarity of projected vectors divided by the temperature, and P(i) the other
    labelled views of the class of view i, including those of its own client,

        L = mean over labelled i of  -1 / |P(i)| * sum over p in P(i) of ( s(i, p) - S(i) ),
        S(i) = log sum over labelled k != i of exp s(i, k).

    Views without a label are neither positives nor negatives. They need another part, such as
    `coles`.

    Args:
        codes: See `LabelledPart`.
        embedding_size: Width of the encoder's vectors.
        head_size: Width of the projection head of this part.
        temperature: Divides the similarities.
    """

    def __init__(
        self, codes: Tensor, *, embedding_size: int, head_size: int = 128, temperature: float = 0.1
    ) -> None:
        inner = nn.Linear(embedding_size, 2 * head_size)
        super().__init__(
            codes, nn.Sequential(inner, nn.GELU(), nn.Linear(2 * head_size, head_size))
        )
        self.temperature = temperature

    def loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Compute the loss, see `LabelledPart.loss`. It is zero if no class has two views."""
        vectors = F.normalize(outputs, dim=1)
        similarity = vectors @ vectors.t() / self.temperature
        known = codes >= 0
        itself = torch.eye(len(codes), dtype=torch.bool, device=codes.device)
        compared = known.unsqueeze(0) & known.unsqueeze(1) & ~itself
        positive = compared & (codes.unsqueeze(0) == codes.unsqueeze(1))
        return masked_mean(*costs_of_rows(similarity, positive, compared))
