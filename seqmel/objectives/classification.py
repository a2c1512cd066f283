"""Classification with labels for some clients, beside other parts: metric loss plus classification loss as a weighted sum.

Sun et al.: Deep learning face representation by joint identification-verification (NIPS 2014, arXiv 1406.4773): a softmax over
known classes beside a loss over pairs. Classes are those of the clients that have a label; with h a small network on the vector of
a view, y its client's class, and w the weight of a class,

    L = mean over labelled views i of  w(y_i) * cross-entropy( softmax h(x_i), y_i ).

With smoothing e a label stands for 1 - e of its class and e of all K (Szegedy et al., arXiv 1512.00567, section 7); balanced
weights are n / (K n_y) of the n labelled clients, so that each class counts the same. Views without a label have no part in
it; they learn from the other parts of the objective.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from seqmel.objectives.labelled import Labelled
from seqmel.objectives.losses.pairs import masked_mean
from seqmel.objectives.parts import answer_head

__all__ = ["Classification"]


class Classification(Labelled):
    """See the module's text.

    Args:
        codes: see `Labelled`; at least one is known.
        embedding_size: width of the encoder's vectors.
        head_size: width of the network's inner layer.
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
        super().__init__(codes, answer_head(embedding_size, head_size, answers=len(counts)))
        weights = counts.sum() / (len(counts) * counts) if class_weight == "balanced" else counts.new_ones(len(counts))
        self.register_buffer("class_weights", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """See `Labelled`; zero where no view has a label."""
        costs = F.cross_entropy(outputs, codes, reduction="none", ignore_index=-1, label_smoothing=self.label_smoothing)
        return masked_mean(self.class_weights[codes.clamp(min=0)] * costs, codes >= 0)
