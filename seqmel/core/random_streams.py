"""Named random streams: each random decision has a generator of its own, derived from one seed."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["Stream", "generator"]


class Stream(IntEnum):
    """The purpose of a stream. Numbers are part of reproducibility: never renumber or reuse one."""

    SPLIT = 0
    VIEWS = 1
    DROPOUT = 2
    VALIDATION_VIEWS = 3
    REPORT_CLIENTS = 4
    OFFLINE_MINING = 5
    MINER = 6
    CYCLES = 7
    FINETUNE_SPLIT = 10
    FINETUNE_BATCHES = 11
    LINEAR_FOLDS = 12
    PROBE_CLIENTS = 13
    FINETUNE_DROPOUT = 14
    FACT_BATCHES = 15
    CATEGORY_INIT = 20
    EXPLAIN = 30


def generator(seed: int, stream: Stream, *parts: int) -> torch.Generator:
    """Return the generator of one stream.

    Args:
        seed: The seed of the run.
        stream: The purpose.
        *parts: Further distinctions, such as the epoch and the rank.

    Returns:
        A generator on the CPU. Equal arguments give the same numbers.

    Examples:
        >>> first, again = generator(0, Stream.VIEWS, 3), generator(0, Stream.VIEWS, 3)
        >>> first.initial_seed() == again.initial_seed()
        True
    """
    import torch

    state = seed
    for part in (stream, *parts):
        state = (state * 1_000_003 + int(part) + 1) % 2**63
    return torch.Generator().manual_seed(state)
