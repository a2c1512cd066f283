"""Colours of all plots, apart for readers with and without colour blindness.

Any two of `COLOURS` are at least 24 apart in CIE Lab, as seen with normal vision and with
deuteranopia, protanopia and tritanopia by the model of Machado, Oliveira and Fernandes (2009).
"""

from __future__ import annotations

__all__ = ["COLOURS", "FAINT", "GREYS", "INK"]

COLOURS = (
    "#2a6f97", "#e07a5f", "#602f2c", "#e9c338", "#a899fc", "#46dbd8", "#a82b03", "#a1676d",
)  # fmt: skip
"""Of lines and classes, in this order."""

GREYS = ("#bbbbbb", "#777777")
"""Of the baselines."""

INK = "#3d405b"
"""Of what is neither one class nor another."""

FAINT = "#eeeeee"
"""Of grids."""
