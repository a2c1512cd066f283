"""The options of the losses; what they mean is said at length in `seqmel.objectives.losses`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from seqmel.config.options.base import Above, NotNegative, Options, also_named, is_lenient, named, named_or

__all__ = ["OTHER_LOSS_NAMES", "AnyLossOptions", "InfoNCEOptions", "LossOptions", "PMLOptions"]

OTHER_LOSS_NAMES = {"nt_xent": "infonce", "supervised_contrastive": "supcon"}
"""Other name -> ours."""

Margin: TypeAlias = Annotated[float, Field(gt=0, le=2)]
"""Unit vectors are at most 2 apart."""


class _Loss(Options):
    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "batch"
    """What the loss is given; a miner has to give the same, and a loss that takes the whole batch has none."""
    default_miner: ClassVar[str | None] = None

    @model_validator(mode="after")
    def _grows(self, info: ValidationInfo) -> Any:
        start, end = getattr(self, "margin_start", None), getattr(self, "margin", None)
        if start is not None and end is not None and start > end and not is_lenient(info):
            raise ValueError(
                f"margin_start {start} is larger than margin {end}, and the margin grows from one to the other"
            )
        return self


class _PairLoss(_Loss):
    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "pairs"
    default_miner: ClassVar[str | None] = "hard_negatives"


class ContrastiveOptions(_PairLoss):
    """Pairs: distance squared for positives, max(0, margin - distance) squared for mined negatives."""

    name: Literal["contrastive"]
    margin: Margin = 0.5
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    """The margin grows from this over the training; null keeps it as it is. So in other losses."""
    positive_margin: Annotated[float, Field(ge=0, lt=2)] = 0.0
    power: Literal[1, 2] = 2
    reduction: Literal["mean", "sum"] = "mean"


class BinomialDevianceOptions(_PairLoss):
    """Pairs: logistic regression of "same client" on the similarity."""

    name: Literal["binomial_deviance"]
    alpha: Above = 2.0
    beta: Annotated[float, Field(ge=-1, le=1)] = 0.5
    negative_cost: Above = 10.0


class MarginOptions(_PairLoss):
    """Pairs: a learnt boundary between near and far."""

    default_miner: ClassVar[str | None] = "distance_weighted"
    name: Literal["margin"]
    margin: Margin = 0.2
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    beta: Annotated[float, Field(ge=0, le=2)] = 1.2
    learn_beta: bool = True
    beta_weight: NotNegative = 0.0

    @model_validator(mode="after")
    def _weight_has_a_use(self, info: ValidationInfo) -> Any:
        if self.beta_weight and not self.learn_beta and not is_lenient(info):
            raise ValueError(f"beta_weight {self.beta_weight:g} draws a learnt beta down, and learn_beta is false")
        return self


class TripletOptions(_Loss):
    """Triplets: the negative farther away than the positive by a margin."""

    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "triplets"
    default_miner: ClassVar[str | None] = "semi_hard"
    name: Literal["triplet"]
    margin: Margin = 0.3
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    reduction: Literal["mean", "active"] = "mean"


class InfoNCEOptions(_Loss):
    """Softmax over all views of the batch; takes no miner, since it weighs all negatives by their nearness."""

    name: Literal["infonce"] = "infonce"
    temperature: Above = 0.1


class SupConOptions(_Loss):
    """Supervised contrastive: softmax over all other views, the client's own among them."""

    name: Literal["supcon"]
    temperature: Above = 0.1


class HistogramOptions(_Loss):
    """The chance that a negative pair is more alike than a positive one, by histograms of all pairs."""

    name: Literal["histogram"]
    bins: Annotated[int, Field(ge=3, le=10_000)] = 100


class NPairOptions(_Loss):
    """Softmax over dot products of one pair of views against others."""

    name: Literal["n_pair"]
    length_weight: NotNegative = 0.002


class QuadrupletOptions(_Loss):
    """A triplet part, and one with negatives of two further clients."""

    name: Literal["quadruplet"]
    margin: Annotated[float, Field(gt=0, le=4)] = 0.5
    margin_start: Annotated[float, Field(ge=0, le=4)] | None = None
    other_margin: Annotated[float, Field(gt=0, le=4)] = 0.25


class TripletCenterOptions(_Loss):
    """The own center of the batch nearer than any other, by a margin."""

    name: Literal["triplet_center"]
    margin: Margin = 0.3
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None


class LiftedStructureOptions(_Loss):
    """Each positive pair against all negatives of both."""

    name: Literal["lifted_structure"]
    margin: Margin = 1.0
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None


class MultiSimilarityOptions(_Loss):
    """Positives and negatives weighed by how alike they are, to the anchor and among themselves."""

    name: Literal["multi_similarity"]
    alpha: Above = 2.0
    beta: Above = 50.0
    threshold: Annotated[float, Field(ge=-1, le=1)] = 0.5
    epsilon: NotNegative | None = 0.1


class CosFaceOptions(_Loss):
    """Softmax with a margin over the clients of the batch, each by its mean direction."""

    name: Literal["cosface"]
    margin: Margin = 0.2
    margin_start: Annotated[float, Field(ge=0, le=2)] | None = None
    scale: Above = 16.0


class CircleOptions(_Loss):
    """Each similarity pulled the harder the farther it is from where it should be."""

    name: Literal["circle"]
    margin: Annotated[float, Field(gt=-1, lt=1)] = 0.25
    scale: Above = 80.0


class VICRegOptions(_Loss):
    """Two views near, every dimension varied, none a repetition; without negatives."""

    name: Literal["vicreg"]
    invariance: NotNegative = 25.0
    variance: NotNegative = 25.0
    covariance: NotNegative = 1.0


class BarlowTwinsOptions(_Loss):
    """Each dimension correlated across two views, and with no other; without negatives."""

    name: Literal["barlow_twins"]
    redundancy: NotNegative = 0.005


Plain: TypeAlias = bool | int | float | str | None


class PMLOptions(_Loss):
    """A loss of pytorch-metric-learning by its name there, such as pml/CircleLoss; with the extra seqmel[pml]."""

    name: Literal["pml"]
    loss: str = Field(min_length=1)
    """The name of its class."""
    options: dict[str, Plain] = {}
    """Its arguments."""


def _of_library(value: Any) -> Any:
    """`pml/CircleLoss`, alone or with options beside it, as the options of `pml`."""
    value = named(value)
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or not name.startswith("pml/"):
        return value
    options = {key: option for key, option in value.items() if key != "name"}
    return {"name": "pml", "loss": name.removeprefix("pml/"), "options": options}


AnyLossOptions: TypeAlias = (
    ContrastiveOptions
    | BinomialDevianceOptions
    | MarginOptions
    | TripletOptions
    | InfoNCEOptions
    | SupConOptions
    | HistogramOptions
    | NPairOptions
    | QuadrupletOptions
    | TripletCenterOptions
    | LiftedStructureOptions
    | MultiSimilarityOptions
    | CosFaceOptions
    | CircleOptions
    | VICRegOptions
    | BarlowTwinsOptions
    | PMLOptions
)
LossOptions: TypeAlias = Annotated[
    Annotated[AnyLossOptions, Field(discriminator="name")],
    BeforeValidator(named_or("infonce")),
    BeforeValidator(also_named(OTHER_LOSS_NAMES)),
    BeforeValidator(_of_library),
]
