"""The options of the samplers: the arguments of the classes in `seqmel.data.samplers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.config.options.base import Options, all_of, named_or
from seqmel.config.options.from_source import options_in

__all__ = ["DEFAULT_SAMPLER", "AnySamplerOptions", "SamplerBase", "SamplerOptions"]


class SamplerBase(Options):
    """Options of a sampler."""

    if TYPE_CHECKING:
        name: str

    given: ClassVar[tuple[str, ...]] = ("size", "clients_per_epoch")


globals().update(options_in("data/samplers", SamplerBase, suffix="Sampler"))

if TYPE_CHECKING:
    AnySamplerOptions: TypeAlias = SamplerBase
else:
    AnySamplerOptions = all_of(SamplerBase)
DEFAULT_SAMPLER: SamplerBase = globals()["RandomOptions"]()
SamplerOptions: TypeAlias = Annotated[
    Annotated[AnySamplerOptions, Field(discriminator="name")],
    BeforeValidator(named_or(DEFAULT_SAMPLER.name)),
]
