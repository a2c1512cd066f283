"""Metrics of predictions: by hand where they are small, against scikit-learn where it has them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)

from seqmel.core.errors import ConfigError
from seqmel.evaluation.metrics import (
    Ranking,
    calibration_error,
    classification_metrics,
    metric_names,
    regression_metrics,
    top_recall,
)
from seqmel.evaluation.results import TITLES, Score, Scores
from seqmel.evaluation.scoring import score


@pytest.mark.parametrize("classes", [2, 3])
def test_all_metrics_of_classes_are_there_in_the_order_of_their_names(classes: int) -> None:
    random = np.random.default_rng(0)
    y = np.arange(200) % classes
    probabilities = np.round(random.dirichlet(np.ones(classes), 200), 2)  # with ties
    probabilities[:, 0] += 1 - probabilities.sum(1)
    found = classification_metrics(y, probabilities)
    assert tuple(found) == metric_names(classes)
    assert set(found) <= set(TITLES)
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(y, probabilities.argmax(1))
    )
    assert found["log_loss"] == pytest.approx(log_loss(y, probabilities))
    several = {"multi_class": "ovr"} if classes > 2 else {}
    assert found["auroc"] == pytest.approx(
        roc_auc_score(y, probabilities if several else probabilities[:, 1], **several)
    )
    assert tuple(regression_metrics(y.astype(float), random.normal(size=200))) == metric_names(0)
    if classes == 2:
        assert found["average_precision"] == pytest.approx(
            average_precision_score(y, probabilities[:, 1])
        )
        assert found["brier"] == pytest.approx(brier_score_loss(y, probabilities[:, 1]))
        assert found["gini"] == pytest.approx(2 * found["auroc"] - 1)


def test_lift_and_recall_count_the_second_class_at_the_top() -> None:
    """Return 100 scores: 20 positives, 4 of them among the 5 highest."""
    y, score_of = np.zeros(100, int), np.linspace(1, 0, 100)
    y[[0, 1, 2, 3, *range(50, 66)]] = 1
    found = classification_metrics(y, np.c_[1 - score_of, score_of])
    assert (found["recall_at_1"], found["recall_at_5"], found["recall_at_10"]) == (0.05, 0.2, 0.2)
    assert (found["lift_at_1"], found["lift_at_5"], found["lift_at_10"]) == pytest.approx((5, 4, 2))


def test_clients_with_equal_scores_at_the_edge_count_in_equal_parts() -> None:
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert top_recall(y, np.full(10, 0.5), 0.5) == pytest.approx(0.5)
    assert top_recall(y, np.array([0.9, *[0.5] * 9]), 0.2) == pytest.approx((1 + 1 / 9) / 2)


def test_ks_is_the_largest_distance_between_the_two_distributions() -> None:
    random = np.random.default_rng(1)
    y = np.r_[np.zeros(300, int), np.ones(200, int)]
    scores = np.round(random.normal(y, 1), 1)
    edges = np.unique(scores)
    apart = [abs((scores[y == 0] <= e).mean() - (scores[y == 1] <= e).mean()) for e in edges]
    assert Ranking.of(y == 1, scores).ks == pytest.approx(max(apart))


def test_calibration_error_is_the_mean_distance_of_probability_and_frequency() -> None:
    y = np.array([0, 0, 0, 1] * 25)
    honest = np.tile([0.75, 0.25], (100, 1))
    assert calibration_error(y, honest) == pytest.approx(0)
    assert calibration_error(y, honest[:, ::-1]) == pytest.approx(0.5)
    sure = np.eye(3)[np.zeros(100, int)]
    assert calibration_error(np.arange(100) % 4 % 3, sure) == pytest.approx(0.5)


def test_the_metric_that_is_asked_for_is_shown_first_and_makes_the_differences() -> None:
    random = np.random.default_rng(0)
    ids = pd.Index(range(120), name="client")
    x = random.normal(size=120)
    y = pd.Series((x + random.normal(size=120) > 0).astype(int), ids, name="t")
    sets = {
        "good": pd.DataFrame({"x": x}, ids),
        "noise": pd.DataFrame({"x": random.normal(size=120)}, ids),
    }
    found = score(y, sets, folds=3, trees=10, threads=1, metric="ks")
    assert found.shown == ["ks", "auroc", "log_loss"]
    (difference,) = found.to_json()["differences"]
    assert difference["metric"] == "ks"
    assert difference["mean"] < -0.1
    with pytest.raises(
        ConfigError, match=r"metric is 'kss', which is none of 2 classes\. Did you mean 'ks'"
    ):
        score(y, sets, folds=3, trees=10, threads=1, metric="kss")
    with pytest.raises(ConfigError, match="none of a quantity"):
        score(y, sets, folds=3, trees=10, threads=1, metric="auroc", task="regression")


def test_a_regression_that_is_worse_than_the_mean_is_remarked_on() -> None:
    rows = [
        Score(n, m, (v, v))
        for n, r2 in (("a", 0.2), ("b", -0.31))
        for m, v in (("r2", r2), ("mae", 1.0), ("spearman", 0.0))
    ]
    found = Scores("t", "regression", "r2", tuple(rows), 9, 9, {"a": 9, "b": 9}, {}, 0, 10)
    (remark,) = found.remarks
    assert remark.startswith("b is worse than the mean of the target for every client (R2 -0.310).")
    assert Scores("t", "regression", "r2", tuple(rows[:3]), 9, 9, {"a": 9}, {}, 0, 10).remarks == []


def test_a_table_of_scores_fits_into_80_columns() -> None:
    from rich.console import Console

    metrics = metric_names(2)
    names = (
        "aggregates",
        "embeddings + aggregates with order",
        "embeddings: linear, aggregates with order: averaged",
    )
    rows = tuple(Score(n, m, (0.75, 0.76, 0.71)) for n in names for m in metrics)
    found = Scores(
        "t", "classification", "auroc", rows, 9, 9, dict.fromkeys(names, 9), {"a": 4, "b": 5}, 0, 10
    )
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        console.print(found.table())
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("0.740 ± 0.066" in line for line in lines) == len(names)
