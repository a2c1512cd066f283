"""Miners choose the pairs or triplets that a loss compares.

They see embeddings without gradient. See `seqmel.objectives.miners.base`. A miner is one file here,
with the name of the miner. Its options in a config are the arguments of its constructor; tables and
plans are derived from it too.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from seqmel.core.modules import classes_by_file
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

_by_file = classes_by_file(__name__, Miner)
MINERS: dict[str, Callable[..., Miner]] = dict(_by_file)
"""Name in the config -> miner class. The options of the config, except `memory`, are its arguments.
"""

_classes = {kind.__name__: kind for kind in _by_file.values()}
globals().update(_classes)
__all__ = ["MINERS", "MemoryBank", "Miner", "PairMiner", "TripletMiner", *sorted(_classes)]
