"""Fit the principal components of the pooled states."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.inference.embed import embed_sequences
from seqmel.nn.components import PrincipalComponents
from seqmel.nn.encoder import SequenceEncoder

__all__ = ["fit_components"]

_MAX_CLIENTS = 16_384  # more hardly change the components


def fit_components(
    encoder: SequenceEncoder, sequences: EncodedSequences, clients: Tensor, config: Config
) -> None:
    """Give a trained encoder the principal components of its vectors of some clients.

    Does nothing where `pca_dim` is null, or not below the width of the pooled states.

    Args:
        encoder: On the CPU, in evaluation mode. It gets its `components`.
        sequences: The encoded events.
        clients: (N,) positions. Of more than 16,384 clients, so many are taken at even steps.
        config: All options.
    """
    width = encoder.pooled_size - encoder.pooling.columns_by_category[1]
    if not isinstance(config.pca_dim, int) or config.embedding_dim is not None:
        return
    if config.pca_dim >= width:
        return
    encoder.components = None
    clients = clients[
        torch.linspace(0, len(clients) - 1, min(len(clients), _MAX_CLIENTS)).round().long()
    ]
    vectors = embed_sequences(encoder, sequences.subset(clients), config)
    components = PrincipalComponents(width, config.pca_dim)
    components.fit(encoder.without_categories(vectors))
    encoder.components = components.eval()
