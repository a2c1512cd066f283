"""Base class of all samplers: the clients, and the number of them per batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["Sampler"]


class Sampler(ABC):
    """Yields the client batches of an epoch. Client statistics are computed once.

    Args:
        sequences: The sequences of all clients.
        vocabulary: The vocabulary of the sequences.
        clients: (N,) int64, positions of the training clients.
        size: Clients per batch, at most N.
        clients_per_epoch: Number of clients of an epoch, drawn anew each time. None is all.
    """

    def __init__(
        self,
        sequences: EncodedSequences,
        vocabulary: Vocabulary,
        clients: Tensor,
        *,
        size: int,
        clients_per_epoch: int | None = None,
    ) -> None:
        self.clients = clients
        self.size = size
        self.clients_per_epoch = clients_per_epoch

    def __len__(self) -> int:
        """Number of batches per epoch.

        Clients of an incomplete last batch wait for another epoch.
        """
        return min(len(self.clients), self.clients_per_epoch or len(self.clients)) // self.size

    def batches(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return `len` batches of `size` different clients each. No client appears twice.

        Args:
            generator: The source of randomness, on the CPU.
        """
        return torch.split(self.order(generator)[: len(self) * self.size], self.size)

    @abstractmethod
    def order(self, generator: torch.Generator) -> Tensor:
        """Return (at least len * size,) different clients in the order of the batches."""
