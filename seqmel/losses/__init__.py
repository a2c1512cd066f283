"""Losses know only tensors: embeddings (N, D), and pairs, triplets, or whose each embedding is. See `seqmel.losses.base`."""

from collections.abc import Callable

from seqmel.losses.barlow_twins import BarlowTwinsLoss
from seqmel.losses.base import MetricLoss
from seqmel.losses.binomial_deviance import BinomialDevianceLoss
from seqmel.losses.circle import CircleLoss
from seqmel.losses.contrastive import ContrastiveLoss
from seqmel.losses.cosface import CosFaceLoss
from seqmel.losses.histogram import HistogramLoss
from seqmel.losses.infonce import InfoNCELoss
from seqmel.losses.lifted_structure import LiftedStructureLoss
from seqmel.losses.margin import MarginLoss
from seqmel.losses.multi_similarity import MultiSimilarityLoss
from seqmel.losses.n_pair import NPairLoss
from seqmel.losses.quadruplet import QuadrupletLoss
from seqmel.losses.supcon import SupConLoss
from seqmel.losses.triplet import TripletLoss
from seqmel.losses.triplet_center import TripletCenterLoss
from seqmel.losses.vicreg import VICRegLoss

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
