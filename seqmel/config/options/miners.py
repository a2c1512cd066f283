"""The options of the miners; see `seqmel.objectives.miners` for the methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from seqmel.config.options.base import Above, Options, Positive, all_of, named

__all__ = ["AnyMinerOptions", "MinerBase", "MinerOptions"]


class MinerBase(Options):
    """Options of a miner."""

    if TYPE_CHECKING:
        name: str

    gives: ClassVar[Literal["pairs", "triplets"]] = "pairs"
    """What the miner gives to the loss, which has to take it."""
    memory: Annotated[int, Field(ge=0)] = 0
    """Number of embeddings of earlier batches to compare with as well (cross-batch memory)."""


class _TripletMiner(MinerBase):
    gives: ClassVar[Literal["pairs", "triplets"]] = "triplets"


class HardNegativesOptions(MinerBase):
    """The nearest negatives of each anchor."""

    how: ClassVar[str] = (
        "the `k` nearest negatives of each anchor; `skip_hardest` passes over the very nearest"
    )
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    name: Literal["hard_negatives"]
    k: Positive = 5
    """Negatives per anchor."""
    skip_hardest: Annotated[int, Field(ge=0)] = 0
    """Skip this many of the nearest negatives; they may be duplicates of the client."""


class RandomNegativesOptions(MinerBase):
    """Random negatives of each anchor."""

    how: ClassVar[str] = "`k` random negatives of each anchor"
    source: ClassVar[str] = "the ablation there"
    name: Literal["random_negatives"]
    k: Positive = 5
    """Negatives per anchor."""


class DistanceWeightedOptions(MinerBase):
    """Random negatives, weighted so that all distances are about equally frequent."""

    how: ClassVar[str] = (
        "`k` negatives drawn with weight 1 / q(d), q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2); "
        "`skip_hardest` as above"
    )
    source: ClassVar[str] = "Wu et al., 1706.07567"
    name: Literal["distance_weighted"]
    k: Positive = 5
    """Negatives per anchor."""
    cutoff: Annotated[float, Field(gt=0, lt=2)] = 0.5
    """Smaller distances are weighted as this one."""
    nonzero_loss_cutoff: Annotated[float, Field(gt=0, lt=2)] = 1.4
    """More distant negatives are drawn only if there are no others."""
    skip_hardest: Annotated[int, Field(ge=0)] = 0
    """Skip this many of the nearest negatives."""

    @model_validator(mode="after")
    def _ordered(self) -> Any:
        if self.cutoff > self.nonzero_loss_cutoff:
            raise ValueError(
                f"cutoff {self.cutoff} is larger than nonzero_loss_cutoff "
                f"{self.nonzero_loss_cutoff}"
            )
        return self


class AllNegativesOptions(MinerBase):
    """All negatives of each anchor."""

    how: ClassVar[str] = "all, or random ones beyond `max_pairs`"
    name: Literal["all_negatives"]
    max_pairs: Positive = 500_000
    """Maximum number of pairs per batch; beyond it, a random subset per anchor."""


class BatchAllOptions(_TripletMiner):
    """All triplets of the batch."""

    how: ClassVar[str] = "all, or random negatives beyond `max_triplets`"
    source: ClassVar[str] = "Hermans et al., 1703.07737"
    name: Literal["batch_all"]
    max_triplets: Positive = 500_000
    """Maximum number of triplets per batch; beyond it, a random subset per anchor."""


class BatchHardOptions(_TripletMiner):
    """The farthest positive and the nearest negative of each anchor."""

    how: ClassVar[str] = "the farthest positive with the nearest negative; `skip_hardest` as above"
    source: ClassVar[str] = "Hermans et al., 1703.07737"
    name: Literal["batch_hard"]
    skip_hardest: Annotated[int, Field(ge=0)] = 0
    """Skip this many of the nearest negatives."""


class BatchWeightedOptions(_TripletMiner):
    """Random positives and negatives, far positives and near negatives more often."""

    how: ClassVar[str] = (
        "`k` triplets per anchor, positives drawn in proportion to e^(d/t), negatives to e^(-d/t)"
    )
    source: ClassVar[str] = "after Ristani, Tomasi, 1803.10859"
    name: Literal["batch_weighted"]
    k: Positive = 5
    """Triplets per anchor."""
    temperature: Above = 0.1
    """Lower values prefer harder ones."""


class SemiHardOptions(_TripletMiner):
    """For each positive the nearest negative that is farther away."""

    how: ClassVar[str] = (
        "of each positive the nearest negative that is farther away, or else the farthest"
    )
    source: ClassVar[str] = "Schroff et al., 1503.03832"
    name: Literal["semi_hard"]


class EasyPositiveOptions(_TripletMiner):
    """The nearest positive of each anchor, with a semi-hard or the hardest negative."""

    how: ClassVar[str] = (
        "the nearest positive, with a semi-hard or the hardest negative; with the latter "
        "`skip_hardest` as above"
    )
    source: ClassVar[str] = "Xuan et al., 1904.04370"
    name: Literal["easy_positive"]
    negative: Literal["semi_hard", "hard"] = "semi_hard"
    """Which negative."""
    skip_hardest: Annotated[int, Field(ge=0)] = 0
    """With hard: skip this many of the nearest negatives."""

    @model_validator(mode="after")
    def _skips_hard_ones(self) -> Any:
        if self.skip_hardest and self.negative != "hard":
            raise ValueError(
                f"skip_hardest is for negative: hard, found {self.negative}, which never takes "
                f"the hardest"
            )
        return self


if TYPE_CHECKING:
    AnyMinerOptions: TypeAlias = MinerBase
else:
    AnyMinerOptions = all_of(MinerBase)
MinerOptions: TypeAlias = Annotated[
    Annotated[AnyMinerOptions, Field(discriminator="name")] | None, BeforeValidator(named)
]
