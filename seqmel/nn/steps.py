"""Split the time steps of a packed batch into blocks that stay in the cache."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Step", "block_rows", "rows_of", "step_blocks"]

Step: TypeAlias = tuple[int, int, int]
"""The step number, its first packed row, and its number of rows (running sequences)."""


def step_blocks(sizes: list[int], rows: int) -> list[list[Step]]:
    """Group consecutive steps into blocks of at most `rows` rows, with at least one step each.

    Args:
        sizes: Number of rows of each step, not increasing.
        rows: Largest number of rows per block. A longer first step raises it.

    Returns:
        The blocks, in the order of the steps.
    """
    largest = max(sizes[0], rows)
    blocks: list[list[Step]] = []
    begin = 0
    held = largest
    for step, size in enumerate(sizes):
        if held + size > largest:
            blocks.append([])
            held = 0
        blocks[-1].append((step, begin, size))
        begin += size
        held += size
    return blocks


def rows_of(block: list[Step]) -> slice:
    """Return the packed rows of a block."""
    return slice(block[0][1], block[-1][1] + block[-1][2])


def block_rows(blocks: list[list[Step]]) -> int:
    """Return the number of rows of the largest block."""
    return max(rows.stop - rows.start for rows in map(rows_of, blocks))
