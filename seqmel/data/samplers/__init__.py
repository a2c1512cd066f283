"""Samplers: the clients of each batch, and their order, all from one generator."""

from collections.abc import Callable

from seqmel.data.samplers.base import Sampler
from seqmel.data.samplers.category_balanced import CategoryBalanced
from seqmel.data.samplers.offline_hard import OfflineHard
from seqmel.data.samplers.random import RandomClients

__all__ = ["SAMPLERS", "CategoryBalanced", "OfflineHard", "RandomClients", "Sampler"]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "category_balanced": CategoryBalanced,
    "offline_hard": OfflineHard,
    "random": RandomClients,
}
"""Name in the config -> sampler. Its options in the config are its keyword arguments."""
