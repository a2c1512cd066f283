"""The options of the samplers; see `seqmel.data.samplers` for the methods."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.config.options.base import Options, Positive, named_or

__all__ = ["AnySamplerOptions", "RandomOptions", "SamplerOptions"]


class RandomOptions(Options):
    """Batches of random clients."""

    name: Literal["random"] = "random"


class CategoryBalancedOptions(Options):
    """Batches from a few segments of clients with the same top category: harder negatives."""

    name: Literal["category_balanced"]
    column: str | None = None
    """Categorical column; null takes the first."""
    segments: Positive = 4
    """Segments per batch."""


class OfflineHardOptions(Options):
    """Offline mining: batches of groups of clients whose embeddings were near some epochs ago."""

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
