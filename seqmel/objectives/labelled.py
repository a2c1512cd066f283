"""What the parts of an objective that learn from labels share: which views have a label, and a head that sees those of all ranks."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from seqmel.core.distributed import all_gather_with_grad
from seqmel.objectives.encoded import Encoded

__all__ = ["Labelled"]


class Labelled(nn.Module):
    """A head on the vectors of views, and a loss of its outputs and the classes of the views' clients.

    Args:
        codes: (clients of the set,) int64, the class of each by its position, 0 to K - 1; -1 where it is not known.
        head: (S, D) vectors -> (S, H) outputs.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("codes", codes, persistent=False)

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a float32 scalar; where several processes train together, that of the views of all."""
        outputs, codes = (
            all_gather_with_grad(self.head(encoded.vectors)),
            all_gather_with_grad(self.codes[encoded.batch.clients]),
        )
        with torch.autocast(outputs.device.type, enabled=False):
            return self.loss(outputs.float(), codes)

    @abstractmethod
    def loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """A scalar from (S, H) outputs and (S,) classes; zero, with zero gradient, where too few are known."""
