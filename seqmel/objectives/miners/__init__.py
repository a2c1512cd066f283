"""Miners choose the pairs or triplets that a loss compares.

They see embeddings without gradient. See `seqmel.objectives.miners.base`. A miner is one file here,
with the name of the miner, and its options in `seqmel.config.options.miners`; everything else is
derived from the two.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from seqmel.config.options.miners import AnyMinerOptions
from seqmel.config.registry import class_of, method_name
from seqmel.objectives.miners.base import Miner, PairMiner, TripletMiner
from seqmel.objectives.miners.memory import MemoryBank

if TYPE_CHECKING:  # for type checkers and editors; all classes are found below
    from seqmel.objectives.miners.all_negatives import AllNegatives as AllNegatives
    from seqmel.objectives.miners.batch_all import BatchAll as BatchAll
    from seqmel.objectives.miners.batch_hard import BatchHard as BatchHard
    from seqmel.objectives.miners.batch_weighted import BatchWeighted as BatchWeighted
    from seqmel.objectives.miners.distance_weighted import DistanceWeighted as DistanceWeighted
    from seqmel.objectives.miners.easy_positive import EasyPositive as EasyPositive
    from seqmel.objectives.miners.hard_negatives import HardNegatives as HardNegatives
    from seqmel.objectives.miners.random_negatives import RandomNegatives as RandomNegatives
    from seqmel.objectives.miners.semi_hard import SemiHard as SemiHard

MINERS: dict[str, Callable[..., Miner]] = {
    method_name(options): class_of(options, __name__) for options in get_args(AnyMinerOptions)
}
"""Name in the config -> miner class. The options of the config, except `memory`, are its arguments.
"""

_classes = {kind.__name__: kind for kind in MINERS.values()}
globals().update(_classes)
__all__ = ["MINERS", "MemoryBank", "Miner", "PairMiner", "TripletMiner", *sorted(_classes)]
