"""Initialise category embeddings from co-occurrences, by factorising their PPMI matrix.

Skip-gram with negative sampling (word2vec) implicitly factorises the pointwise mutual information
of words and contexts. A singular value decomposition gives the same vectors directly and
deterministically (Levy, Goldberg: Neural word embedding as implicit matrix factorization, NIPS
2014). With n(a, b) the number of times that codes a and b of a column are at most `window` events
apart in a client's sequence, and n(a) and n its sums,

    M(a, b) = max(0, log( n(a, b) n / (n(a) n(b)) )),   M = U S V',   vectors W = U S^(1/2).

The event encoder has wider rows. So W is multiplied by a random matrix, which nearly preserves
angles, and scaled to the mean square of the random rows that it replaces. A code without neighbours
keeps its random row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.core.random_streams import Stream, generator
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.category_components_fit import fit_category_components
from seqmel.training.transitions_fit import fit_transitions

__all__ = ["cooccurrences", "factorise", "new_encoder", "ppmi"]

_EVENTS_AT_ONCE = 1_000_000


def new_encoder(
    config: Config,
    vocabulary: Vocabulary,
    sequences: EncodedSequences,
    clients: Tensor | None = None,
) -> SequenceEncoder:
    """Build an encoder with new weights, and initialise its categories by `category_init`.

    Args:
        config: All options.
        vocabulary: The vocabulary of the sequences.
        sequences: The sequences whose co-occurrences are counted.
        clients: Positions of the clients to count. None counts all.
    """
    encoder = SequenceEncoder(config, vocabulary)
    encoder.components = None  # fitted after training
    clients = torch.arange(len(sequences)) if clients is None else clients
    if encoder.recent is not None and encoder.recent.transitions is not None:
        fit_transitions(encoder.recent.transitions, sequences, clients)
    if encoder.recent is not None and encoder.recent.components is not None:
        fit_category_components(encoder.recent.components, sequences, clients)
    if config.event_encoder.category_init is None:
        return encoder
    table = encoder.events.table.data
    random = generator(config.seed, Stream.CATEGORY_INIT)
    for name, codes in vocabulary.categorical.items():
        matrix = ppmi(
            cooccurrences(
                sequences,
                clients,
                name,
                codes=codes.size,
                window=config.event_encoder.category_init_window,
            )
        )
        near = torch.from_numpy(np.asarray(matrix.sum(1)).ravel() > 0)
        if near.any():
            vectors = torch.from_numpy(factorise(matrix, table.shape[1])).float()[near]
            rows = vectors @ torch.randn(vectors.shape[1], table.shape[1], generator=random)
            begin = encoder.events.begins[name]
            table[begin : begin + codes.size][near] = rows / rows.square().mean().sqrt()
    return encoder


def cooccurrences(
    sequences: EncodedSequences, clients: Tensor, column: str, *, codes: int, window: int
) -> Any:
    """Count how often two codes are at most `window` events apart in a sequence.

    Args:
        sequences: The sequences.
        clients: Positions of the clients to count.
        column: A categorical column.
        codes: Its number of codes.
        window: Number of events to either side.

    Returns:
        (codes, codes) sparse and symmetric.
    """
    from scipy.sparse import coo_array, csr_array

    found = csr_array((codes, codes), dtype=np.float64)
    for some in _parts(sequences, clients):
        values = sequences.values(column, some).long()
        owner = torch.repeat_interleave(torch.arange(len(some)), sequences.lengths[some])
        for apart in range(1, window + 1):
            same = owner[apart:] == owner[:-apart]
            pairs, counts = torch.unique(
                values[:-apart][same] * codes + values[apart:][same], return_counts=True
            )
            places = (pairs // codes).numpy(), (pairs % codes).numpy()
            found = (
                found + coo_array((counts.double().numpy(), places), shape=(codes, codes)).tocsr()
            )
    return found + found.T


def _parts(sequences: EncodedSequences, clients: Tensor) -> Iterator[Tensor]:
    """Yield clients in parts of about a million events, at least one client each."""
    ends = sequences.lengths[clients].cumsum(0)
    begin = 0
    while begin < len(clients):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(ends, before + _EVENTS_AT_ONCE, right=True)))
        yield clients[begin:end]
        begin = end


def ppmi(counts: Any) -> Any:
    """Return the positive pointwise mutual information of counts: (codes, codes), sparse."""
    cells = counts.tocoo()
    sums = np.asarray(counts.sum(1)).ravel()
    total = counts.sum()
    one, other = cells.coords
    mutual = cells.copy()
    mutual.data = np.log(np.maximum(1.0, cells.data * total / (sums[one] * sums[other])))
    return mutual.tocsr()


def factorise(matrix: Any, max_size: int) -> npt.NDArray[np.float64]:
    """Return U S^(1/2) of the singular value decomposition, largest first.

    It is deterministic.
    """
    from sklearn.utils.extmath import randomized_svd

    left, singular, _ = randomized_svd(
        matrix, min(max_size, matrix.shape[0]), n_iter=4, random_state=0
    )
    return np.asarray(left * np.sqrt(singular))
