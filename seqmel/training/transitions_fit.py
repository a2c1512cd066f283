"""The components of transitions: the directions in which the training clients differ most, from one pass before training."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.nn.transitions import Transitions

__all__ = ["fit_transitions"]

_MOST_CLIENTS = 16_384  # the components of more differ little
_CLIENTS_AT_ONCE = 512
_MOST_EVENTS = 10_000  # of a client


def fit_transitions(module: Transitions, sequences: EncodedSequences, clients: Tensor) -> None:
    """Set the components to the first principal ones of some clients, each with its largest weight above zero.

    Args:
        module: whose table is set.
        sequences: the encoded events.
        clients: (N,) positions; where there are many, that many spread evenly over them.
    """
    clients = clients[torch.linspace(0, len(clients) - 1, min(len(clients), _MOST_CLIENTS)).round().long()]
    pairs = module.slots * (module.slots - 1) // 2
    squares, total = torch.zeros(pairs, pairs, dtype=torch.float64), torch.zeros(pairs, dtype=torch.float64)
    for some in clients.split(_CLIENTS_AT_ONCE):
        rows = module.antisymmetric(sequences.gather_last(some, max_events=_MOST_EVENTS).to("cpu"))
        squares += rows.T @ rows
        total += rows.sum(0)
    mean = total / max(1, len(clients))
    covariance = squares / max(1, len(clients)) - torch.outer(mean, mean)
    components = torch.linalg.eigh(covariance)[1].flip(1)[:, : module.output_size]
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    module.set_components(components * largest.sign())
