"""The options of the losses; see `seqmel.objectives.losses` for the methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from seqmel.config.options.base import (
    Above,
    NotNegative,
    Options,
    all_of,
    also_named,
    is_lenient,
    named,
    named_or,
)

__all__ = [
    "OTHER_LOSS_NAMES",
    "AnyLossOptions",
    "InfoNCEOptions",
    "LossBase",
    "LossOptions",
    "PMLOptions",
]

OTHER_LOSS_NAMES = {"nt_xent": "infonce", "supervised_contrastive": "supcon"}
"""Other name -> ours."""

Margin: TypeAlias = Annotated[float, Field(gt=0, le=2)]
"""Unit vectors are at most 2 apart."""


class LossBase(Options):
    """Options of a loss."""

    if TYPE_CHECKING:
        name: str

    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "batch"
    """What the loss takes: the miner has to give it; a whole-batch loss has no miner."""
    default_miner: ClassVar[str | None] = None

    @model_validator(mode="after")
    def _grows(self, info: ValidationInfo) -> Any:
        start, end = getattr(self, "margin_start", None), getattr(self, "margin", None)
        if start is not None and end is not None and start > end and not is_lenient(info):
            raise ValueError(
                f"margin_start {start} is larger than margin {end}; the margin increases from "
                f"margin_start to margin"
            )
        return self


class _PairLoss(LossBase):
    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "pairs"
    default_miner: ClassVar[str | None] = "hard_negatives"


class ContrastiveOptions(_PairLoss):
    """Squared distance of positive pairs, max(0, margin - distance) squared of mined negatives."""

    name: Literal["contrastive"]
    margin: Margin = 0.5
    """Distance beyond which negatives cost nothing."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""
    positive_margin: Annotated[float, Field(ge=0, lt=2)] = 0.0
    """Distance below which positives cost nothing."""
    power: Literal[1, 2] = 2
    """Exponent of the distances."""
    reduction: Literal["mean", "sum"] = "mean"
    """mean over active pairs, or sum."""


class BinomialDevianceOptions(_PairLoss):
    """Pairs: logistic regression of "same client" on the similarity."""

    name: Literal["binomial_deviance"]
    alpha: Above = 2.0
    """Slope."""
    beta: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """Similarity at the decision boundary."""
    negative_cost: Above = 10.0
    """Slope factor of negatives."""


class MarginOptions(_PairLoss):
    """Pairs: a learnt boundary between near and far."""

    default_miner: ClassVar[str | None] = "distance_weighted"
    name: Literal["margin"]
    margin: Margin = 0.2
    """Half-width of the margin around the boundary."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""
    beta: Annotated[float, Field(ge=0, le=2)] = 1.2
    """Initial distance of the boundary."""
    learn_beta: bool = True
    """Whether the boundary is learnt."""
    beta_weight: NotNegative = 0.0
    """Regularisation of a learnt boundary."""

    @model_validator(mode="after")
    def _weight_has_a_use(self, info: ValidationInfo) -> Any:
        if self.beta_weight and not self.learn_beta and not is_lenient(info):
            raise ValueError(
                f"beta_weight {self.beta_weight:g} regularises a learnt beta, and learn_beta is "
                "false"
            )
        return self


class TripletOptions(LossBase):
    """Triplets: the negative is farther away than the positive by a margin."""

    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "triplets"
    default_miner: ClassVar[str | None] = "semi_hard"
    name: Literal["triplet"]
    margin: Margin = 0.3
    """Margin between the distances."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""
    reduction: Literal["mean", "active"] = "mean"
    """mean over all triplets, or over the active ones."""


class InfoNCEOptions(LossBase):
    """Softmax over all views of the batch, for each positive pair; takes no miner."""

    name: Literal["infonce"] = "infonce"
    temperature: Above = 0.1
    """Softmax temperature."""


class SupConOptions(LossBase):
    """Supervised contrastive: softmax over all other views, with all positives in the numerator."""

    name: Literal["supcon"]
    temperature: Above = 0.1
    """Softmax temperature."""


