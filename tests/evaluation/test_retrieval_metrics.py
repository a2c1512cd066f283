"""Retrieval and verification figures against loops that follow the definitions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqmel.core.errors import InputError
from seqmel.evaluation import retrieval_metrics as retrieval
from seqmel.evaluation.retrieval_metrics import relevant_ranks, retrieval_figures, verification


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_CHUNK", 7)


def _unit(count: int, *, seed: int, size: int = 4) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _slow_figures(
    query: np.ndarray, gallery: np.ndarray, mine: np.ndarray, theirs: np.ndarray, k: int
) -> list[float]:
    """recall@k, precision@k, cmc@k, average precision: a sorted list for each query."""
    rows = []
    for vector, client in zip(query, mine, strict=True):
        order = sorted(range(len(gallery)), key=lambda j: -float(vector @ gallery[j]))
        hits = [int(theirs[j] == client) for j in order]
        precisions = [sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit]
        rows.append(
            [
                sum(hits[:k]) / sum(hits),
                sum(hits[:k]) / k,
                float(any(hits[:k])),
                np.mean(precisions),
            ]
        )
    return [float(mean) for mean in np.mean(rows, axis=0)]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_retrieval_figures_are_those_of_their_slow_twin(k: int) -> None:
    theirs = np.array([0] * 3 + [1] + [2] * 2 + list(range(3, 20)))
    query, gallery, mine = _unit(20, seed=0), _unit(len(theirs), seed=1), np.arange(20)
    gallery[:6] += 0.8 * query[[0, 0, 0, 1, 2, 2]]
    found = retrieval_figures(relevant_ranks(query, gallery, mine, theirs), [k])
    slow = _slow_figures(query, gallery, mine, theirs, k)
    assert [
        found[name].mean for name in (f"recall@{k}", f"precision@{k}", f"cmc@{k}", "map")
    ] == pytest.approx(slow)


def test_a_query_in_the_gallery_is_searched_among_the_others_as_in_a_slow_loop() -> None:
    views, who = _unit(20, seed=3), np.tile(np.arange(10), 2)
    views[10:] += views[:10]
    expected = []
    for i in range(20):
        others = [j for j in range(20) if j != i]
        order = sorted(others, key=lambda j: -float(views[i] @ views[j]))
        expected.append(1 + order.index((i + 10) % 20))
    ranks = relevant_ranks(views, views, who, who, without_itself=True)
    assert ranks.tolist() == [[rank] for rank in expected]
    found = retrieval_figures(ranks, [1, 3], queries=2)
    assert found["recall@3"].mean == pytest.approx(np.mean(np.array(expected) <= 3))


def test_equal_vectors_find_nothing() -> None:
    same, who = np.ones((9, 1), np.float32), np.arange(9)
    assert relevant_ranks(same, same, who, who).tolist() == [[9]] * 9


def test_the_interval_of_a_figure_holds_its_mean_and_narrows_with_clients() -> None:
    ranks = np.random.default_rng(0).integers(1, 4, (2_000, 1))
    wide, narrow = (retrieval_figures(rows, [1])["recall@1"] for rows in (ranks[:50], ranks))
    assert wide.low < wide.mean < wide.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3


def test_a_query_without_its_client_in_the_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="no item of its own client"):
        relevant_ranks(_unit(3, seed=0), _unit(3, seed=1), np.arange(3), np.array([0, 1, 5]))


def _slow_verification(
    query: np.ndarray, gallery: np.ndarray, far: float, seed: int
) -> tuple[float, ...]:
    """threshold, TAR, measured FAR, AUROC: all pairs one by one."""
    mixed = np.random.default_rng(seed).permutation(len(query))
    halves = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]

    def alike(i: int, j: int) -> float:
        return float(np.float32((query[i : i + 1] @ gallery[j : j + 1].T)[0, 0]))

    calibration = sorted(
        (alike(i, j) for i in halves[0] for j in halves[0] if i != j), reverse=True
    )
    threshold = calibration[int(far * len(calibration))]
    own = [alike(i, i) for i in halves[1]]
    others = [alike(i, j) for i in halves[1] for j in halves[1] if i != j]
    wins = sum((o > x) + 0.5 * (o == x) for o in own for x in others)
    return (
        threshold,
        sum(o > threshold for o in own) / len(own),
        sum(o > threshold for o in others) / len(others),
        wins / len(own) / len(others),
    )


@pytest.mark.parametrize("far", [0.02, 0.1])
def test_verification_is_that_of_its_slow_twin(far: float) -> None:
    query = _unit(60, seed=0)
    gallery = query + 0.6 * _unit(60, seed=1)
    gallery = (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).astype(np.float32)
    found = verification(query, gallery, fars=(far,), seed=3)
    (point,) = found.points
    threshold, tar, measured, auroc = _slow_verification(query, gallery, far, 3)
    assert point.threshold == pytest.approx(threshold, abs=1e-6)
    assert point.tar is not None
    assert point.tar.mean == pytest.approx(tar)
    assert point.measured_far == pytest.approx(measured, abs=2 / 870)
    assert found.auroc == pytest.approx(auroc, abs=1e-6)


def test_the_roc_rises_from_strict_to_lenient() -> None:
    found = verification(_unit(300, seed=0), _unit(300, seed=1))
    far, tar = np.array(found.roc).T
    assert (np.diff(far) >= 0).all()
    assert (np.diff(tar) > 0).all()
    assert tar[-1] == 1
    assert 0.3 < found.auroc < 0.7
    assert np.abs(far - tar).max() < 0.2  # chance


def test_equal_vectors_are_told_apart_by_chance_only() -> None:
    same = np.ones((40, 1), np.float32)
    found = verification(same, same, fars=(0.1,))
    assert found.auroc == 0.5
    (point,) = found.points
    assert point.tar is not None
    assert (point.tar.mean, point.measured_far) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [64, 256, 1_000])
def test_equal_vectors_tie_in_whatever_order_they_are_summed(
    size: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        retrieval, "_CHUNK", 83
    )  # the last of 500 is of two rows, and of 250 of one
    same, who = _unit(1, seed=seed, size=size).repeat(500, axis=0), np.arange(500)
    assert set(relevant_ranks(same, same, who, who).ravel()) == {500}
    found = verification(same, same, fars=(0.01,), seed=seed)
    assert found.auroc == 0.5
    assert found.points[0].tar is not None
    assert (found.points[0].tar.mean, found.points[0].measured_far) == (0, 0)


def test_a_rate_that_too_few_pairs_would_make_has_no_threshold() -> None:
    found = verification(_unit(60, seed=0), _unit(60, seed=1), fars=(0.1, 1e-4))
    assert [point.threshold is None for point in found.points] == [False, True]
    assert json.loads(json.dumps(found.to_json()))["points"][1]["tar"] is None
    with pytest.raises(InputError, match="four clients or more"):
        verification(_unit(3, seed=0), _unit(3, seed=1))


def test_calibrated_thresholds_keep_their_rate_on_other_clients() -> None:
    found = verification(
        _unit(400, seed=0, size=16), _unit(400, seed=1, size=16), fars=(1e-2, 1e-3)
    )
    for point in found.points:
        assert point.measured_far == pytest.approx(point.far, rel=0.5)
