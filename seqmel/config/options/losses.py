"""The options of the losses: the arguments of the classes in `seqmel.objectives.losses`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.config.options.base import (
    NotAbove,
    NotNegative,
    Options,
    all_of,
    also_named,
    named,
    named_or,
)
from seqmel.config.options.from_source import options_in

__all__ = [
    "DEFAULT_LOSS",
    "OTHER_LOSS_NAMES",
    "AnyLossOptions",
    "LossBase",
    "LossOptions",
    "Margin",
    "MarginStart",
    "PMLOptions",
]

OTHER_LOSS_NAMES = {"nt_xent": "infonce", "supervised_contrastive": "supcon"}
"""Other name -> ours."""

Margin: TypeAlias = Annotated[float, Field(gt=0, le=2)]
"""Unit vectors are at most 2 apart."""
MarginStart: TypeAlias = Annotated[NotNegative | None, NotAbove("margin")]


class LossBase(Options):
    """Options of a loss."""

    if TYPE_CHECKING:
        name: str

    takes: ClassVar[Literal["pairs", "triplets", "batch"]] = "batch"
    """What the loss takes: the miner has to give it; a whole-batch loss has no miner."""
    default_miner: ClassVar[str | None] = None
    hyperbolic: ClassVar[bool] = False
    """Whether the loss can compare points of a Poincare ball."""
    leaves_out: ClassVar[bool] = False
    """Whether a loss without a miner can leave out negatives."""


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


globals().update(options_in("objectives/losses", LossBase, suffix="Loss", but=("pml",)))

if TYPE_CHECKING:
    AnyLossOptions: TypeAlias = LossBase
else:
    AnyLossOptions = all_of(LossBase)
DEFAULT_LOSS: LossBase = globals()["InfoNCEOptions"]()
LossOptions: TypeAlias = Annotated[
    Annotated[AnyLossOptions, Field(discriminator="name")],
    BeforeValidator(named_or(DEFAULT_LOSS.name)),
    BeforeValidator(also_named(OTHER_LOSS_NAMES)),
    BeforeValidator(_of_library),
]
