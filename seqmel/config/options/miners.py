"""The options of the miners; what they mean is said at length in `seqmel.objectives.miners`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from seqmel.config.options.base import Above, Options, Positive, named

__all__ = ["AnyMinerOptions", "MinerOptions"]


class _Miner(Options):
    gives: ClassVar[Literal["pairs", "triplets"]] = "pairs"
    """What the miner gives to the loss, which has to take it."""
    memory: Annotated[int, Field(ge=0)] = 0
    """So many embeddings of earlier batches are compared with as well."""


class _TripletMiner(_Miner):
    gives: ClassVar[Literal["pairs", "triplets"]] = "triplets"


class HardNegativesOptions(_Miner):
    """The nearest negatives of each anchor."""

    name: Literal["hard_negatives"]
    k: Positive = 5
    skip_hardest: Annotated[int, Field(ge=0)] = 0
    """Pass over the very nearest."""


class RandomNegativesOptions(_Miner):
    """Random negatives of each anchor."""

    name: Literal["random_negatives"]
    k: Positive = 5


class DistanceWeightedOptions(_Miner):
    """Random negatives, so drawn that all distances come about equally often."""

    name: Literal["distance_weighted"]
    k: Positive = 5
    cutoff: Annotated[float, Field(gt=0, lt=2)] = 0.5
    nonzero_loss_cutoff: Annotated[float, Field(gt=0, lt=2)] = 1.4
    skip_hardest: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _ordered(self) -> Any:
        if self.cutoff > self.nonzero_loss_cutoff:
            raise ValueError(f"cutoff {self.cutoff} is larger than nonzero_loss_cutoff {self.nonzero_loss_cutoff}")
        return self


class AllNegativesOptions(_Miner):
    """All negatives of each anchor."""

    name: Literal["all_negatives"]
    max_pairs: Positive = 500_000


class BatchAllOptions(_TripletMiner):
    """All triplets."""

    name: Literal["batch_all"]
    max_triplets: Positive = 500_000


class BatchHardOptions(_TripletMiner):
    """The farthest positive and the nearest negative of each anchor."""

    name: Literal["batch_hard"]
    skip_hardest: Annotated[int, Field(ge=0)] = 0


class BatchWeightedOptions(_TripletMiner):
    """Far positives and near negatives more often than others."""

    name: Literal["batch_weighted"]
    k: Positive = 5
    temperature: Above = 0.1


class SemiHardOptions(_TripletMiner):
    """For each positive the nearest negative that is farther away."""

    name: Literal["semi_hard"]


class EasyPositiveOptions(_TripletMiner):
    """The nearest positive of each anchor."""

    name: Literal["easy_positive"]
    negative: Literal["semi_hard", "hard"] = "semi_hard"
    skip_hardest: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _skips_hard_ones(self) -> Any:
        if self.skip_hardest and self.negative != "hard":
            raise ValueError(
                f"skip_hardest is for negative: hard, found {self.negative}, which passes over the hardest by itself"
            )
        return self


AnyMinerOptions: TypeAlias = (
    HardNegativesOptions
    | RandomNegativesOptions
    | DistanceWeightedOptions
    | AllNegativesOptions
    | BatchAllOptions
    | BatchHardOptions
    | BatchWeightedOptions
    | SemiHardOptions
    | EasyPositiveOptions
)
MinerOptions: TypeAlias = Annotated[
    Annotated[AnyMinerOptions, Field(discriminator="name")] | None, BeforeValidator(named)
]
