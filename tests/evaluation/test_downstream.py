"""What learns from features: its outputs, and what a missing number is to the linear probe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmel.evaluation import downstream
from seqmel.evaluation.downstream import (
    Booster,
    CachedPredictor,
    Downstream,
    LinearProbe,
    side_by_side,
    spread,
)

MODELS = [Booster(30, 0, 1), LinearProbe(0)]


def drawn(count: int = 400, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = (random.standard_normal((count, width)) * np.logspace(-3, 3, width) + 5).astype(np.float32)
    return x, (x[:, 0] - 5) * 1000 + 0.3 * random.standard_normal(count)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_a_signal_is_found_and_probabilities_are_some(model: Downstream, classes: int) -> None:
    x, signal = drawn()
    y = (
        np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes))
        if classes
        else signal
    )
    found = model.predict(x[:300], y[:300], x[300:], classes)
    if classes:
        assert found.shape == (100, classes)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
        assert (found.argmax(axis=1) == y[300:]).mean() > 0.7
    else:
        assert np.corrcoef(found, y[300:])[0, 1] > 0.8


def test_to_the_probe_a_missing_number_is_the_mean_of_its_column() -> None:
    x, signal = drawn()
    y = (signal > 0).astype(np.int64)
    x[::7, 1] = np.nan
    x[::9, 2] = np.inf
    filled = x.copy()
    for column in (1, 2):
        known = np.isfinite(x[:300, column])
        filled[~np.isfinite(x[:, column]), column] = (
            x[:300, column][known].astype(np.float64).mean()
        )
    probe = LinearProbe(0)
    found = probe.predict(x[:300], y[:300], x[300:], 2)
    assert np.isfinite(found).all()
    # a mean that stands in for missing numbers leaves the mean, and makes the deviation a little
    # smaller
    np.testing.assert_allclose(
        found, probe.predict(filled[:300], y[:300], filled[300:], 2), atol=0.02
    )


def test_columns_without_differences_change_nothing() -> None:
    x, signal = drawn()
    y = (signal > 0).astype(np.int64)
    idle = np.stack([np.full(400, 7e8), np.full(400, np.nan), np.zeros(400)], axis=1).astype(
        np.float32
    )
    probe = LinearProbe(0)
    plain = probe.predict(x[:300], y[:300], x[300:], 2)
    with_idle = probe.predict(np.c_[x, idle][:300], y[:300], np.c_[x, idle][300:], 2)
    np.testing.assert_allclose(with_idle, plain, atol=1e-4)


def test_of_many_rows_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "MAX_CLIENTS", 200)
    x, signal = drawn()
    y = (signal > 0).astype(np.int64)
    found = LinearProbe(1).predict(x, y, x, 2)
    drawn_rows = np.sort(np.random.default_rng(1).permutation(400)[:200])
    np.testing.assert_array_equal(found, LinearProbe(1).predict(x[drawn_rows], y[drawn_rows], x, 2))


def test_models_side_by_side_are_those_one_after_the_other() -> None:
    x, signal = drawn()
    y = (signal > 0).astype(np.int64)
    jobs = [
        (model, np.roll(x, 100 * part, 0), np.roll(y, 100 * part))
        for model in MODELS
        for part in range(3)
    ]
    together = list(side_by_side(trained, jobs, workers=2))
    for job, found in zip(jobs, together, strict=True):
        np.testing.assert_array_equal(found, trained(*job))


def trained(model: Downstream, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return model.predict(x[:300], y[:300], x, 2)


def test_what_a_model_cannot_do_is_told() -> None:
    with pytest.raises(ValueError, match="no 3"):
        list(side_by_side(refusing, ((i,) for i in range(8)), workers=2))


def refusing(job: int) -> int:
    if job == 3:
        raise ValueError(f"no {job}")
    return job


def test_few_numbers_are_a_model_a_core_and_many_are_all_cores_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert spread(8, 10_000_000, 1e12) == (8, 1)
    assert spread(8, 10**9, 1e12) == (1, 8)
    assert spread(8, 1000, 1e6) == (1, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert spread(None, 1000, 1e12) == spread(None, 10**9, 1e12) == (1, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert spread(None, 1000, 1e12)[0] >= 1


class Counted:
    """A model that says how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __repr__(self) -> str:
        return "Counted()"

    def predict(self, x: Any, y: Any, tested: Any, classes: int) -> Any:
        self.asked += 1
        return tested[:, 0] + x.sum() + y.sum() + classes


def test_a_kept_prediction_is_read_again_for_the_same_numbers_only(tmp_path: Path) -> None:
    x, y = drawn(50)
    model = Counted()
    kept = CachedPredictor(model, tmp_path / "predictions")
    first = kept.predict(x[:40], y[:40], x[40:], 0)
    np.testing.assert_array_equal(kept.predict(x[:40].copy(), y[:40], x[40:], 0), first)
    assert model.asked == 1
    others = [
        (x[:40], y[:40], x[40:], 2),
        (x[:39], y[:39], x[40:], 0),
        (x[:40], y[:40] + 1, x[40:], 0),
        (x[:40], y[:40], x[41:], 0),
    ]
    for asked, other in enumerate(others, start=2):
        np.testing.assert_array_equal(kept.predict(*other), model.predict(*other))
        assert model.asked == 2 * asked - 1
    assert len(list((tmp_path / "predictions").iterdir())) == 5


@pytest.mark.parametrize("noise", [2e-8, 1e-3])
def test_a_column_that_hardly_varies_in_training_does_not_rule_the_linear_probe(
    noise: float,
) -> None:
    random = np.random.default_rng(0)
    x, y = drawn()
    train, test = slice(0, 300), slice(300, None)
    extra = random.standard_normal(len(x)) * noise
    extra[-1] = 5.0  # one client of the tested ones has something that no other has
    wide = np.column_stack([x, extra]).astype(np.float32)
    found = LinearProbe(0).predict(wide[train], y[train], wide[test], 0)
    plain = LinearProbe(0).predict(x[train], y[train], x[test], 0)
    assert np.abs(found - plain).max() < np.std(y)
