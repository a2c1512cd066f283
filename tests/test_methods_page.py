"""docs/methods.md names every method, and the facts of its page are all there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from small import CHANGED, tiny_config
from typer.testing import CliRunner

import seqmel
from seqmel.cli.main import app
from seqmel.config import Config, methods
from seqmel.config.options.modifiers import CHANGES
from seqmel.config.options.network import RECENT_POOLINGS
from seqmel.config.options.views import DEFAULT_VIEWS
from seqmel.config.reference import Method, described, method_table
from seqmel.data.samplers import SAMPLERS
from seqmel.data.views import VIEWS
from seqmel.nn.pooling import POOLINGS
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.miners import MINERS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")
TABLES = ("objective", "views", "encoder", "pooling", "loss", "miner", "sampler")
for section in TABLES:
    assert PAGE.count(f"<!-- table of {section} -->") == 1
    PAGE = PAGE.replace(f"<!-- table of {section} -->", method_table(section))


def rows(section: str) -> dict[str, str]:
    """Name -> second cell of each row of a section's table."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ((?:\\\||[^|])+) \|", text, flags=re.MULTILINE))


KNOWN = methods()


@pytest.mark.parametrize(
    ("section", "classes"),
    [
        ("Losses", LOSSES),
        ("Miners", MINERS),
        ("Views", VIEWS),
        ("Samplers", SAMPLERS),
        ("Objectives", KNOWN["objective"]),
        ("Encoders", KNOWN["encoder"]),
        ("Poolings", KNOWN["pooling"]),
    ],
)
def test_the_page_has_a_row_for_each_name_and_no_other(
    section: str, classes: dict[str, object]
) -> None:
    assert set(rows(section)) == set(classes)


def test_the_page_says_what_is_taken_and_given() -> None:
    assert rows("Losses") == {name: loss().takes for name, loss in LOSSES.items()}
    assert rows("Miners") == {name: miner().gives for name, miner in MINERS.items()}


@pytest.mark.parametrize("method", described(), ids=lambda method: method.name)
def test_every_method_says_how_it_works_and_when_to_use_it(method: Method) -> None:
    assert method.line.endswith(".")
    assert method.how
    assert method.when
    assert not (method.how + method.when + method.source).endswith(".")
    assert bool(method.takes) == (method.section in ("loss", "miner"))


def test_every_method_is_described_once() -> None:
    found = [(method.section, method.name) for method in described()]
    assert len(set(found)) == len(found)
    assert set(found) == {(s, n) for s in TABLES for n in KNOWN[s] if n != "pml"}


def test_the_reference_shows_every_public_name_once() -> None:
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: seqmel\.(\w+)$", text, re.MULTILINE)
    raised = {name for name in seqmel.__all__ if name.endswith("Error")}
    assert "::: seqmel.core.errors" in text
    assert sorted(shown) == sorted(set(seqmel.__all__) - raised)


def test_the_command_lists_every_method_with_a_line() -> None:
    chosen = {"objective", "views", "encoder", "pooling", "loss", "miner", "sampler"}
    assert set(KNOWN) == chosen | {"modifiers", "memory", "categories", "margins"}
    assert set(KNOWN["loss"]) == set(LOSSES) | {"pml"}
    assert {"none", "gru", "lstm", "transformer"} <= set(KNOWN["encoder"])
    assert tuple(KNOWN["pooling"]) == (*POOLINGS, *RECENT_POOLINGS)
    lines = [line for section in KNOWN.values() for line in section.values()]
    assert len(set(lines)) == len(lines)
    assert all(line.endswith(".") for section in KNOWN.values() for line in section.values())
    assert json.loads(CliRunner().invoke(app, ["methods", "--json"]).output) == KNOWN
    text = CliRunner().invoke(app, ["methods"]).output
    assert all(
        name in text and line in text
        for section in KNOWN.values()
        for name, line in section.items()
    )


@pytest.mark.parametrize("name", [name for names in CHANGES.values() for name in names])
def test_what_changes_a_method_is_an_option_which_the_command_and_the_page_name(name: str) -> None:
    default, changed = Config().to_dict(), tiny_config(**CHANGED[name])
    section, option = name.partition("=")[0].split(".")
    part = changed.to_dict()[section]
    assert part[option] != (default[section] or {}).get(option)
    assert name.partition("=")[2] in ("", part[option])
    assert f"`{name}`" in PAGE
    assert name in CliRunner().invoke(app, ["methods"]).output


def test_every_option_that_changes_views_is_a_modifier() -> None:
    fields = set(type(DEFAULT_VIEWS).model_fields) - {"name", "count", "min_length", "max_length"}
    assert {f"views.{field}" for field in fields} == {
        name for name in CHANGES["modifiers"] if name.startswith("views.")
    }
