"""Linear models are regularised as far as held-out clients say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from seqmel.core import linear_models as linear
from seqmel.core.linear_models import _weakest, logistic


def drawn(count: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standard numbers, and two classes that the first of them tells apart most of the time."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, width)).astype(np.float32)
    return x, (x[:, 0] + 0.7 * random.standard_normal(count) > 0).astype(np.int64)


def test_two_classes_are_one_of_sklearns_logistic_regressions() -> None:
    x, y = drawn(300, 4)
    weight, bias = logistic(x, y, np.ones(300), 2, seed=0)
    fits = [
        LogisticRegression(C=c, max_iter=1000).fit(x, y) for c in 10.0 ** np.arange(-5, -0.9, 0.5)
    ]
    gaps = [
        abs(fit.coef_[0] - (weight[1] - weight[0])).max()
        + abs(fit.intercept_[0] - bias[1] + bias[0])
        for fit in fits
    ]
    assert min(gaps) < 2e-3


def test_the_search_ends_where_weaker_penalties_no_longer_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = drawn(60, 400)
    found = logistic(x, y, np.ones(60), 2, seed=0)
    tried: list[float] = []
    solved = linear._fit

    def counted(*arguments: object) -> object:
        tried.append(float(arguments[3]))  # type: ignore[arg-type]
        return solved(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(linear, "_fit", counted)
    again = logistic(x, y, np.ones(60), 2, seed=0)
    assert max(tried) < 0.01
    np.testing.assert_array_equal(found[0], again[0])


def test_a_class_that_is_not_there_is_held_to_be_rare() -> None:
    x, y = drawn(60, 3)
    weight, bias = logistic(x, y * 2, np.ones(60), 3, seed=0)
    scores = x @ weight.T + bias
    assert (scores[:, 1] < scores[:, [0, 2]].max(axis=1) - 5).all()


def test_two_of_three_classes_have_the_logits_of_two_classes() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    weight, bias = logistic(x, y, np.ones(80), 2, 0)
    of_three, bias_of_three = logistic(x, 2 * y, np.ones(80), 3, 0)
    np.testing.assert_array_equal(of_three[[0, 2]], weight)
    np.testing.assert_array_equal(bias_of_three, [bias[0], -10, bias[1]])


def test_the_strongest_penalty_within_one_standard_error_of_the_best_is_chosen() -> None:
    even = np.tile([0.6, 0.4], 50)
    noisy = even + np.tile([0.3, -0.28], 50)  # .01 more on average, with an error of .03
    worse = even + np.tile([0.06, 0.04], 50)  # .05 more, with an error of .001
    assert _weakest(np.stack([noisy, worse, even])) == 0
    assert _weakest(np.stack([worse, noisy, even])) == 1
    assert _weakest(np.stack([worse, even, noisy])) == 1
    assert _weakest(np.stack([even, even, noisy])) == 0


def test_classes_of_one_client_each_are_solved_without_a_warning() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    weight, bias = logistic(x, np.arange(20) % 19, np.ones(20), 19, seed=0)
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()
