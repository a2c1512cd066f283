"""A row that learns from labels is trained once per fold, without the labels of its test part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plans import PLAN, write
from small import WITH_LABELS

import seqmel.training.finetuning.finetune
import seqmel.training.fit
from seqmel.config import LABELLED
from seqmel.core.errors import ConfigError, InputError
from seqmel.experiment import read_plan, run_experiment
from seqmel.experiment.plan import Cell
from seqmel.experiment.run import _settings

ROWS: dict[str, Any] = {
    "with labels": {"objective": ["coles", {"name": "classification", "weight": 0.5}]}
}
SEEING: dict[str, Any] = PLAN | {
    "data": {"cards": PLAN["data"]["cards"] | {"targets": ["habit"]}},
    "base": PLAN["base"] | {"finetuning": {"epochs": 1}},
    "rows": ROWS,
    "seeds": [0],
}


def test_the_objectives_that_learn_labels_are_known_by_name() -> None:
    assert set(LABELLED) == WITH_LABELS


@pytest.mark.parametrize("scored", ["trees", "finetuned"])
def test_the_labels_of_a_test_part_are_never_seen_by_what_is_scored_on_it(
    scored: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[Any]] = []
    real = seqmel.training.fit.fit

    def watched(*given: Any, labels: Any, **more: Any) -> Any:
        seen.append(set(labels["classification"].index))
        return real(*given, labels=labels, **more)

    monkeypatch.setattr(seqmel.training.fit, "fit", watched)
    rows = {"with labels": ROWS["with labels"] | {"scored": scored}}
    run_experiment(
        write(folder, SEEING | {"rows": rows, "label_fractions": [0.5, 1], "aggregates": False}),
        folder / "out",
    )
    halves, wholes = (
        seen[:2],
        seen[2:],
    )  # of two folds, each of which tests the clients that the other trains on
    assert wholes[0] & wholes[1] == set()
    assert len(wholes[0] | wholes[1]) == 40
    assert [len(half) for half in halves] == [10, 10]
    assert all(half < whole for half, whole in zip(halves, wholes, strict=True))


def test_such_a_row_is_scored_as_the_others_are_and_costs_one_training_of_each_fold(
    folder: Path,
) -> None:
    run_experiment(
        write(folder, SEEING | {"rows": {"pooled": {}} | ROWS, "label_fractions": [0.5, 1]}),
        folder / "out",
    )
    results = pd.read_parquet(folder / "out" / "results.parquet")
    counts = Counter(results.loc[results["primary"], "features"])
    kinds = [
        "{}",
        "{} + aggregates with order",
        "{}: linear",
        "{}: linear, aggregates with order: averaged",
    ]
    kinds += ["{}, 0.5 of the labels", "{} + aggregates with order, 0.5 of the labels"]
    for kind in kinds:
        assert counts[kind.format("with labels")] == counts[kind.format("pooled")] == 2
    assert counts["aggregates"] == counts["aggregates with order"] == 2
    assert set(results.loc[results["features"] == "with labels", "steps"]) == {3}
    assert np.isfinite(results["value"]).all()


def test_a_fold_of_it_is_what_training_and_scoring_by_hand_give(folder: Path) -> None:
    from seqmel.evaluation.problem import build_problem
    from seqmel.evaluation.scoring import score
    from seqmel.experiment.labels import FOLD_SEED, read_plan_labels
    from seqmel.experiment.run import _prepared, _trained, _vectors
    from seqmel.training.finetuning.samples import Samples

    plan = read_plan(write(folder, SEEING | {"aggregates": False}))
    run_experiment(folder / "plan.yaml", folder / "out")
    (target,) = read_plan_labels(plan, "cards", folder / "labels.parquet")
    y = target.y
    prepared, config = (
        _prepared(plan, "cards", folder / "out"),
        plan.config("with labels", "cards", 0),
    )
    problem, scored, _ = build_problem(y, {"y": y.to_frame()}, "auto", 2, FOLD_SEED, None)
    seen = scored.iloc[problem.splits[1][0]]
    everyone = Samples.of_clients(prepared.sequences)
    vectors = _vectors(prepared, everyone, _trained(prepared, config, seen))
    by_hand = score(y, {"v": vectors}, probes={"v: linear": "v"}, folds=2, trees=3)
    results = pd.read_parquet(folder / "out" / "results.parquet").query("fold == 1")
    found = results.set_index(["features", "metric"])["value"]
    for row in by_hand.rows:
        assert found[row.features.replace("v", "with labels", 1), row.metric] == row.folds[1]


def test_each_fold_is_fine_tuned_from_the_model_that_saw_its_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []
    real = seqmel.training.finetuning.finetune.finetuned_model
    monkeypatch.setattr(
        seqmel.training.finetuning.finetune,
        "finetuned_model",
        lambda *a, **k: (models.append(a[0]), real(*a, **k))[1],
    )
    rows = {"a": ROWS["with labels"] | {"scored": "finetuned"}, "b": {"scored": "finetuned"}}
    rows["c"] = ROWS["with labels"] | {"scored": "scratch"}
    run_experiment(write(folder, SEEING | {"rows": rows, "aggregates": False}), folder / "out")
    assert models[0] is not models[1]
    assert models[2] is models[3]
    assert models[4:] == [None, None]


@pytest.mark.parametrize("name", sorted(WITH_LABELS))
@pytest.mark.parametrize("option", ["labels", "target"])
def test_labels_of_its_own_are_refused_since_they_could_be_those_of_the_test_parts(
    name: str, option: str, folder: Path
) -> None:
    rows = {"a": {"objective": {"name": name, option: "labels.parquet"}}}
    with pytest.raises(
        ConfigError,
        match=rf"row 'a': the objective {name} learns the labels of each fold.*Leave out",
    ):
        read_plan(write(folder, SEEING | {"rows": rows}))


def test_a_quantity_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"'with labels': the objective classification learns classes, .*'amount' of cards",
    ):
        run_experiment(write(folder, PLAN | {"rows": ROWS}), folder / "out")
    assert not (folder / "out").exists()


def test_the_settings_of_such_a_row_name_no_file(folder: Path) -> None:
    settings = _settings(read_plan(write(folder, SEEING)), Cell("with labels", "cards", 0))
    part = settings["config"]["objective"][1]
    assert (part["labels"], part["target"]) == (
        "those of the training part",
        "the one that is scored",
    )
