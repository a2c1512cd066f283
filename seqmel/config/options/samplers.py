"""The options of the samplers; see `seqmel.data.samplers` for the methods."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.config.options.base import Options, Positive, named_or

__all__ = ["AnySamplerOptions", "RandomOptions", "SamplerOptions"]


class RandomOptions(Options):
    """Batches of random clients."""

    how: ClassVar[str] = "any clients"
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    when: ClassVar[str] = "the default"
    name: Literal["random"] = "random"


class CategoryBalancedOptions(Options):
    """Batches from a few segments of clients with the same top category: harder negatives."""

    how: ClassVar[str] = (
        "clients of `segments` segments in equal numbers; the segment of a client is its most "
        "frequent value of the categorical `column`"
    )
    source: ClassVar[str] = "P classes, K of each: Hermans et al., 1703.07737"
    when: ClassVar[str] = (
        "clients fall into segments that are easily distinguished, so that random negatives teach "
        "little"
    )
    name: Literal["category_balanced"]
    column: str | None = None
    """Categorical column; null takes the first."""
    segments: Positive = 4
    """Segments per batch."""


class OfflineHardOptions(Options):
    """Offline mining: batches of groups of clients whose embeddings were near some epochs ago."""

    how: ClassVar[str] = (
        "every `refresh_every` epochs all training clients are embedded and dealt into groups "
        "of `group` clients that lie near each other; a batch is several groups; the first "
        "epoch is random"
    )
    source: ClassVar[str] = (
        "offline selection: Schroff et al., 1503.03832, section 3.2; look-alikes in a batch: "
        "Smirnov et al., ICCVW 2017 (doppelganger mining)"
    )
    when: ClassVar[str] = (
        "many clients and small batches: look-alikes would hardly ever meet by chance. Its loss "
        "is higher than that of random batches by construction; compare recall@1"
    )
    name: Literal["offline_hard"]
    refresh_every: Positive = 1
    """Epochs between updates of the groups; the first epoch is random."""
    group: Annotated[int, Field(ge=2, lt=2**31)] = 8
    """Clients per group."""
    pool_size: Annotated[int, Field(ge=2, lt=2**31)] = 32_768
    """Number of clients to search for neighbours at a time."""


AnySamplerOptions: TypeAlias = RandomOptions | CategoryBalancedOptions | OfflineHardOptions
SamplerOptions: TypeAlias = Annotated[
    Annotated[AnySamplerOptions, Field(discriminator="name")], BeforeValidator(named_or("random"))
]
