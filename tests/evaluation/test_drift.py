"""Drift: PSI and MMD against slow twins, silence without drift, and alarm with it."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from seqmel.core.errors import ConfigError, InputError
from seqmel.evaluation.drift import drift, mmd, psi


def _vectors(count: int, *, seed: int, shift: float = 0.0, size: int = 5) -> pd.DataFrame:
    x = np.random.default_rng(seed).normal(size=(count, size))
    x[:, 1] += shift
    return pd.DataFrame(x, columns=[f"emb_{i:04}" for i in range(size)])


def _slow_psi(reference: list[float], current: list[float], bins: int) -> float:
    """Bins between the quantiles of distinct numbers, counted one by one."""
    ordered = sorted(reference)
    edges = [ordered[math.ceil(len(ordered) * i / bins) - 1] for i in range(1, bins)]
    total = 0.0
    for b in range(bins):
        low = edges[b - 1] if b else -math.inf
        high = edges[b] if b < bins - 1 else math.inf
        r, c = (
            (sum(low <= x < high for x in values) + 0.5) / (len(values) + 0.5 * bins)
            for values in (reference, current)
        )
        total += (c - r) * math.log(c / r)
    return total


def _slow_mmd2(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    def kernel(x: np.ndarray, z: np.ndarray) -> float:
        return math.exp(-((x - z) ** 2).sum() / (2 * bandwidth**2))

    n, m = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(kernel(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(kernel(x, z) for x in a for z in b) / (n * m)


@pytest.mark.parametrize("bins", [2, 5, 10])
def test_psi_is_that_of_its_slow_twin(bins: int) -> None:
    a, b = _vectors(83, seed=0), _vectors(61, seed=1, shift=1.0)
    found = psi(a.to_numpy(), b.to_numpy(), bins=bins)
    assert found == pytest.approx(
        [_slow_psi(a[c].tolist(), b[c].tolist(), bins) for c in a.columns]
    )


def test_psi_sees_a_value_that_fills_many_bins() -> None:
    reference = np.repeat([0.0, 1.0], [90, 10])[:, None]
    assert psi(reference, reference) == pytest.approx(0)
    assert psi(reference, np.repeat([0.0, 1.0], [10, 90])[:, None])[0] > 2
    constant = np.full((50, 1), 3.0)
    for moved in (2.0, 4.0):
        assert psi(constant, np.full((50, 1), moved))[0] > 2


def test_mmd_is_that_of_its_slow_twin() -> None:
    a, b = _vectors(12, seed=0).to_numpy(), _vectors(9, seed=1, shift=2.0).to_numpy()
    mmd2, _, bandwidth = mmd(a, b, permutations=5, random=np.random.default_rng(0))
    pooled = np.concatenate([a, b])
    distances = [np.linalg.norm(x - z) for i, x in enumerate(pooled) for z in pooled[:i]]
    assert bandwidth == pytest.approx(np.median(distances))
    assert mmd2 == pytest.approx(_slow_mmd2(a, b, bandwidth), abs=1e-9)


def test_p_values_without_drift_are_spread_evenly() -> None:
    random = np.random.default_rng(0)
    found = [
        mmd(*random.normal(size=(2, 20, 3)), permutations=99, random=random)[1] for _ in range(200)
    ]
    assert 0.4 < np.mean(found) < 0.6
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.07)


def test_no_drift_is_found_where_there_is_none_and_drift_where_there_is() -> None:
    reference = _vectors(400, seed=0)
    calm = drift(reference, _vectors(400, seed=1), permutations=99)
    assert not calm.drifted
    assert calm.verdict.startswith("No drift: 0 of 5 dimensions")
    moved = drift(reference, _vectors(400, seed=1, shift=1.0), permutations=99)
    assert moved.drifted
    assert moved.moved == ("emb_0001",)
    assert moved.p_value == pytest.approx(0.01)
    assert json.loads(json.dumps(moved.to_json()))["psi"]["emb_0001"] > 0.25


def test_few_clients_alone_are_no_drift() -> None:
    found = drift(_vectors(30, seed=0, size=50), _vectors(30, seed=1, size=50), permutations=99)
    assert max(found.psi.values()) > 0.25
    assert found.moved == ()


def test_thresholds_decide() -> None:
    sides = _vectors(400, seed=0), _vectors(400, seed=1, shift=0.5)
    assert drift(*sides, permutations=99, psi_threshold=0.1).moved == ("emb_0001",)
    assert drift(*sides, permutations=99, psi_threshold=9.0).moved == ()
    assert not drift(*sides, permutations=99, psi_threshold=9.0, alpha=0.001).drifted


def test_the_order_of_columns_changes_nothing() -> None:
    a, b = _vectors(50, seed=0), _vectors(50, seed=1)
    assert drift(a, b[b.columns[::-1]], permutations=9) == drift(a, b, permutations=9)


def test_vectors_that_cannot_be_compared_are_refused() -> None:
    a = _vectors(50, seed=0)
    with pytest.raises(InputError, match="The reference has 5 dimensions, the current vectors 3"):
        drift(a, _vectors(50, seed=1, size=3))
    with pytest.raises(InputError, match="columns that the reference does not: x"):
        drift(a, a.rename(columns={"emb_0000": "x"}))
    with pytest.raises(InputError, match="The current vectors: 1 row"):
        drift(a, a.iloc[:1])
    holes = a.copy()
    holes.iloc[2, 2] = np.nan
    with pytest.raises(InputError, match="The reference: 1 row with missing or infinite numbers"):
        drift(holes, a)


@pytest.mark.parametrize(
    "options", [{"bins": 1}, {"permutations": 0}, {"psi_threshold": 0}, {"alpha": 1.0}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="Expected"):
        drift(_vectors(9, seed=0), _vectors(9, seed=1), **options)  # type: ignore[arg-type]


def clients(n: int, *, first: int = 0, shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Vectors of clients who differ: the later the id, the larger the numbers."""
    ids = np.arange(first, first + n)
    noise = np.random.default_rng(seed).normal(0, 0.1, (n, 3))
    return pd.DataFrame(
        ids[:, None] / 100 + noise + shift,
        index=pd.Index(ids, name="client_id"),
        columns=["a", "b", "c"],
    )


def test_a_day_of_active_clients_is_compared_with_the_same_clients_and_not_with_all() -> None:
    everyone, active = clients(600), clients(200, first=400, seed=1)
    found = drift(everyone, active)
    assert (found.by_client, found.reference, found.current, found.drifted) == (
        True,
        200,
        200,
        False,
    )
    assert drift(everyone, active, by_client=False).drifted  # which is who came that day
    assert drift(everyone, clients(200, first=400, shift=0.5, seed=1)).drifted


def test_other_clients_are_compared_as_two_groups() -> None:
    assert not drift(clients(100), clients(100, first=500)).by_client
    assert drift(clients(100), clients(100, first=500), by_client=None).drifted


def test_few_vectors_are_called_too_few_and_no_dimension_within_chance_is_called_large() -> None:
    found = drift(clients(20), clients(20, seed=1))
    assert found.too_few
    assert found.verdict.startswith("Too few vectors to tell")
    readings = {cell for column in found.table().columns[2:] for cell in column.cells}
    assert readings == {"within chance"}
