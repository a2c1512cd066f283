"""Fit the components of transitions: directions in which training clients differ most."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.core.eigenvectors import leading_eigenvectors
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.nn.transitions import Transitions

__all__ = ["fit_transitions", "sample_evenly"]

_MAX_CLIENTS = 16_384  # more hardly change the components
_CLIENTS_AT_ONCE = 512
_MAX_EVENTS = 10_000  # per client


def fit_transitions(module: Transitions, sequences: EncodedSequences, clients: Tensor) -> None:
    """Set the principal components of some clients. The largest weight of each is positive.

    Args:
        module: The module whose components are set.
        sequences: The encoded events.
        clients: (N,) positions. Of more than 16,384 clients, 16,384 are taken at even steps.
    """
    clients = sample_evenly(clients)
    pairs = module.slots * (module.slots - 1) // 2
    squares = torch.zeros(pairs, pairs, dtype=torch.float64)
    total = torch.zeros(pairs, dtype=torch.float64)
    for some in clients.split(_CLIENTS_AT_ONCE):
        rows = module.antisymmetric(sequences.gather_last(some, max_events=_MAX_EVENTS).to("cpu"))
        squares += rows.T @ rows
        total += rows.sum(0)
    mean = total / max(1, len(clients))
    covariance = squares / max(1, len(clients)) - torch.outer(mean, mean)
    module.set_components(leading_eigenvectors(covariance, module.output_size)[1])


def sample_evenly(clients: Tensor) -> Tensor:
    """Return at most 16,384 clients, at even steps."""
    steps = torch.linspace(0, len(clients) - 1, min(len(clients), _MAX_CLIENTS))
    return clients[steps.round().long()]