class HistogramOptions(LossBase):
    """Probability that a negative pair is more similar than a positive one, by histograms."""

    name: Literal["histogram"]
    bins: Annotated[int, Field(ge=3, le=10_000)] = 100
    """Histogram bins."""


class NPairOptions(LossBase):
    """Softmax over dot products of one pair of views against those of other clients."""

    name: Literal["n_pair"]
    length_weight: NotNegative = 0.002
    """Regularisation of the length of embeddings."""


class QuadrupletOptions(LossBase):
    """A triplet term, and one with negatives of two further clients."""

    name: Literal["quadruplet"]
    margin: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Margin of the triplet term."""
    margin_start: Annotated[float, Field(ge=0, le=4)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""
    other_margin: Annotated[float, Field(gt=0, le=4)] = 0.25
    """Margin of the second term."""


class TripletCenterOptions(LossBase):
    """The centre of the client's views is nearer than any other centre by a margin."""

    name: Literal["triplet_center"]
    margin: Margin = 0.3
    """Margin between the distances."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""


class LiftedStructureOptions(LossBase):
    """Each positive pair against all negatives of both its views."""

    name: Literal["lifted_structure"]
    margin: Margin = 1.0
    """Margin."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""


class MultiSimilarityOptions(LossBase):
    """Pairs weighted by their similarity, and by that of other pairs of the anchor."""

    name: Literal["multi_similarity"]
    alpha: Above = 2.0
    """Slope of positives."""
    beta: Above = 50.0
    """Slope of negatives."""
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """Similarity at the decision boundary."""
    epsilon: NotNegative | None = 0.1
    """Margin of the pair selection; null keeps all pairs."""


class CosFaceOptions(LossBase):
    """Softmax with a margin over the clients of the batch, each given by its mean direction."""

    name: Literal["cosface"]
    margin: Margin = 0.2
    """Margin on the cosine."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""
    scale: Above = 16.0
    """Scale of the cosine."""


class CircleOptions(LossBase):
    """Each similarity is weighted by its distance from its optimum."""

    name: Literal["circle"]
    margin: Annotated[float, Field(gt=-1, lt=1)] = 0.25
    """Relaxation margin."""
    scale: Above = 80.0
    """Scale."""


class VICRegOptions(LossBase):
    """Variance, invariance and covariance regularisation of two views; without negatives."""

    name: Literal["vicreg"]
    invariance: NotNegative = 25.0
    """Weight of the distance between views."""
    variance: NotNegative = 25.0
    """Weight of the variance term."""
    covariance: NotNegative = 1.0
    """Weight of the covariance term."""


class BarlowTwinsOptions(LossBase):
    """Pulls the cross-correlation matrix of two views towards the identity; no negatives."""

    name: Literal["barlow_twins"]
    redundancy: NotNegative = 0.005
    """Weight of the off-diagonal elements."""


Plain: TypeAlias = bool | int | float | str | None


class PMLOptions(LossBase):
    """A loss of pytorch-metric-learning by its name, such as pml/CircleLoss; extra seqmel[pml]."""

    name: Literal["pml"]
    loss: str = Field(min_length=1)
    """Class name in pytorch-metric-learning."""
    options: dict[str, Plain] = {}
    """Arguments of the class."""


def _of_library(value: Any) -> Any:
    """`pml/CircleLoss`, alone or with options beside it, as the options of `pml`."""
    value = named(value)
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or not name.startswith("pml/"):
        return value
    options = {key: option for key, option in value.items() if key != "name"}
    return {"name": "pml", "loss": name.removeprefix("pml/"), "options": options}


if TYPE_CHECKING:
    AnyLossOptions: TypeAlias = LossBase
else:
    AnyLossOptions = all_of(LossBase)
LossOptions: TypeAlias = Annotated[
    Annotated[AnyLossOptions, Field(discriminator="name")],
    BeforeValidator(named_or("infonce")),
    BeforeValidator(also_named(OTHER_LOSS_NAMES)),
    BeforeValidator(_of_library),
]
