"""The options of the samplers; what they mean is said at length in `seqmel.data.samplers`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.config.options.base import Options, Positive, named_or

__all__ = ["AnySamplerOptions", "RandomOptions", "SamplerOptions"]


class RandomOptions(Options):
    """Any clients make a batch."""

    name: Literal["random"] = "random"


class CategoryBalancedOptions(Options):
    """A batch of clients of a few segments, by their most frequent value of a column: negatives are hard."""

    name: Literal["category_balanced"]
    column: str | None = None
    """A categorical column; the first one where null."""
    segments: Positive = 4
    """Segments of a batch."""


class OfflineHardOptions(Options):
    """Offline mining: a batch of groups of clients that lie near each other among all, by the model of some epochs ago."""

    name: Literal["offline_hard"]
    refresh_every: Positive = 1
    """All clients are embedded again after so many epochs; the first epoch is random."""
    group: Annotated[int, Field(ge=2, lt=2**31)] = 8
    """Clients a group."""
    pool_size: Annotated[int, Field(ge=2, lt=2**31)] = 32_768
    """Neighbours are looked for among so many clients at a time."""


AnySamplerOptions: TypeAlias = RandomOptions | CategoryBalancedOptions | OfflineHardOptions
SamplerOptions: TypeAlias = Annotated[
    Annotated[AnySamplerOptions, Field(discriminator="name")], BeforeValidator(named_or("random"))
]
