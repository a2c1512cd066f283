"""The length of a day in microseconds is written once."""

from __future__ import annotations

from pathlib import Path

import seqmel
from seqmel.core.units import DAY_US


def test_a_day_in_microseconds_is_defined_once() -> None:
    assert DAY_US == 24 * 60 * 60 * 10**6
    package = Path(seqmel.__file__).parent
    holding = [
        path
        for path in package.rglob("*.py")
        if "86_400_000_000" in path.read_text(encoding="utf-8")
    ]
    assert [path.name for path in holding] == ["units.py"]
