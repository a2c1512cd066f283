"""Losses are functions of tensors: embeddings (N, D), and pairs, triplets or client indices.

See `seqmel.objectives.losses.base`. A loss is one file here, with the name of the loss. Its options
in a config are the arguments of its constructor; tables and plans are derived from it too.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from seqmel.core.modules import classes_by_file
from seqmel.objectives.losses.base import MetricLoss

if TYPE_CHECKING:  # for type checkers and editors; all classes are found below
    from seqmel.objectives.losses.barlow_twins import BarlowTwinsLoss as BarlowTwinsLoss
    from seqmel.objectives.losses.binomial_deviance import (
        BinomialDevianceLoss as BinomialDevianceLoss,
    )
    from seqmel.objectives.losses.circle import CircleLoss as CircleLoss
    from seqmel.objectives.losses.contrastive import ContrastiveLoss as ContrastiveLoss
    from seqmel.objectives.losses.cosface import CosFaceLoss as CosFaceLoss
    from seqmel.objectives.losses.histogram import HistogramLoss as HistogramLoss
    from seqmel.objectives.losses.infonce import InfoNCELoss as InfoNCELoss
    from seqmel.objectives.losses.lifted_structure import (
        LiftedStructureLoss as LiftedStructureLoss,
    )
    from seqmel.objectives.losses.margin import MarginLoss as MarginLoss
    from seqmel.objectives.losses.multi_similarity import (
        MultiSimilarityLoss as MultiSimilarityLoss,
    )
    from seqmel.objectives.losses.n_pair import NPairLoss as NPairLoss
    from seqmel.objectives.losses.quadruplet import QuadrupletLoss as QuadrupletLoss
    from seqmel.objectives.losses.supcon import SupConLoss as SupConLoss
    from seqmel.objectives.losses.triplet import TripletLoss as TripletLoss
    from seqmel.objectives.losses.triplet_center import TripletCenterLoss as TripletCenterLoss
    from seqmel.objectives.losses.vicreg import VICRegLoss as VICRegLoss

_by_file = classes_by_file(__name__, MetricLoss, suffix="Loss")
del _by_file["pml"]  # a library of losses
LOSSES: dict[str, Callable[..., MetricLoss]] = dict(_by_file)
"""Name in the config -> loss class. The options of the config are its arguments."""

_classes = {kind.__name__: kind for kind in _by_file.values()}
globals().update(_classes)
__all__ = ["LOSSES", "MetricLoss", *sorted(_classes)]
