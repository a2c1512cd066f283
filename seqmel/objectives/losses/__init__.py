"""Losses are functions of tensors: embeddings (N, D), and pairs, triplets or client indices.

See `seqmel.objectives.losses.base`.
"""

from collections.abc import Callable
from typing import get_args

from seqmel.config.options.losses import AnyLossOptions, PMLOptions
from seqmel.config.registry import method_name
from seqmel.objectives.losses.barlow_twins import BarlowTwinsLoss
from seqmel.objectives.losses.base import MetricLoss
from seqmel.objectives.losses.binomial_deviance import BinomialDevianceLoss
from seqmel.objectives.losses.circle import CircleLoss
from seqmel.objectives.losses.contrastive import ContrastiveLoss
from seqmel.objectives.losses.cosface import CosFaceLoss
from seqmel.objectives.losses.histogram import HistogramLoss
from seqmel.objectives.losses.infonce import InfoNCELoss
from seqmel.objectives.losses.lifted_structure import LiftedStructureLoss
from seqmel.objectives.losses.margin import MarginLoss
from seqmel.objectives.losses.multi_similarity import MultiSimilarityLoss
from seqmel.objectives.losses.n_pair import NPairLoss
from seqmel.objectives.losses.quadruplet import QuadrupletLoss
from seqmel.objectives.losses.supcon import SupConLoss
from seqmel.objectives.losses.triplet import TripletLoss
from seqmel.objectives.losses.triplet_center import TripletCenterLoss
from seqmel.objectives.losses.vicreg import VICRegLoss

__all__ = [
    "LOSSES",
    "BarlowTwinsLoss",
    "BinomialDevianceLoss",
    "CircleLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "HistogramLoss",
    "InfoNCELoss",
    "LiftedStructureLoss",
    "MarginLoss",
    "MetricLoss",
    "MultiSimilarityLoss",
    "NPairLoss",
    "QuadrupletLoss",
    "SupConLoss",
    "TripletCenterLoss",
    "TripletLoss",
    "VICRegLoss",
]

LOSSES: dict[str, Callable[..., MetricLoss]] = {
    method_name(options): globals()[options.__name__.removesuffix("Options") + "Loss"]
    for options in get_args(AnyLossOptions)
    if options is not PMLOptions
}
"""Name in the config -> loss class.

The options of the config are its arguments; `CircleOptions` are those of `CircleLoss`.
"""
