"""What the parts of an objective share: the views of a batch, and what the encoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.pooling import side_by_side
from seqmel.objectives.parts import rows_of_runs, runs

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
        clients, others = (to_device_async(x, device) for x in (self.clients, self.others))
        return replace(self, sequences=self.sequences.to(device), clients=clients, others=others)


def _first_of_client(clients: Tensor, count: int | None) -> Tensor | None:
    """The numbers of the first `count` views of each client; None where these are all."""
    if count is None or not len(clients):
        return None
    _, run, counts = torch.unique_consecutive(clients, return_inverse=True, return_counts=True)
    places = torch.arange(len(clients)) - (counts.cumsum(0) - counts)[run]
    return None if int(counts.max()) <= count else (places < count).nonzero()[:, 0]


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

    def __init__(self, encoder: SequenceEncoder, batch: ViewBatch, *, progress: float = 0.0) -> None:
        self.encoder = encoder
        self.batch = batch
        self.progress = progress

    def prefix(self, size: int) -> Encoded:
        """The same with only the first `size` numbers of each vector; states and vectors are not computed again."""
        shorter = Encoded(self.encoder, self.batch, progress=self.progress)
        vars(shorter).update(states=self.states, vectors=self.vectors[:, :size])
        return shorter

    @cached_property
    def events(self) -> Tensor:
        """(E, H), see `EventEncoder.forward`."""
        return self.encoder.events(self.batch.sequences)

    @cached_property
    def parts(self) -> list[Tensor]:
        """The columns of the states, see `SequenceEncoder.parts`."""
        return self.encoder.parts(self.events, self.batch.sequences)

    @cached_property
    def states(self) -> Tensor:
        """(E, W), see `SequenceEncoder.states`."""
        return side_by_side(self.parts)

    def first_views(self, count: int | None) -> tuple[SequenceBatch, Tensor]:
        """The first views of each client, and their states.

        Args:
            count: how many of each client; None gives all.

        Returns:
            The views, and (E', W) the states of their events. Where objectives see the encoded events alone, the sequence
            encoder goes through no other views than these.
        """
        events = self.batch.sequences
        chosen = _first_of_client(self.batch.clients_on_host, count)
        if chosen is None:
            return events, self.states
        begins = events.lengths.cumsum(0) - events.lengths
        lengths = events.lengths[chosen]
        rows = to_device_async(rows_of_runs(begins[chosen], lengths), events.device)
        few = runs(events, begins[chosen], lengths)
        if not self.encoder.compares_events_alone or "parts" in vars(self):
            return few, take_rows(self.states, rows)
        return few, side_by_side(self.encoder.parts(take_rows(self.events, rows), few))

    @cached_property
    def vectors(self) -> Tensor:
        """(S, D), see `SequenceEncoder.pool`."""
        parts = [self.events] if self.encoder.compares_events_alone else self.parts
        return self.encoder.pool(parts, self.batch.sequences)
