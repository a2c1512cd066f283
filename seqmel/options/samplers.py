"""The options of the samplers; what they mean is said at length in `seqmel.data.samplers`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from seqmel.options.base import Options, Positive, named_or

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


AnySamplerOptions: TypeAlias = RandomOptions | CategoryBalancedOptions
SamplerOptions: TypeAlias = Annotated[
    Annotated[AnySamplerOptions, Field(discriminator="name")], BeforeValidator(named_or("random"))
]
