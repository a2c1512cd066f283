"""The configs that come with seqmel."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmel.config import read_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid_and_says_what_it_is_for(path: Path) -> None:
    """Every option exists, and the first line is a comment."""
    read_config(path)
    assert path.read_text().startswith("# ")


def test_there_is_a_config_for_each_data_set() -> None:
    """data/<name>/prepare.py and configs/<name>.yaml go together."""
    sets = {path.parent.name for path in (Path(__file__).parents[1] / "data").glob("*/prepare.py")}
    assert sets <= {path.stem for path in CONFIGS}
