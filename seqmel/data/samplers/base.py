"""What all samplers share: which clients there are, and how many make a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary

__all__ = ["Sampler"]


class Sampler(ABC):
    """Makes the batches of an epoch; what it has to know of the clients it finds out once.

    Args:
        sequences: of all clients.
        vocabulary: that they are encoded with.
        clients: (N,) int64, positions of those that are trained on.
        size: clients a batch, at most N.
    """

    def __init__(self, sequences: EncodedSequences, vocabulary: Vocabulary, clients: Tensor, *, size: int) -> None:
        self.clients = clients
        self.size = size

    def __len__(self) -> int:
        """Batches an epoch; clients that do not fill a last one come in another epoch."""
        return len(self.clients) // self.size

    def batches(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """`len` batches of `size` different clients each; no client comes twice.

        Args:
            generator: the source of randomness, on the CPU.
        """
        return torch.split(self.order(generator)[: len(self) * self.size], self.size)

    @abstractmethod
    def order(self, generator: torch.Generator) -> Tensor:
        """(at least len * size,) different clients in the order in which they come."""
