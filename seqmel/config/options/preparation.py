"""What is done with all events outside of training: they are prepared, and embedded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seqmel.config.options.base import Options, Positive

__all__ = ["EmbeddingOptions", "PreparationOptions"]


class PreparationOptions(Options):
    """How events become sequences."""

    memory_limit: str = Field("2GB", pattern=r"^\d+(\.\d+)?\s*([KMGT]i?)?B$")
    """What the engine that sorts may hold in memory before it goes to disk."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """How many threads it uses; all cores where null."""
    min_count: Positive = 5
    """A category value seen fewer times than this is rare."""
    max_categories: Positive = 20_000
    """Most values of a column that have a code of their own."""


class EmbeddingOptions(Options):
    """How vectors are computed once the model is trained."""

    max_events: Positive = 4096
    """Of longer sequences only the last so many events are looked at."""
    batch_events: Positive = 32_768
    """Events a batch; up to four times as many with a GRU or LSTM of 512 or less, which is faster with more sequences side by side."""
