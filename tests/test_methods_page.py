"""docs/methods.md names every loss, miner and view, with what it takes or gives, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seqmel.data.views import VIEWS
from seqmel.losses import LOSSES
from seqmel.miners import MINERS

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, str]:
    """Name -> second cell of each row of a section's table."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, flags=re.MULTILINE))


@pytest.mark.parametrize(("section", "classes"), [("Losses", LOSSES), ("Miners", MINERS), ("Views", VIEWS)])
def test_the_page_has_a_row_for_each_name_and_no_other(section: str, classes: dict[str, object]) -> None:
    assert set(rows(section)) == set(classes)


def test_the_page_says_what_is_taken_and_given() -> None:
    assert rows("Losses") == {name: loss().takes for name, loss in LOSSES.items()}
    assert rows("Miners") == {name: miner().gives for name, miner in MINERS.items()}
