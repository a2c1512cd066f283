"""The battery: sets for choosing and for confirming; a small part runs where the data are."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from plans import PLAN, QUICK, write

from seqmel.core.errors import ConfigError
from seqmel.experiment import read_plan, run_experiment
from seqmel.experiment.plan import smaller_plan

BATTERY = Path(__file__).parents[2] / "configs" / "tables" / "battery.yaml"
DATA = Path(os.environ.get("SEQMEL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_half_of_the_sets_choose_and_the_other_half_confirm() -> None:
    roles = {name: of.role for name, of in read_plan(BATTERY).data.items()}
    choose = {name for name, role in roles.items() if role == "choose"}
    assert choose == {
        "physionet2012",
        "online_retail",
        "assist2009",
        "bpic2013",
        "pendigits",
        "cards",
    }
    assert {name for name, role in roles.items() if role == "confirm"} == {
        "berka",
        "baseball",
        "eshop",
        "nafld",
    }


@pytest.mark.skipif(
    not (DATA / "pendigits").is_dir(), reason=f"no {DATA}/pendigits; name the folder in SEQMEL_DATA"
)
def test_a_small_part_of_the_battery_runs(tmp_path: Path) -> None:
    few = {"only": ["pendigits"], "clients": 200, "seeds": [0], "trees": 2}
    table = run_experiment(BATTERY, tmp_path / "out", data=DATA, **few)  # type: ignore[arg-type]
    results = pd.read_parquet(tmp_path / "out" / "results.parquet")
    rows = [
        "aggregates",
        "aggregates with order",
        "embeddings",
        "embeddings + aggregates with order",
    ]
    assert set(rows) < set(results["features"])
    assert set(results["data"]) == {"pendigits"}
    assert "pendigits (chooses)" in table.read_text()
    assert "minus aggregates with order" in table.read_text()


def test_a_plan_can_be_run_with_fewer_sets_clients_seeds_and_trees(folder: Path) -> None:
    cards = QUICK["data"]["cards"]
    path = write(folder, QUICK | {"data": {"a": cards | {"seeds": [3, 4]}, "b": cards}})
    run_experiment(path, folder / "out", only=["a"], clients=30, seeds=[5], trees=1, data=folder)
    ran = read_plan(folder / "out" / "plan.yaml")
    assert (list(ran.data), ran.clients, ran.seeds_of("a"), ran.trees) == (["a"], 30, (5,), 1)
    assert {path.stem for path in (folder / "out" / "cells").iterdir()} != set()
    assert pd.read_parquet(folder / "out" / "results.parquet")["seed"].unique().tolist() == [5]


def test_a_data_set_that_the_plan_lacks_is_refused_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no data set 'card'\. Did you mean 'cards'"):
        run_experiment(write(folder, PLAN), folder / "out", only=["card"])
    assert not (folder / "out").exists()


def test_what_is_not_given_stays_as_the_plan_says(folder: Path) -> None:
    path = write(folder, PLAN)
    (folder / "same.yaml").write_text(smaller_plan(path))
    assert read_plan(folder / "same.yaml") == read_plan(path)
