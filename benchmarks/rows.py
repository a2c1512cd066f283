"""Rows of results as a JSON file with a line per row, for research/data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from seqmel.evaluation.results import Score


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows, and say where they are."""
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n {lines}\n]\n", encoding="utf-8")
    print(f"rows in {path}")


def mean_and_half(score: Score) -> list[float]:
    """Return the mean and half of its 95 % interval."""
    return [round(score.mean, 4), round(score.half_width, 4)]


def interval(values: Sequence[float]) -> list[float]:
    """Return the mean of values and half of its 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return [float(np.mean(values)), float(half)]
