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
        start = getattr(self, "margin_start", None)
        end = getattr(self, "margin", None)
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

    how: ClassVar[str] = (
        "mean [d - p]+^2 over positives + mean [m - d]+^2 over negatives; p = 0 as published;"
        " `power: 1` makes it linear, `reduction: sum` is the MeLES preset"
    )
    source: ClassVar[str] = "Hadsell et al., CVPR 2006; Babaev et al., 2002.08232"
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

    how: ClassVar[str] = (
        "mean softplus(-a (s - b)) over positives + mean softplus(a c (s - b)) over negatives"
    )
    source: ClassVar[str] = "Yi et al., 1407.4979"
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
    how: ClassVar[str] = (
        "[d - b + a]+ of positives and [b - d + a]+ of negatives, summed, by the number of "
        "those above zero; b is learnt"
    )
    source: ClassVar[str] = "Wu et al., 1706.07567"
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
    how: ClassVar[str] = "mean [d(a, p) - d(a, n) + m]+; `reduction: active` over those above zero"
    source: ClassVar[str] = "Schroff et al., 1503.03832; Hermans et al., 1703.07737"
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

    how: ClassVar[str] = (
        "mean over positive pairs of -log( e^(s(i,j)/t) / (e^(s(i,j)/t) + sum over N(i) of "
        "e^(s(i,k)/t)) )"
    )
    source: ClassVar[str] = "van den Oord et al., 1807.03748; Chen et al., 2002.05709"
    name: Literal["infonce"] = "infonce"
    temperature: Above = 0.1
    """Softmax temperature."""


class SupConOptions(LossBase):
    """Supervised contrastive: softmax over all other views, with all positives in the numerator."""

    how: ClassVar[str] = (
        "mean over i and P(i) of -log( e^(s(i,p)/t) / sum over all k != i of e^(s(i,k)/t) )"
    )
    source: ClassVar[str] = "Khosla et al., 2004.11362"
    name: Literal["supcon"]
    temperature: Above = 0.1
    """Softmax temperature."""


class HistogramOptions(LossBase):
    """Probability that a negative pair is more similar than a positive one, by histograms."""

    how: ClassVar[str] = "sum over nodes r of h-(r) * sum over q <= r of h+(q), histograms of s"
    source: ClassVar[str] = "Ustinova, Lempitsky, 1611.00822"
    name: Literal["histogram"]
    bins: Annotated[int, Field(ge=3, le=10_000)] = 100
    """Histogram bins."""


class NPairOptions(LossBase):
    """Softmax over dot products of one pair of views against those of other clients."""

    how: ClassVar[str] = (
        "mean log(1 + sum over other pairs of e^(a.p' - a.p)) + w * mean squared length"
    )
    source: ClassVar[str] = "Sohn, NIPS 2016"
    name: Literal["n_pair"]
    length_weight: NotNegative = 0.002
    """Regularisation of the length of embeddings."""


class QuadrupletOptions(LossBase):
    """A triplet term, and one with negatives of two further clients."""

    how: ClassVar[str] = (
        "mean [d(a,p)^2 - d(a,n)^2 + m1]+ + mean [d(a,p)^2 - d(n,k)^2 + m2]+, with the "
        "nearest n of a and k of n"
    )
    source: ClassVar[str] = "Chen et al., 1704.01719"
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

    how: ClassVar[str] = (
        "mean [D(x, own center) - min D(x, other center) + m]+, D = d^2 / 2; the centers are "
        "the batch's, not learnt"
    )
    source: ClassVar[str] = "He et al., 1803.06189"
    name: Literal["triplet_center"]
    margin: Margin = 0.3
    """Margin between the distances."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""


class LiftedStructureOptions(LossBase):
    """Each positive pair against all negatives of both its views."""

    how: ClassVar[str] = (
        "mean [d(i,j) + log( sum over N(i) of e^(m - d(i,k)) + sum over N(j) of e^(m - "
        "d(j,l)) )]+^2 / 2"
    )
    source: ClassVar[str] = "Oh Song et al., 1511.06452"
    name: Literal["lifted_structure"]
    margin: Margin = 1.0
    """Margin."""
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """Margin at the start of training, increased to margin during training; null keeps the
    margin constant."""


class MultiSimilarityOptions(LossBase):
    """Pairs weighted by their similarity, and by that of other pairs of the anchor."""

    how: ClassVar[str] = (
        "mean of log(1 + sum over P of e^(-a (s - l))) / a + log(1 + sum over N of e^(b (s - "
        "l))) / b, over informative pairs"
    )
    source: ClassVar[str] = "Wang et al., 1904.06627"
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

    how: ClassVar[str] = (
        "softmax cross-entropy of g cos(x, client's mean direction), the own cosine less m; "
        "over the clients of the batch"
    )
    source: ClassVar[str] = "Wang et al., 1801.09414"
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

    how: ClassVar[str] = (
        "mean log(1 + sum over N of e^(g [s + m]+ (s - m)) * sum over P of e^(-g [1 + m - s]+"
        " (s - 1 + m)))"
    )
    source: ClassVar[str] = "Sun et al., 2002.10857"
    name: Literal["circle"]
    margin: Annotated[float, Field(gt=-1, lt=1)] = 0.25
    """Relaxation margin."""
    scale: Above = 80.0
    """Scale."""


class VICRegOptions(LossBase):
    """Variance, invariance and covariance regularisation of two views; without negatives."""

    how: ClassVar[str] = (
        "i * mean squared difference + v * mean [1 - std]+ + c * squared covariances, over "
        "pairs of views; the first a mean over dimensions too, as in Algorithm 1, not "
        "equation 5"
    )
    source: ClassVar[str] = "Bardes et al., 2105.04906"
    name: Literal["vicreg"]
    invariance: NotNegative = 25.0
    """Weight of the distance between views."""
    variance: NotNegative = 25.0
    """Weight of the variance term."""
    covariance: NotNegative = 1.0
    """Weight of the covariance term."""


class BarlowTwinsOptions(LossBase):
    """Pulls the cross-correlation matrix of two views towards the identity; no negatives."""

    how: ClassVar[str] = (
        "sum (1 - C_kk)^2 + w * sum over k != l of C_kl^2, C the correlations across pairs of views"
    )
    source: ClassVar[str] = "Zbontar et al., 2103.03230"
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
