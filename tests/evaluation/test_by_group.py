"""Predictions by group: rates against a loop over rows, gaps against what chance gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_process import InProcess

import seqmel
from seqmel.core.errors import InputError, SchemaError
from seqmel.evaluation.by_group import _in_order, by_group, group_names
from seqmel.evaluation.group_results import Groups
from seqmel.evaluation.problem import Problem

RANDOM = np.random.default_rng(0)
IDS = pd.RangeIndex(300, name="client_id")
GROUP = pd.Series(np.where(RANDOM.random(300) < 0.3, "a", "b"), IDS, name="sex")
Y = pd.Series((RANDOM.random(300) < 0.4).astype(int), IDS, name="bad")


def predictions(problem: Problem, p: Any) -> list[Any]:
    return [np.stack([1 - p[test], p[test]], axis=1) for _, test in problem.splits]


def values(found: Groups, group: str) -> dict[str, float]:
    return next(row.values for row in found.rows if row.group == group)


def test_rates_are_those_of_a_loop_over_the_rows() -> None:
    problem = Problem.of(Y, "auto", 3, seed=0)
    p = RANDOM.random(300)
    found = by_group(problem, {"x": predictions(problem, p)}, GROUP)
    chosen = set()
    for _, test in problem.splits:
        count = Y.to_numpy()[test].sum()
        chosen |= set(sorted(test.tolist(), key=lambda row: -p[row])[:count])
    for group in ("a", "b"):
        rows = [row for row in range(300) if GROUP[row] == group]
        of_bad = [row for row in rows if Y[row]]
        of_good = [row for row in rows if not Y[row]]
        assert values(found, group) == pytest.approx(
            {
                "selected": np.mean([row in chosen for row in rows]),
                "found": np.mean([row in chosen for row in of_bad]),
                "false_alarms": np.mean([row in chosen for row in of_good]),
                "calibration": np.mean([p[row] - Y[row] for row in rows]),
            }
        )
    assert [(row.group, row.clients) for row in found.rows] == [
        ("a", (GROUP == "a").sum()),
        ("b", (GROUP == "b").sum()),
    ]
    assert found.rows[0].mean == pytest.approx(Y[GROUP == "a"].mean())


def test_a_gap_that_is_there_is_above_chance_and_one_that_is_not_is_about_chance() -> None:
    problem = Problem.of(Y, "auto", 3, seed=0)
    fair = RANDOM.random(300)
    unfair = fair + 0.5 * (GROUP == "a").to_numpy()
    sets = {"fair": predictions(problem, fair), "unfair": predictions(problem, unfair / 1.5)}
    gaps = {(gap.features, gap.measure): gap for gap in by_group(problem, sets, GROUP).gaps}
    wide, narrow = gaps["unfair", "selected"], gaps["fair", "selected"]
    assert wide.interval[0] > wide.chance
    assert wide.interval[0] <= wide.value <= wide.interval[1]
    assert narrow.value < 3 * narrow.chance


def test_gaps_are_compared_with_those_of_the_aggregates_on_the_same_resamples() -> None:
    problem = Problem.of(Y, "auto", 3, seed=0)
    fair = RANDOM.random(300)
    unfair = (fair + 0.5 * (GROUP == "a").to_numpy()) / 1.5
    sets = {"emb": fair, "same": unfair, "aggregates": unfair}
    found = by_group(problem, {n: predictions(problem, p) for n, p in sets.items()}, GROUP)
    assert list(dict.fromkeys(row.features for row in found.rows)) == list(sets)
    gaps = {gap.features: gap for gap in found.gaps if gap.measure == "selected"}
    assert gaps["aggregates"].difference is None
    assert gaps["same"].difference == (0, (0, 0))
    value, (low, high) = gaps["emb"].difference or (0.0, (0.0, 0.0))
    assert value == pytest.approx(gaps["emb"].value - gaps["aggregates"].value)
    assert low <= value <= high < 0


def test_each_rate_lies_in_its_interval_and_a_certain_one_has_none_to_spare() -> None:
    problem = Problem.of(Y, "auto", 3, seed=0)
    found = by_group(problem, {"x": predictions(problem, Y.to_numpy().astype(float))}, GROUP)
    row = found.rows[0]
    low, high = row.intervals["selected"]
    assert low < row.values["selected"] < high
    assert row.intervals["found"] == (1, 1)


def test_quantities_have_errors_and_bias_by_group() -> None:
    y = pd.Series(RANDOM.normal(size=300), IDS, name="age")
    problem = Problem.of(y, "auto", 3, seed=0)
    shifted = [
        y.to_numpy()[test] + 2 * (GROUP.to_numpy()[test] == "a") for _, test in problem.splits
    ]
    found = by_group(problem, {"x": shifted}, GROUP)
    assert values(found, "a") == pytest.approx({"mae": 2, "bias": 2})
    assert values(found, "b") == pytest.approx({"mae": 0, "bias": 0})
    assert [gap.value for gap in found.gaps] == pytest.approx([2, 2])


def test_more_classes_have_accuracy_and_log_loss() -> None:
    y = pd.Series(np.arange(300) % 3, IDS, name="kind")
    problem = Problem.of(y, "auto", 3, seed=0)
    right = [np.eye(3)[problem.target[test]] * 0.8 + 0.1 * (1 - np.eye(3)[problem.target[test]])
             for _, test in problem.splits]  # fmt: skip
    found = by_group(problem, {"x": right}, GROUP)
    assert values(found, "a") == pytest.approx({"accuracy": 1, "log_loss": -np.log(0.8)})
    assert found.to_json()["groups"][0]["mean"] is None


def test_numbers_are_cut_small_groups_joined_and_nulls_kept_apart() -> None:
    cut = group_names(pd.Series([*range(100), *[None] * 30], name="age", dtype=float))
    mixed = ["others", "from 9", "below -5", "10 to 20", "2", "-5 to 0"]
    assert sorted(mixed, key=_in_order) == [
        "below -5",
        "-5 to 0",
        "2",
        "from 9",
        "10 to 20",
        "others",
    ]
    assert cut.value_counts().to_dict() == {
        "below 24.75": 25,
        "24.75 to 49.5": 25,
        "49.5 to 74.25": 25,
        "from 74.25": 25,
        "missing": 30,
    }
    named = group_names(pd.Series(["x"] * 30 + ["y"] * 30 + ["z"] * 3, name="g"))
    assert named.value_counts().to_dict() == {"x": 30, "y": 30, "others": 3}
    assert set(group_names(pd.Series([1.0] * 30 + [2.0] * 30, name="g"))) == {"1", "2"}
    with pytest.raises(InputError, match="'g' has one group of at least 20 rows only among"):
        group_names(pd.Series(["x"] * 30, name="g"))


def test_the_command_shows_groups_and_writes_them(tmp_path: Path, in_process: InProcess) -> None:
    features = pd.DataFrame({"emb_0": Y + RANDOM.normal(size=300), "emb_1": 0.0}, IDS)
    features.reset_index().to_parquet(tmp_path / "v.parquet")
    pd.DataFrame({"bad": Y, "sex": GROUP}).reset_index().to_parquet(tmp_path / "labels.parquet")
    words = ["evaluate", tmp_path / "labels.parquet", "--target", "bad", "--folds", 2]
    words += ["--embeddings", tmp_path / "v.parquet", "--trees", 5, "--json", tmp_path / "s.json"]
    done = in_process.seqmel(*words, "--by", "sex")
    assert done.returncode == 0, done.stderr
    assert "v by sex" in done.stdout
    assert "largest minus smallest group" in done.stdout
    (scores,) = json.loads((tmp_path / "s.json").read_text())
    assert scores["by"]["column"] == "sex"
    assert {gap["measure"] for gap in scores["by"]["gaps"]} == {
        "selected",
        "found",
        "false_alarms",
        "calibration",
    }
    wrong = in_process.seqmel(*words, "--by", "sx")
    assert wrong.returncode == 2
    assert "Name another column with --by" in wrong.stderr
    of_clients = in_process.seqmel(*words, "--by", "client_id")
    assert of_clients.returncode == 2
    assert "'client_id' is the client column of" in of_clients.stderr
    assert "each client would be a group" in of_clients.stderr


def test_a_model_compares_groups_of_the_labels() -> None:
    data = seqmel.generate_card_data(50)
    model = seqmel.train(data.events, epochs=0, pooling="mean", embedding_dim=2)
    how = {"target": "gender", "events": data.events, "folds": 2, "trees": 2, "progress": False}
    people = data.clients.to_pandas().assign(half=np.arange(50) % 2)
    groups = model.evaluate(people, by="half", **how).groups
    assert groups is not None
    assert (groups.column, groups.baseline) == ("half", "aggregates with order")
    assert {(row.group, row.clients) for row in groups.rows} == {("0", 25), ("1", 25)}
    with pytest.raises(SchemaError, match="Name another column with by"):
        model.evaluate(people, by="hlf", **how)


def test_scores_without_groups_have_none() -> None:
    scores = seqmel.score(Y, {"x": pd.DataFrame({"x": RANDOM.random(300)}, IDS)}, folds=2, trees=2)
    assert scores.groups is None
    assert "by" not in scores.to_json()
