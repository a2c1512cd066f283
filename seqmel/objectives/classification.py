"""Classification: a cross-entropy loss on clients with a label, beside the other parts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.objectives.labelled import LabelledPart
from seqmel.objectives.losses.pairs import masked_mean
from seqmel.objectives.parts import mlp_head

__all__ = ["Classification"]


class Classification(LabelledPart):
    """Classifies the labelled clients of a batch, as one part of an objective.

    Sun et al.: Deep learning face representation by joint identification-verification (NIPS 2014,
    arXiv 1406.4773), a softmax over known classes beside a loss over pairs. With h a small network
    on the vector x_i of a view, y_i the class of its client, and w the weight of a class,

        L = mean over labelled views i of  w(y_i) * cross-entropy( softmax h(x_i), y_i ).

    Label smoothing e gives 1 - e to the class of the label and spreads e over all K (Szegedy et
    al., arXiv 1512.00567, section 7). Balanced weights are n / (K n_y) for n labelled clients, n_y
    of them in class y. Views without a label do not contribute.

    Args:
        codes: See `LabelledPart`. At least one class is known.
        embedding_size: Width of the encoder's vectors.
        head_size: Width of the hidden layer.
        label_smoothing: e.
        class_weight: "balanced", or None for equal weights of all clients.
    """

    class_weights: Tensor

    def __init__(
        self,
        codes: Tensor,
        *,
        embedding_size: int,
        head_size: int = 128,
        label_smoothing: float = 0.0,
        class_weight: str | None = None,
    ) -> None:
        counts = codes[codes >= 0].bincount().float()
        super().__init__(codes, mlp_head(embedding_size, head_size, outputs=len(counts)))
        balanced = counts.sum() / (len(counts) * counts)
        weights = balanced if class_weight == "balanced" else torch.ones_like(counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Compute the loss, see `LabelledPart.loss`."""
        costs = F.cross_entropy(
            outputs, codes, reduction="none", ignore_index=-1, label_smoothing=self.label_smoothing
        )
        return masked_mean(self.class_weights[codes.clamp(min=0)] * costs, codes >= 0)
