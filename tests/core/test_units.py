"""The length of a day in microseconds is written once."""

from __future__ import annotations

from pathlib import Path

import seqmel
from seqmel.core.units import DAY_US, task_words


def test_a_day_in_microseconds_is_defined_once() -> None:
    assert DAY_US == 24 * 60 * 60 * 10**6
    package = Path(seqmel.__file__).parent
    holding = [
        path
        for path in package.rglob("*.py")
        if "86_400_000_000" in path.read_text(encoding="utf-8")
    ]
    assert [path.name for path in holding] == ["units.py"]


def test_a_task_of_one_client_is_in_the_singular_and_its_rate_in_the_plural() -> None:
    assert task_words("embed", 1, None, "clients", 0.5, "") == "embed: 1 client, 0.5 s, 2 clients/s"
    assert task_words("embed", 1, 1, "clients", 0.5, "").startswith("embed: 1 of 1 client, ")
    assert task_words("embed", 1, 4, "clients", 0.5, "").startswith("embed: 1 of 4 clients, ")
    assert task_words("embed", 0, None, "clients", 0.5, "").startswith("embed: 0 clients, ")
