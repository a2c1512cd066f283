"""Miners choose the pairs or triplets that a loss looks at. They see embeddings without gradient. See `seqmel.objectives.miners.base`."""

from collections.abc import Callable

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
    "all_negatives": AllNegatives,
    "batch_all": BatchAll,
    "batch_hard": BatchHard,
    "batch_weighted": BatchWeighted,
    "distance_weighted": DistanceWeighted,
    "easy_positive": EasyPositive,
    "hard_negatives": HardNegatives,
    "random_negatives": RandomNegatives,
    "semi_hard": SemiHard,
}
"""Name in the config -> the miner; the options of the config, besides `memory`, are its arguments."""
