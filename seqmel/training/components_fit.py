"""Fit the principal components of the pooled states."""

from __future__ import annotations

from torch import Tensor

from seqmel.config import Config
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.inference.embed import embed_sequences
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.transitions_fit import sample_evenly

__all__ = ["fit_components"]


def fit_components(
    encoder: SequenceEncoder, sequences: EncodedSequences, clients: Tensor, config: Config
) -> None:
    """Give a trained encoder the principal components of its vectors of some clients.

    Does nothing where `pca_dim` is null, or not below the width of the pooled states.

    Args:
        encoder: On the CPU, in evaluation mode. It gets its `components`.
        sequences: The encoded events.
        clients: (N,) positions. Of more than 16,384 clients, 16,384 are taken at even steps.
        config: All options.
    """
    components = encoder.new_components(config)
    if components is None:
        return
    encoder.components = None
    vectors = embed_sequences(encoder, sequences.subset(sample_evenly(clients)), config)
    components.fit(encoder.without_categories(vectors))
    if components.of_last_event is not None:
        components.of_last_event.fit(encoder.last_events(vectors))
    encoder.components = components.eval()
