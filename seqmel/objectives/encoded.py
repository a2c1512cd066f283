"""A batch of views and its encoding, which the parts of an objective share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.pooling import side_by_side
from seqmel.objectives.parts import subsequence_rows, subsequences

__all__ = ["Encoded", "ViewBatch"]


@dataclass(frozen=True)
class ViewBatch:
    """The views of a batch and their clients.

    Attributes:
        sequences: S views.
        clients: (S,) int64. The views of one client are consecutive.
        clients_on_host: (S,) the same on the CPU, to avoid waiting for the device.
        others: (S,) int64, the next view of the same client in circular order. A single view of a
            client is its own next view.
    """

    sequences: SequenceBatch
    clients: Tensor
    clients_on_host: Tensor
    others: Tensor

    @classmethod
    def of(cls, sequences: SequenceBatch, clients: Tensor) -> ViewBatch:
        """Make a batch of views and clients (S,) that are on the host."""
        return cls(sequences, clients, clients, _next_of_client(clients))

    def to(self, device: torch.device | str) -> ViewBatch:
        """Move the views to another device."""
        clients = to_device_async(self.clients, device)
        others = to_device_async(self.others, device)
        return replace(self, sequences=self.sequences.to(device), clients=clients, others=others)


def _first_of_client(clients: Tensor, count: int | None) -> Tensor | None:
    """Return the first `count` views of each client, or None if these are all views."""
    if count is None or not len(clients):
        return None
    _, client_index, counts = torch.unique_consecutive(
        clients, return_inverse=True, return_counts=True
    )
    places = torch.arange(len(clients)) - (counts.cumsum(0) - counts)[client_index]
    return None if int(counts.max()) <= count else (places < count).nonzero()[:, 0]


def _next_of_client(clients: Tensor) -> Tensor:
    if not len(clients):
        return torch.empty(0, dtype=torch.int64)
    _, client_index, counts = torch.unique_consecutive(
        clients, return_inverse=True, return_counts=True
    )
    begins = (counts.cumsum(0) - counts)[client_index]
    positions = torch.arange(len(clients))
    return begins + (positions - begins + 1) % counts[client_index]


class Encoded:
    """A batch and its encoder. States and vectors are computed on first use, and only once.

    Args:
        encoder: The encoder.
        batch: The views.
        progress: Training progress in [0, 1].
        events_at_a_time: If given, vectors are computed from so many events at a time, and again
            for their gradients. So only the vectors of the whole batch are in memory. The gradients
            are the same (Gao et al.: Scaling deep contrastive learning batch size under memory
            limited setup, arXiv 2101.06983, section 3.2; Chen et al., arXiv 1604.06174).
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        batch: ViewBatch,
        *,
        progress: float = 0.0,
        events_at_a_time: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.batch = batch
        self.progress = progress
        self.events_at_a_time = events_at_a_time

    def prefix(self, size: int) -> Encoded:
        """Return a copy whose vectors are truncated to `size`, without encoding again."""
        shorter = Encoded(self.encoder, self.batch, progress=self.progress)
        vars(shorter).update(vectors=self.vectors[:, :size])
        return shorter

    @cached_property
    def events(self) -> Tensor:
        """(E, H) encoded events, see `EventEncoder.forward`."""
        return self.encoder.events(self.batch.sequences)

    @cached_property
    def parts(self) -> list[Tensor]:
        """The columns of the states, see `SequenceEncoder.parts`."""
        return self.encoder.parts(self.events, self.batch.sequences)

    @cached_property
    def states(self) -> Tensor:
        """(E, W) states, see `SequenceEncoder.states`."""
        return side_by_side(self.parts)

    def first_views(self, count: int | None) -> tuple[SequenceBatch, Tensor]:
        """Select the first views of each client.

        If vectors depend on the encoded events alone, the sequence encoder runs on these views
        only.

        Args:
            count: Number of views per client. None gives all.

        Returns:
            The views, and the states of their events (E', W).
        """
        events = self.batch.sequences
        chosen = _first_of_client(self.batch.clients_on_host, count)
        if chosen is None:
            return events, self.states
        begins = events.lengths.cumsum(0) - events.lengths
        lengths = events.lengths[chosen]
        rows = to_device_async(subsequence_rows(begins[chosen], lengths), events.device)
        selected = subsequences(events, begins[chosen], lengths)
        if not self.encoder.compares_events_alone or "parts" in vars(self):
            return selected, take_rows(self.states, rows)
        return selected, side_by_side(self.encoder.parts(take_rows(self.events, rows), selected))

    @cached_property
    def vectors(self) -> Tensor:
        """(S, D) vectors, see `SequenceEncoder.pool`."""
        if self.events_at_a_time is not None:
            return torch.cat(
                [
                    self._recomputed(part)
                    for part in self.batch.sequences.split(self.events_at_a_time)
                ]
            )
        parts = [self.events] if self.encoder.compares_events_alone else self.parts
        return self.encoder.pool(parts, self.batch.sequences)

    def _recomputed(self, sequences: SequenceBatch) -> Tensor:
        """Encode sequences. What gradients need is not kept, but computed again."""

        def encode(_: Tensor) -> Tensor:
            return self.encoder.encode(sequences)

        # The tensor says whose random numbers are drawn again: those of its device.
        vectors: Tensor = checkpoint(encode, sequences.time, use_reentrant=False)
        return vectors
