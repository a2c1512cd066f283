"""Base class of the parts of an objective that learn from labels."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from seqmel.core.distributed import all_gather_with_grad
from seqmel.objectives.encoded import Encoded

__all__ = ["LabelledPart"]


class LabelledPart(nn.Module):
    """A head on the vectors of views, and a loss on its outputs and the classes of the clients.

    Args:
        codes: (N,) int64, the class of each client of the set, 0 to K - 1, or -1 if it is unknown.
        head: (S, D) vectors -> (S, H) outputs.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("codes", codes, persistent=False)

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss over the views of all ranks, a float32 scalar."""
        outputs = all_gather_with_grad(self.head(encoded.vectors))
        codes = all_gather_with_grad(self.codes[encoded.batch.clients])
        with torch.autocast(outputs.device.type, enabled=False):
            return self.loss(outputs.float(), codes)

    @abstractmethod
    def loss(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Compute a scalar from (S, H) outputs and (S,) classes.

        It is zero, with zero gradient, if too few classes are known.
        """
