"""Miners choose the pairs or triplets that a loss compares.

They see embeddings without gradient. See `seqmel.objectives.miners.base`.
"""

from collections.abc import Callable
from typing import get_args

from seqmel.config.options.miners import AnyMinerOptions
from seqmel.config.registry import method_name
from seqmel.objectives.miners.all_negatives import AllNegatives
from seqmel.objectives.miners.base import Miner, PairMiner, TripletMiner
from seqmel.objectives.miners.batch_all import BatchAll
from seqmel.objectives.miners.batch_hard import BatchHard
from seqmel.objectives.miners.batch_weighted import BatchWeighted
from seqmel.objectives.miners.distance_weighted import DistanceWeighted
from seqmel.objectives.miners.easy_positive import EasyPositive
from seqmel.objectives.miners.hard_negatives import HardNegatives
from seqmel.objectives.miners.memory import MemoryBank
from seqmel.objectives.miners.random_negatives import RandomNegatives
from seqmel.objectives.miners.semi_hard import SemiHard

__all__ = [
    "MINERS",
    "AllNegatives",
    "BatchAll",
    "BatchHard",
    "BatchWeighted",
    "DistanceWeighted",
    "EasyPositive",
    "HardNegatives",
    "MemoryBank",
    "Miner",
    "PairMiner",
    "RandomNegatives",
    "SemiHard",
    "TripletMiner",
]

MINERS: dict[str, Callable[..., Miner]] = {
    method_name(options): globals()[options.__name__.removesuffix("Options")]
    for options in get_args(AnyMinerOptions)
}
"""Name in the config -> miner class.

The options of the config, except `memory`, are its arguments; `BatchHardOptions` are those of
`BatchHard`.
"""
