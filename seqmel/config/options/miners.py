"""The options of the miners: the arguments of the classes in `seqmel.objectives.miners`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.config.options.base import Natural, Options, all_of, named
from seqmel.config.options.from_source import options_in

__all__ = ["AnyMinerOptions", "MinerBase", "MinerOptions"]


class MinerBase(Options):
    """Options of a miner."""

    if TYPE_CHECKING:
        name: str

    gives: ClassVar[Literal["pairs", "triplets"]] = "pairs"
    """What the miner gives to the loss, which has to take it."""
    hyperbolic: ClassVar[bool] = True
    """Whether the miner can compare points of a Poincare ball."""
    given: ClassVar[tuple[str, ...]] = ("views", "chunk_rows")
    memory: Natural = 0
    """Number of embeddings of earlier batches to compare with as well (cross-batch memory)."""


globals().update(options_in("objectives/miners", MinerBase))

if TYPE_CHECKING:
    AnyMinerOptions: TypeAlias = MinerBase
else:
    AnyMinerOptions = all_of(MinerBase)
MinerOptions: TypeAlias = Annotated[
    Annotated[AnyMinerOptions, Field(discriminator="name")] | None, BeforeValidator(named)
]
