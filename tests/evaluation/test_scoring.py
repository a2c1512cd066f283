"""Scoring: the same clients and folds for all, intervals, reproducibility, and refusals."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats
from small import Recorded

from seqmel.core.errors import ConfigError, InputError
from seqmel.evaluation.feature_sets import AGGREGATES, WITH_ORDER, beside_aggregates, standard_rows
from seqmel.evaluation.results import Score, Scores
from seqmel.evaluation.scoring import score

Features = dict[str, pd.DataFrame]


def _index(count: int) -> pd.Index:
    return pd.Index([f"c{i:03}" for i in range(count)], name="client_id")


@pytest.fixture
def features() -> Features:
    rng = np.random.default_rng(0)
    good, noise = rng.normal(size=(2, 200, 3)).astype(np.float32)
    return {
        "good": pd.DataFrame(good, index=_index(200)),
        "noise": pd.DataFrame(noise, index=_index(200)),
    }


@pytest.fixture
def binary(features: Features) -> pd.Series:
    return pd.Series(np.where(features["good"][0] > 0, "M", "F"), index=_index(200), name="gender")


def _few(y: pd.Series, features: Features, **options: object) -> Scores:
    return score(y, features, **{"trees": 30, "folds": 3, "threads": 1, **options})  # type: ignore[arg-type]


def test_features_that_carry_the_label_score_above_noise(
    features: Features, binary: pd.Series
) -> None:
    scores = _few(binary, features)
    assert (scores.task, scores.primary) == ("classification", "auroc")
    assert scores.score("good").mean > 0.95
    assert 0.3 < scores.score("noise").mean < 0.7
    assert scores.classes == binary.value_counts().to_dict()


def test_several_classes_are_scored_by_accuracy_first(features: Features) -> None:
    y = pd.cut(features["good"][0], [-9, -0.5, 0.5, 9], labels=False).rename("age_group")
    scores = _few(y, features)
    assert scores.primary == "accuracy"
    assert scores.score("good", "auroc").mean > 0.95
    assert scores.score("good").mean > scores.score("noise").mean + 0.2


def test_quantities_are_scored_as_regression(features: Features) -> None:
    y = (1000 * features["good"][0].astype(float)).rename("amount")
    scores = _few(y, features, trees=200)
    assert (scores.task, scores.primary, scores.classes) == ("regression", "r2", {})
    assert scores.score("good").mean > 0.7
    assert scores.score("good", "spearman").mean > 0.9
    assert (
        scores.score("good", "mae").mean
        < scores.score("good", "rmse").mean
        < scores.score("noise", "rmse").mean
    )


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (np.arange(60) % 20, "classification"),
        (np.arange(60) % 21, "regression"),
        (np.arange(60) % 2 == 0, "classification"),
        (np.arange(60) % 3 / 2, "classification"),
        (np.array(["a", "b"] * 30), "classification"),
    ],
)
def test_the_task_is_recognised_by_the_target(values: np.ndarray, task: str) -> None:
    table = pd.DataFrame({"x": np.arange(60.0)}, index=_index(60))
    assert _few(pd.Series(values, index=_index(60)), {"x": table}, trees=1).task == task


def test_a_given_task_wins_over_the_recognised_one(features: Features) -> None:
    y = pd.Series(np.arange(200) % 2, index=_index(200), name="bought")
    assert _few(y, features, trees=1, task="regression").primary == "r2"


def test_the_order_of_rows_changes_nothing(features: Features, binary: pd.Series) -> None:
    shuffled = {name: table.sample(frac=1, random_state=1) for name, table in features.items()}
    assert _few(binary, features).rows == _few(binary.sample(frac=1, random_state=2), shuffled).rows


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(
    features: Features, binary: pd.Series
) -> None:
    assert _few(binary, features).rows == _few(binary, features).rows
    assert _few(binary, features).rows != _few(binary, features, seed=1).rows


def test_the_number_of_threads_changes_nothing(features: Features, binary: pd.Series) -> None:
    small = {
        "trees": 3,
        "folds": 2,
    }  # LightGBM's threads are slow where other work runs beside them
    assert _few(binary, features, **small).rows == _few(binary, features, **small, threads=2).rows


def test_all_sets_are_scored_on_the_clients_that_every_set_has(
    features: Features, binary: pd.Series
) -> None:
    part = {"good": features["good"].iloc[:150], "noise": features["noise"].iloc[50:]}
    scores = _few(binary.iloc[:180], part)
    assert (scores.clients, scores.labelled, scores.matched) == (
        100,
        180,
        {"good": 150, "noise": 130},
    )
    alone = _few(binary.iloc[50:150], {"good": features["good"]})
    assert scores.score("good") == alone.score("good")


def test_clients_without_a_label_are_not_scored(features: Features, binary: pd.Series) -> None:
    holes = binary.astype(object)
    holes.iloc[100:] = None
    assert _few(holes, features).rows == _few(binary.iloc[:100], features).rows


def test_folds_are_the_same_for_every_set(features: Features, binary: pd.Series) -> None:
    scores = _few(binary, {"a": features["good"], "b": features["good"]})
    assert scores.difference("a", "b").folds == (0.0, 0.0, 0.0)


def test_missing_and_infinite_features_are_scored_as_they_are(
    features: Features, binary: pd.Series
) -> None:
    holes = features["good"].copy()
    holes.iloc[::3, 1], holes.iloc[1::3, 2] = np.nan, np.inf
    assert _few(binary, {"holes": holes}).score("holes").mean > 0.9


def test_features_without_any_information_score_as_chance(binary: pd.Series) -> None:
    constant = pd.DataFrame({"x": np.zeros(200)}, index=_index(200))
    assert _few(binary, {"constant": constant}).score("constant").mean == 0.5
    quantity = pd.Series(np.arange(200.0), index=_index(200))
    assert _few(quantity, {"constant": constant}).score("constant", "spearman").mean == 0


def test_progress_advances_after_each_fold(features: Features, binary: pd.Series) -> None:
    progress = Recorded()
    _few(binary, features, progress=progress)
    assert progress.tasks == [("score gender", 6, "folds")]
    assert progress.notes == ["good"] * 3 + ["noise"] * 3


# --------------------------------------------------------------------------------------------------
# refused


def test_one_class_is_refused(features: Features, binary: pd.Series) -> None:
    with pytest.raises(InputError, match="has one class only, 'M', among 94 clients"):
        _few(binary[binary == "M"], features)
    with pytest.raises(InputError, match="is 3 for all 200 usable clients"):
        _few(pd.Series(3, index=_index(200), name="age"), features, task="regression")


def test_a_class_with_fewer_clients_than_folds_is_refused(
    features: Features, binary: pd.Series
) -> None:
    binary.iloc[:2] = "other"
    with pytest.raises(
        InputError,
        match="3 folds need 3 clients of every class of the target 'gender'; class 'other'",
    ):
        _few(binary, features)


def test_fewer_than_two_clients_a_fold_are_refused(features: Features, binary: pd.Series) -> None:
    with pytest.raises(
        InputError,
        match="3 folds need at least 6 clients with a label and all features; there are 5",
    ):
        _few(binary.iloc[:5], features)


def test_labels_that_match_no_client_are_refused(features: Features, binary: pd.Series) -> None:
    with pytest.raises(
        InputError, match=r"Labels: 200 clients, such as .* features: 200 clients, such as"
    ):
        _few(binary.rename(lambda i: f"x{i}"), features)


def test_text_is_refused_as_a_quantity_and_as_a_feature(
    features: Features, binary: pd.Series
) -> None:
    with pytest.raises(InputError, match="Regression needs numbers"):
        _few(binary, features, task="regression")
    with pytest.raises(InputError, match="'text' have columns that hold no numbers: gender"):
        _few(binary, {"text": binary.to_frame()})
    with pytest.raises(InputError, match="'none' have no columns"):
        _few(binary, {"none": binary.to_frame()[[]]})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"folds": 1}, "folds is 1"), ({"trees": 0}, "trees is 0"), ({"threads": 0}, "threads is 0"),
     ({"seed": -1}, "seed is -1"), ({"task": "ranking"}, "task is 'ranking'")],
)  # fmt: skip
def test_options_out_of_range_are_refused(
    features: Features, binary: pd.Series, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _few(binary, features, **options)
    with pytest.raises(ConfigError, match="No features"):
        _few(binary, {})


# --------------------------------------------------------------------------------------------------
# results


@pytest.fixture
def scores() -> Scores:
    rows = (Score("a", "auroc", (0.7, 0.8, 0.9)), Score("a", "log_loss", (0.5, 0.5, 0.5)))
    rows += (Score("b", "auroc", (0.71, 0.81, 0.91)), Score("b", "log_loss", (0.4, 0.5, 0.6)))
    return Scores(
        "gender",
        "classification",
        "auroc",
        rows,
        30,
        40,
        {"a": 35, "b": 30},
        {"F": 20, "M": 10},
        0,
        500,
    )


def test_the_interval_is_that_of_students_t(scores: Scores) -> None:
    row = scores.score("a")
    low, high = stats.t.interval(0.95, 2, loc=row.mean, scale=stats.sem(row.folds))
    assert (row.mean - row.half_width, row.mean + row.half_width) == pytest.approx((low, high))


def test_a_paired_difference_is_sharper_than_two_intervals(scores: Scores) -> None:
    difference = scores.difference("b", "a")
    assert difference.mean == pytest.approx(0.01)
    assert difference.half_width < 1e-9 < scores.score("a").half_width
    assert (difference.features, difference.metric) == ("b - a", "auroc")
    assert scores.difference("a", "b", "log_loss").folds == pytest.approx((0.1, 0.0, -0.1))


def test_results_for_programs_are_plain_json(scores: Scores) -> None:
    found = json.loads(json.dumps(scores.to_json()))
    assert found["scores"][0] == scores.score("a").to_json()
    assert found["differences"][0]["features"] == "b - a"
    assert (found["clients"], found["labelled"], found["matched"]) == (30, 40, {"a": 35, "b": 30})


def test_results_for_people_show_mean_and_interval(scores: Scores) -> None:
    assert "| a | 0.800 ± 0.248 | 0.500 ± 0.000 |" in scores.markdown()
    assert "gender: 30 clients (F: 20, M: 10), 3 folds" in scores.markdown()
    assert "10 more have a label, but no features in one of the sets." in scores.markdown()
    printed = io.StringIO()
    Console(width=120, file=printed).print(scores.table())
    assert "0.800 ± 0.248" in printed.getvalue()


@pytest.mark.parametrize(
    ("folds", "shown"),
    [
        ((12345.0, 12355.0), "12,350 ± 64"),
        ((3_000.0, 3_870.0), "3,435 ± 5,527"),
        ((0.0119, 0.0121), "0.0120 ± 0.0013"),
        ((5.0, 5.0), "5 ± 0"),
        ((1e14, 3e14), "2e+14 ± 1.3e+15"),
    ],
)
def test_errors_in_units_of_the_target_have_the_places_of_their_interval(
    folds: tuple[float, ...], shown: str
) -> None:
    assert str(Score("a", "rmse", folds)) == shown


def test_a_score_that_is_not_there_names_those_that_are(scores: Scores) -> None:
    with pytest.raises(ConfigError, match=r"No features 'aggr' was scored\. There is: a, b\."):
        scores.score("aggr")
    with pytest.raises(ConfigError, match=r"No metric 'aurok' was scored\. Did you mean 'auroc'\?"):
        scores.score("a", "aurok")


def test_importing_the_package_imports_neither_lightgbm_nor_sklearn() -> None:
    code = (
        "import sys, seqmel.evaluation.aggregates, seqmel.data.tables.labels, "
        "seqmel.evaluation.scoring;print(sorted({'lightgbm', 'sklearn', 'scipy', 'rich'} & "
        "{m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_average_is_that_of_the_models_own_predictions() -> None:
    random = np.random.default_rng(0)
    signal = random.normal(size=(240, 2))
    ids = pd.Index(range(240), name="client")
    y = pd.Series((signal.sum(1) + random.normal(size=240) > 0).astype(int), ids, name="t")
    sets = {name: pd.DataFrame({"x": signal[:, i]}, ids) for i, name in enumerate("ab")}
    scores = score(
        y, sets, averages={"both": ("a", "b"), "a again": ("a", "a")}, folds=3, trees=20, threads=1
    )
    assert list(scores.matched) == ["a", "b", "both", "a again"]
    for metric in ("auroc", "accuracy"):
        assert scores.score("a again", metric).folds == scores.score("a", metric).folds
    assert scores.score("both").mean > max(scores.score("a").mean, scores.score("b").mean) + 0.03
    quantity = pd.Series(signal.sum(1), ids, name="q")
    scores = score(quantity, sets, averages={"both": ("a", "b")}, folds=3, trees=20, threads=1)
    best = max(scores.score(name, "spearman").mean for name in "ab")
    assert scores.score("both", "spearman").mean > best + 0.03


def test_a_probe_reads_across_the_columns_of_a_set_and_can_be_averaged() -> None:
    random = np.random.default_rng(0)
    ids = pd.Index(range(240), name="client")
    signal, mixed = random.normal(size=240), random.normal(size=(20, 20))
    y = pd.Series((signal + 0.5 * random.normal(size=240) > 0).astype(int), ids, name="t")
    hidden = (
        np.c_[signal, 3 * random.normal(size=(240, 19))] @ mixed
    )  # of use only in a sum of all columns
    sets = {
        "e": pd.DataFrame(hidden, ids),
        "aggregates": pd.DataFrame({"x": random.normal(size=240)}, ids),
    }
    probes, averages = standard_rows(sets)
    progress = Recorded()
    scores = score(
        y, sets, probes=probes, averages=averages, folds=3, trees=20, threads=1, progress=progress
    )
    assert list(scores.matched) == [
        "e",
        "aggregates",
        "e: linear",
        "e: linear, aggregates: averaged",
    ]
    assert progress.notes == [name for name in ("e", "aggregates", "e: linear") for _ in range(3)]
    assert scores.score("e: linear").mean > scores.score("e").mean + 0.1
    assert (
        scores.score("e: linear, aggregates: averaged").mean > scores.score("aggregates").mean + 0.1
    )


def test_scores_are_the_same_where_predictions_from_the_aggregates_are_kept(
    features: Features, binary: pd.Series, tmp_path: Path
) -> None:
    sets = {"good": features["good"], AGGREGATES: features["noise"]}
    plain = _few(binary, sets).to_json()
    assert [_few(binary, sets, kept=tmp_path).to_json() for _ in range(2)] == [plain, plain]
    assert len(list(tmp_path.iterdir())) == 3  # one a fold, of one set


def test_the_standard_rows_leave_out_what_is_not_there() -> None:
    assert standard_rows(["aggregates"]) == ({}, {})
    assert standard_rows(["e"]) == ({"e: linear": "e"}, {})
    assert standard_rows(["e", "aggregates"])[1] == {
        "e: linear, aggregates: averaged": ("e: linear", "aggregates")
    }
    sets = ["aggregates", "aggregates with order", "e", beside_aggregates("e")]
    averages = {
        "e: linear, aggregates with order: averaged": ("e: linear", "aggregates with order")
    }
    assert standard_rows(sets) == ({"e: linear": "e"}, averages)


def test_differences_are_to_the_aggregates_with_order_where_they_are_there(
    features: Features, binary: pd.Series
) -> None:
    sets = {"good": features["good"], AGGREGATES: features["noise"]}
    found = _few(binary, sets | {WITH_ORDER: features["good"]}).to_json()
    assert found["reference"] == WITH_ORDER
    assert [row["features"] for row in found["differences"]] == [
        f"{n} - {WITH_ORDER}" for n in ("good", AGGREGATES)
    ]
    assert found["differences"][0]["folds"] == [0.0] * 3
    assert _few(binary, sets).reference == AGGREGATES
    assert _few(binary, {"good": features["good"], "noise": features["noise"]}).reference == "good"


def test_an_interval_ends_where_its_metric_does_and_that_of_a_difference_does_not() -> None:
    score = Score("ours", "auroc", (0.5, 1.0))
    assert score.interval == (0, 1)
    assert score.half_width == pytest.approx(0.25 * 12.7062, rel=1e-4)
    assert Score("ours", "r2", (0.5, 1.0)).interval == pytest.approx((-2.4266, 3.9266), rel=1e-4)
    low, high = Score("a - b", "auroc", (0.1, 0.4), is_difference=True).interval
    assert low < -1 < 1 < high
