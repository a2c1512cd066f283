"""Losses know only tensors: embeddings (N, D), and pairs, triplets, or whose each embedding is. See `seqmel.objectives.losses.base`."""

from collections.abc import Callable

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
    "barlow_twins": BarlowTwinsLoss,
    "binomial_deviance": BinomialDevianceLoss,
    "circle": CircleLoss,
    "contrastive": ContrastiveLoss,
    "cosface": CosFaceLoss,
    "histogram": HistogramLoss,
    "infonce": InfoNCELoss,
    "lifted_structure": LiftedStructureLoss,
    "margin": MarginLoss,
    "multi_similarity": MultiSimilarityLoss,
    "n_pair": NPairLoss,
    "quadruplet": QuadrupletLoss,
    "supcon": SupConLoss,
    "triplet": TripletLoss,
    "triplet_center": TripletCenterLoss,
    "vicreg": VICRegLoss,
}
"""Name in the config -> the loss; the options of the config are its arguments."""
