"""The options of preparation and embedding."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seqmel.config.options.base import Options, Positive

__all__ = ["EmbeddingOptions", "PreparationOptions"]


class PreparationOptions(Options):
    """How raw events become encoded sequences."""

    memory_limit: str = Field("2GB", pattern=r"^\d+(\.\d+)?\s*([KMGT]i?)?B$")
    """Memory limit of DuckDB, which sorts the events; it spills to disk beyond."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads of DuckDB; null takes all cores."""
    min_count: Positive = 5
    """Category values that are rarer than this share the code of rare values."""
    max_categories: Positive = 20_000
    """Maximum number of codes per categorical column."""


class EmbeddingOptions(Options):
    """How a trained model is run."""

    max_events: Positive = 4096
    """Longer sequences are truncated to their last events."""
    batch_events: Positive = 32_768
    """Events per batch; up to four times as many with a GRU or LSTM of width 512 or less."""
