"""docs/methods.md names every loss, miner and view, with what it takes or gives, and nothing that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqmel.cli.main import app
from seqmel.config import methods
from seqmel.data.samplers import SAMPLERS
from seqmel.data.views import VIEWS
from seqmel.losses import LOSSES
from seqmel.miners import MINERS
from seqmel.nn.pooling import POOLINGS

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, str]:
    """Name -> second cell of each row of a section's table."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, flags=re.MULTILINE))


KNOWN = methods()


@pytest.mark.parametrize(
    ("section", "classes"),
    [
        ("Losses", LOSSES),
        ("Miners", MINERS),
        ("Views", VIEWS),
        ("Samplers", SAMPLERS),
        ("Objectives", KNOWN["objective"]),
    ],
)
def test_the_page_has_a_row_for_each_name_and_no_other(section: str, classes: dict[str, object]) -> None:
    assert set(rows(section)) == set(classes)


def test_the_page_says_what_is_taken_and_given() -> None:
    assert rows("Losses") == {name: loss().takes for name, loss in LOSSES.items()}
    assert rows("Miners") == {name: miner().gives for name, miner in MINERS.items()}


def test_the_command_lists_every_method_with_a_line() -> None:
    assert set(KNOWN) == {"objective", "views", "encoder", "pooling", "loss", "miner", "sampler"}
    assert set(KNOWN["loss"]) == set(LOSSES) | {"pml"}
    assert set(KNOWN["encoder"]) == {"none", "gru", "lstm", "transformer"}
    assert tuple(KNOWN["pooling"]) == POOLINGS
    lines = [line for section in KNOWN.values() for line in section.values()]
    assert len(set(lines)) == len(lines)
    assert all(line.endswith(".") for section in KNOWN.values() for line in section.values())
    assert json.loads(CliRunner().invoke(app, ["methods", "--json"]).output) == KNOWN
    text = CliRunner().invoke(app, ["methods"]).output
    assert all(name in text and line in text for section in KNOWN.values() for name, line in section.items())
