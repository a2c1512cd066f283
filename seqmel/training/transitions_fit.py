"""Fit the components of transitions: directions in which training clients differ most."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.nn.transitions import Transitions

__all__ = ["fit_transitions"]

_MAX_CLIENTS = 16_384  # more hardly change the components
_CLIENTS_AT_ONCE = 512
_MAX_EVENTS = 10_000  # per client


def fit_transitions(module: Transitions, sequences: EncodedSequences, clients: Tensor) -> None:
    """Set the principal components of some clients. The largest weight of each is positive.

    Args:
        module: The module whose components are set.
        sequences: The encoded events.
        clients: (N,) positions. Of more than 16,384 clients, so many are taken at even steps.
    """
    clients = clients[
        torch.linspace(0, len(clients) - 1, min(len(clients), _MAX_CLIENTS)).round().long()
    ]
    pairs = module.slots * (module.slots - 1) // 2
    squares = torch.zeros(pairs, pairs, dtype=torch.float64)
    total = torch.zeros(pairs, dtype=torch.float64)
    for some in clients.split(_CLIENTS_AT_ONCE):
        rows = module.antisymmetric(sequences.gather_last(some, max_events=_MAX_EVENTS).to("cpu"))
        squares += rows.T @ rows
        total += rows.sum(0)
    mean = total / max(1, len(clients))
    covariance = squares / max(1, len(clients)) - torch.outer(mean, mean)
    components = _eigenvectors(covariance).flip(1)[:, : module.output_size]
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    module.set_components(components * largest.sign())


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Return the eigenvectors of a symmetric matrix, in the order of ascending eigenvalues.

    torch's solver may not converge where most rows are zero, as of few clients. That of NumPy does.
    """
    try:
        return torch.linalg.eigh(matrix)[1]
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return torch.from_numpy(np.linalg.eigh(matrix.numpy())[1])
