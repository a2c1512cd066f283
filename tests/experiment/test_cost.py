"""A table says what its rows cost, and which of them are not on the budget of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from plans import PLAN, write

import seqmel.experiment.run
from seqmel.experiment import read_plan, run_experiment
from seqmel.experiment.cost import budgets, cost, cost_table

ONE = {"cards": PLAN["data"]["cards"] | {"targets": ["habit"]}}
ROWS: dict[str, Any] = {
    "pooled": {},
    "untrained": {"training": {"epochs": 0}},
    "tuned": {"scored": "finetuned"},
    "from scratch": {"scored": "scratch"},
}
MIXED = PLAN | {
    "data": ONE, "rows": ROWS, "seeds": [0],
    "base": PLAN["base"] | {"finetuning": {"epochs": 2, "batch_size": 8, "patience": None}},
}  # fmt: skip


def test_results_have_the_steps_and_seconds_of_the_training_that_each_score_rests_on(
    folder: Path,
) -> None:
    table = run_experiment(write(folder, MIXED), folder / "out").read_text()
    results = pd.read_parquet(folder / "out" / "results.parquet")
    steps = results.groupby("features")["steps"].agg(lambda s: sorted(set(s)))
    pretraining = 3  # 28 clients, 8 a batch; what is left over comes in another epoch
    tuning = 2 * 3  # of 20 labelled clients 2 are held out, 8 a batch
    assert (
        steps["pooled"]
        == steps["pooled: linear"]
        == steps["pooled + aggregates with order"]
        == [pretraining]
    )
    assert steps["untrained"] == [0]
    assert steps["from scratch"] == [tuning]
    assert steps["tuned"] == [pretraining + tuning]
    of_aggregates = results["features"].isin(["aggregates", "aggregates with order"])
    assert results.loc[of_aggregates, ["seconds", "steps"]].isna().all(axis=None)
    seconds = results[~of_aggregates].groupby("features")["seconds"].median()
    assert (seconds > 0).all()
    assert seconds["tuned"] > seconds["untrained"]
    cells = [line.split(" | ") for line in table.split("| one model |")[1].splitlines()[2:6]]
    assert [cell[0].removeprefix("| ") for cell in cells] == list(ROWS)
    assert [cell[2].removesuffix(" |") for cell in cells] == ["3", "0", "9", "6"]


def test_a_training_costs_what_the_one_that_it_began_from_cost_too() -> None:
    before = {"seconds": 10.0, "history": [{"epoch": 1, "steps": 7}, {"epoch": 2, "steps": 14}]}
    tuned = {"seconds": 2.5, "history": [], "pretraining": before}
    assert cost(before) == (10.0, 14)
    assert cost(tuned) == (12.5, 14)
    assert cost({"seconds": 1.0, "history": [], "pretraining": None}) == (1.0, 0)


def results_of(**of_rows: list[tuple[float, float]]) -> pd.DataFrame:
    """A line a (seconds, steps) of each set of features, which are seeds."""
    return pd.DataFrame(
        {
            "data": "cards",
            "features": name.replace("_", " "),
            "seed": seed,
            "seconds": seconds,
            "steps": steps,
        }
        for name, costs in of_rows.items()
        for seed, (seconds, steps) in enumerate(costs)
    )


def test_the_cost_of_a_row_is_the_median_over_its_cells(folder: Path) -> None:
    plan = read_plan(folder / "plan.yaml")
    found = results_of(pooled=[(2.34, 90), (2.44, 90), (90.0, 90)], gru=[(1234.5, 270)])
    assert cost_table(plan, found).splitlines()[2:] == [
        "| pooled | 2.4 | 90 |",
        "| gru | 1,234 | 270 |",
    ]


def test_a_row_scored_with_shares_of_the_labels_costs_what_the_largest_share_does(
    folder: Path,
) -> None:
    rows = {"pooled": {}, "tuned": {"scored": "finetuned"}}
    plan = read_plan(write(folder, PLAN | {"rows": rows, "label_fractions": [0.1, 0.5]}))
    few, more = {"tuned, 0.1 of the labels": [(1.0, 10)]}, {"tuned, 0.5 of the labels": [(2.0, 20)]}
    assert "| tuned | 2.0 | 20 |" in cost_table(plan, results_of(**few, **more))


def test_cells_of_an_earlier_version_cost_nothing_that_is_known(folder: Path) -> None:
    run_experiment(write(folder, MIXED | {"rows": {"pooled": {}}}), folder / "out")
    (cell,) = (folder / "out" / "cells").glob("cards-pooled-*.json")
    stored = json.loads(cell.read_text())
    for row in stored["scores"][0]["scores"]:
        del row["seconds"], row["steps"]
    cell.write_text(json.dumps(stored))
    table = run_experiment(folder / "plan.yaml", folder / "out").read_text()
    results = pd.read_parquet(folder / "out" / "results.parquet")
    assert results[["seconds", "steps"]].isna().all(axis=None)
    assert "one model" not in table
    assert "All rows have the same" in table


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": {}, "b": {"encoder": "gru", "training": {"learning_rate": 0.01}}},
         "All rows have the same training.epochs, training.batch_size and views."),
        ({"a": {"training": {"epochs": 0}}, "b": {}}, "others: a (training.epochs 0)."),
        ({"a": {}, "b": {"training": {"epochs": 1}}}, "All rows have the same"),
        ({"a": {}, "b": {"training": {"epochs": None, "batch_size": 16}}},
         "others: b (training.epochs null, training.batch_size 16)."),
        ({"a": {}, "b": {"views": {"count": 2, "max_length": 9}}}, ("others: b (views.count 2, "
"views.max_length 9).")),
        ({"a": {"views": "random_slices"}, "b": {"views": "last_k"}, "c": {}}, ("others: b "
"(views.name "
"last_k).")),
        ({"a": {"views": "last_k"}, "b": {"views": "weeks"}}, ("others: b (views.name "
"calendar_windows).")),
    ],
)  # fmt: skip
def test_rows_with_another_budget_are_named(rows: dict[str, Any], said: str, folder: Path) -> None:
    assert said in budgets(read_plan(write(folder, PLAN | {"rows": rows})))


def test_a_budget_that_is_another_on_one_data_set_is_named(folder: Path) -> None:
    own = {"options": {"training": {"epochs": 7}}}
    data = {"cards": PLAN["data"]["cards"], "more": PLAN["data"]["cards"] | own}
    plan = PLAN | {
        "data": data,
        "rows": {"a": {}, "b": {"training": {"epochs": 1}}},
    }  # which is what the base has
    assert "others: b (training.epochs 1 on more)." in budgets(read_plan(write(folder, plan)))


def test_seconds_are_no_setting_of_a_cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_experiment(write(folder, MIXED | {"rows": {"pooled": {}}}), folder / "out")
    monkeypatch.setattr(seqmel.experiment.run, "run_cell", lambda *_: pytest.fail("a cell was run"))
    run_experiment(folder / "plan.yaml", folder / "out")
