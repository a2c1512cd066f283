"""The steps of a recurrence over a packed batch, a few at a time."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Step", "most_rows", "rows_of", "step_blocks"]

Step: TypeAlias = tuple[int, int, int]
"""Its number, its first packed row, and how many rows it has: the sequences that still run."""


def step_blocks(sizes: list[int], rows: int) -> list[list[Step]]:
    """Runs of steps of together at most so many rows; one step at least.

    Args:
        sizes: rows of each step, not increasing.
        rows: how many are best worked on at once.
    """
    most = max(sizes[0], rows)
    blocks: list[list[Step]] = []
    begin, held = 0, most
    for step, size in enumerate(sizes):
        if held + size > most:
            blocks.append([])
            held = 0
        blocks[-1].append((step, begin, size))
        begin, held = begin + size, held + size
    return blocks


def rows_of(block: list[Step]) -> slice:
    """The packed rows of a block."""
    return slice(block[0][1], block[-1][1] + block[-1][2])


def most_rows(blocks: list[list[Step]]) -> int:
    """How many rows the largest block has."""
    return max(rows.stop - rows.start for rows in map(rows_of, blocks))
