"""Samplers: the clients of each batch, and their order, all from one generator.

A sampler is one file here, with the name of the sampler. Its options in a config are the arguments
of its constructor.
"""

from collections.abc import Callable

from seqmel.core.modules import classes_by_file
from seqmel.data.samplers.base import Sampler
from seqmel.data.samplers.category_balanced import CategoryBalancedSampler
from seqmel.data.samplers.offline_hard import OfflineHardSampler
from seqmel.data.samplers.random import RandomSampler

__all__ = [
    "SAMPLERS",
    "CategoryBalancedSampler",
    "OfflineHardSampler",
    "RandomSampler",
    "Sampler",
]

SAMPLERS: dict[str, Callable[..., Sampler]] = classes_by_file(__name__, Sampler, suffix="Sampler")
"""Name in the config -> sampler. Its options in the config are its keyword arguments."""
