"""What the parts of an objective share: the views of a batch, and what the encoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from seqmel.data.sequences.batch import SequenceBatch, sent
from seqmel.nn.encoder import SequenceEncoder

__all__ = ["Encoded", "ViewBatch"]


@dataclass(frozen=True)
class ViewBatch:
    """The views of a batch and whose they are.

    Attributes:
        sequences: S views.
        clients: (S,) int64; the views of one client stand together.
        clients_on_host: (S,) the same, so that no step has to ask the device whose views there are.
        others: (S,) int64, for each view the next one of the same client, in a circle; itself where there is no other.
    """

    sequences: SequenceBatch
    clients: Tensor
    clients_on_host: Tensor
    others: Tensor

    @classmethod
    def of(cls, sequences: SequenceBatch, clients: Tensor) -> ViewBatch:
        """Views with their clients, on the host."""
        return cls(sequences, clients, clients, _next_of_client(clients))

    def to(self, device: torch.device | str) -> ViewBatch:
        """The same views on another device."""
        clients, others = (sent(x, device) for x in (self.clients, self.others))
        return replace(self, sequences=self.sequences.to(device), clients=clients, others=others)


def _next_of_client(clients: Tensor) -> Tensor:
    if not len(clients):
        return torch.empty(0, dtype=torch.int64)
    _, run, counts = torch.unique_consecutive(clients, return_inverse=True, return_counts=True)
    begins, here = (counts.cumsum(0) - counts)[run], torch.arange(len(clients))
    return begins + (here - begins + 1) % counts[run]


class Encoded:
    """A batch and its encoder; states and vectors are computed when they are first asked for, and once.

    Args:
        encoder, batch: what is encoded by what.
        share_done: how much of the training is done, 0 to 1.
    """

    def __init__(self, encoder: SequenceEncoder, batch: ViewBatch, *, share_done: float = 0.0) -> None:
        self.encoder = encoder
        self.batch = batch
        self.share_done = share_done

    def prefix(self, size: int) -> Encoded:
        """The same with only the first `size` numbers of each vector; states and vectors are not computed again."""
        shorter = Encoded(self.encoder, self.batch, share_done=self.share_done)
        vars(shorter).update(states=self.states, vectors=self.vectors[:, :size])
        return shorter

    @cached_property
    def states(self) -> Tensor:
        """(E, W), see `SequenceEncoder.states`."""
        return self.encoder.states(self.batch.sequences)

    @cached_property
    def vectors(self) -> Tensor:
        """(S, D), see `SequenceEncoder.pool`."""
        return self.encoder.pool(self.states, self.batch.sequences)
