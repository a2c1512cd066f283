"""Fit the principal components of the pooled states, and keep those that clients repeat.

A component belongs in the vector if it describes the client, and not the events that happened to be
drawn. This shows without labels: the events of each client are dealt out to two halves, and a
component that describes clients is alike in both. Its split-half reliability is the correlation of
the two over clients (Spearman, "Correlation calculated from faulty data", 1910). With many events
per client nearly all components are reliable. With two or three events per client, few are, and the
others would only hide from LightGBM what stands beside them.

Where events are parts of one whole, such as the points of a pen stroke, the two halves complete
each other, and many components are opposite in them. Then the halves tell nothing, and all
components are kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seqmel.config import Config
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.inference.embed import embed_sequences, map_batches, token_batches
from seqmel.nn.components import PrincipalComponents
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.transitions_fit import sample_evenly

__all__ = ["config_of_components", "fit_components", "with_most_components"]

_RELIABLE = 0.2  # correlation between the halves of a client's events
_LEAST_COMPONENTS = 8
_MOST_OPPOSITE = 0.1  # fraction of components whose correlation is as large, but negative
_LEAST_EVENTS = 4  # of a client, so that a half has two
_LEAST_CLIENTS = 100  # with so many events; of fewer, a correlation says little


def with_most_components(config: Config, clients: int) -> Config:
    """Return the config with the most components that `pca_dim: auto` takes."""
    if config.pca_dim != "auto":
        return config
    # Small components of few clients are noise, and a linear model scales them up.
    most = min(256, max(32, round(2 * math.sqrt(clients))))
    return config.model_copy(update={"pca_dim": most})


def fit_components(
    encoder: SequenceEncoder, sequences: EncodedSequences, clients: Tensor, config: Config
) -> None:
    """Give a trained encoder the principal components of its vectors of some clients.

    Does nothing where `pca_dim` is null, or not below the width of the pooled states. Where it is
    auto, components that are not reliable are left out.

    Args:
        encoder: On the CPU, in evaluation mode. It gets its `components`.
        sequences: The encoded events.
        clients: (N,) positions. Of more than 16,384 clients, 16,384 are taken at even steps.
        config: All options.
    """
    by_data = config.pca_dim == "auto"
    config = with_most_components(config, len(sequences))
    components = encoder.new_components(config)
    if components is None:
        return
    encoder.components = None
    clients = sample_evenly(clients)
    vectors = embed_sequences(encoder, sequences.subset(clients), config)
    components.fit(encoder.without_categories(vectors))
    if components.of_last_event is not None:
        components.of_last_event.fit(encoder.last_events(vectors))
    if by_data:
        even, odd = _components_of_halves(encoder, components, sequences, clients, config)
        components.keep(_reliable(even, odd))
    encoder.components = components.eval()


def config_of_components(config: Config, encoder: SequenceEncoder) -> Config:
    """Return the config with the `pca_dim` that the encoder has, where it was left to the data."""
    components = encoder.components
    if components is None and config.pca_dim != "auto":
        return config
    return config.model_copy(update={"pca_dim": None if components is None else components.dim})


@torch.no_grad()
def _components_of_halves(
    encoder: SequenceEncoder,
    components: PrincipalComponents,
    sequences: EncodedSequences,
    clients: Tensor,
    config: Config,
) -> tuple[Tensor, Tensor]:
    """Return the components of every other event of each client with enough, and of the rest.

    Returns:
        Two of (M, K), for the M clients that have enough events.
    """
    lengths = sequences.lengths[clients].clamp(max=config.embedding.max_events)
    clients, lengths = clients[lengths >= _LEAST_EVENTS], lengths[lengths >= _LEAST_EVENTS]

    def halves_of(some: Tensor) -> tuple[Tensor, Tensor]:
        batch = sequences.gather_last(clients[some], max_events=config.embedding.max_events)
        even, odd = (
            components(encoder.without_categories(encoder.embed(half.to("cpu")).float()))
            for half in (batch.every_other(0), batch.every_other(1))
        )
        return even, odd

    parts = token_batches(lengths, config.events_at_a_time)
    halves = [both for _, both in map_batches(halves_of, parts, encoder, device="cpu")]
    if not halves:
        return torch.empty(0, components.dim), torch.empty(0, components.dim)
    even, odd = zip(*halves, strict=True)
    return torch.cat(even), torch.cat(odd)


def _reliable(even: Tensor, odd: Tensor) -> Tensor:
    """Return the components that are alike in both halves, and at least the first few.

    All are kept where there are few clients, and where many components are opposite in the halves.

    Args:
        even: (M, K), the components of one half of the events of each client.
        odd: (M, K), those of the other.

    Returns:
        (K',) int64, in ascending order.
    """
    kept = torch.arange(even.shape[1])
    if len(even) < _LEAST_CLIENTS:
        return kept
    a, b = (
        torch.nn.functional.normalize(half.double() - half.double().mean(0), dim=0)
        for half in (even, odd)
    )
    reliability = (a * b).sum(0)
    if int((reliability <= -_RELIABLE).sum()) > _MOST_OPPOSITE * len(kept):
        return kept
    return kept[(reliability >= _RELIABLE) | (kept < _LEAST_COMPONENTS)]
