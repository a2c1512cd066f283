"""Random damage of model folders and configs: loaded as saved, or refused; never else."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
import yaml

from seqmel import Config

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "formats" / "model_2"
CONFIGS = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))] + [
    yaml.safe_dump(Config().to_dict())
]
ROUNDS = int(os.environ.get("SEQMEL_FUZZ", "400"))


@pytest.fixture(scope="module")
def damage() -> ModuleType:
    """`benchmarks/damage.py`."""
    spec = importlib.util.spec_from_file_location("damage", ROOT / "benchmarks" / "damage.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["damage"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_damaged_model_folder_or_config_is_refused_in_a_line_or_loads_as_it_was(
    damage: ModuleType, tmp_path: Path
) -> None:
    events = pq.read_table(MODEL / "events.parquet")
    outcomes = damage.fuzz(ROUNDS, MODEL, events, CONFIGS, tmp_path, 0)
    assert set(outcomes["model folder"]) <= {"refused", "equal", "another model"}, outcomes
    assert set(outcomes["config"]) <= {"refused", "read"}, outcomes
    assert outcomes["model folder"]["refused"] > ROUNDS // 3
    assert (
        outcomes["model folder"]["another model"] > 0
    )  # the checksums were made right again: more than them is tried
    assert min(outcomes["config"].values()) > ROUNDS // 40


def test_the_same_seed_gives_the_same_damage(damage: ModuleType) -> None:
    content = (MODEL / "config.json").read_bytes()
    for one in (
        lambda chance: damage.damaged_bytes(content, chance),
        lambda chance: damage.as_json(damage.damaged_values(json.loads(content), chance)),
    ):
        drawn = [one(random.Random(seed)) for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]


def test_an_end_that_is_neither_is_counted_as_a_bug(
    damage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(damage, "try_folder", broken)
    outcomes = damage.fuzz(1, MODEL, None, CONFIGS, tmp_path, 0)
    assert list(outcomes["model folder"]) == ["BUG in round 0: IndexError: list index out of range"]
