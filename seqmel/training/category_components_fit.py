"""Fit the components of categories of many values by latent semantic analysis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import UNSEEN
from seqmel.nn.category_components import COMPONENTS, CategoryComponents
from seqmel.training.transitions_fit import sample_evenly

__all__ = ["fit_category_components"]

_CLIENTS_AT_ONCE = 512


def fit_category_components(
    module: CategoryComponents, sequences: EncodedSequences, clients: Tensor
) -> None:
    """Set the tables of the values of some clients. The largest weight of each is positive.

    Null and rare values have rows of zeros: they are not one value.

    Args:
        module: The module whose tables are set.
        sequences: The encoded events.
        clients: (N,) positions. Of more than 16,384 clients, 16,384 are taken at even steps.
    """
    clients = sample_evenly(clients)
    for name in module.columns:
        table = module.table(name)
        table.copy_(_rows_of_values(_counts(module, name, sequences, clients)))


def _counts(
    module: CategoryComponents, column: str, sequences: EncodedSequences, clients: Tensor
) -> Any:
    """Count how often each client has each code: (N, codes), sparse."""
    from scipy.sparse import csr_array, vstack

    size = len(module.table(column))
    found = [csr_array((0, size))]
    for some in clients.split(_CLIENTS_AT_ONCE):
        codes = module.codes(column, sequences.values(column, some)).numpy()
        owner = np.repeat(np.arange(len(some)), sequences.lengths[some].numpy())
        owner = np.broadcast_to(owner.reshape(-1, *(1,) * (codes.ndim - 1)), codes.shape)
        known = codes > UNSEEN
        ones = np.ones(int(known.sum()))
        found.append(csr_array((ones, (owner[known], codes[known])), shape=(len(some), size)))
    return vstack(found, format="csr")


def _rows_of_values(counts: Any) -> Tensor:
    """Return a row for each code, (codes, COMPONENTS), from counts (N, codes)."""
    from sklearn.utils.extmath import randomized_svd

    clients, codes = counts.shape
    found = torch.zeros(codes, COMPONENTS)
    having = np.bincount(counts.indices, minlength=codes)
    weights = np.where(having > 0, 1 + np.log(max(clients, 1) / np.maximum(having, 1)), 0.0)
    counts.data = (1 + np.log(counts.data)) * weights[counts.indices]
    lengths = np.sqrt(np.asarray(counts.power(2).sum(1)).ravel())
    counts.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(counts.indptr))
    rank = min(COMPONENTS, clients, int((having > 0).sum()))
    if not rank:
        return found
    _, singular, directions = randomized_svd(counts, rank, n_iter=4, random_state=0)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    directions *= np.sign(largest) * (singular > 1e-6 * singular[0])[:, None]
    found[:, :rank] = torch.from_numpy(directions.T * weights[:, None]).float()
    return found
