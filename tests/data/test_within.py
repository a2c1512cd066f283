"""The category that a number lies within is that of a plain reckoning over groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqmel.data.fitting import category_scaling as within
from seqmel.data.fitting.category_scaling import infer_within
from seqmel.data.sources.reading import open_events


def table(**columns: Any) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    times = pd.date_range("2024-01-01", periods=rows, freq="min")
    return pd.DataFrame({"client_id": np.arange(rows) // 10, "event_time": times} | columns)


def found(frame: pd.DataFrame, kinds: list[str], numbers: list[str]) -> dict[str, str]:
    return infer_within(open_events(frame), kinds, numbers)


def by_groups(frame: pd.DataFrame, kinds: list[str], numbers: list[str]) -> dict[str, str]:
    """Slow twin: the variance of ranks around group means, without what chance explains."""
    expected = {}
    for number in numbers:
        known = frame[frame[number].notna()]
        ranks = known[number].rank()
        shares = {}
        for kind in kinds:
            groups = ranks.groupby(known[kind], dropna=False)
            within = ((ranks - groups.transform("mean")) ** 2).sum() / (len(ranks) - groups.ngroups)
            varying = (groups.transform("nunique") > 1).mean() > 0.5
            shares[kind] = 1 - within / ranks.var() if varying else 0.0
        good = [k for k in kinds if shares[k] > 0.5 and shares[k] >= max(shares.values()) - 0.05]
        if good:
            expected[number] = min(good, key=lambda k: (frame[k].nunique(dropna=False), -shares[k]))
    return expected


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_category_that_explains_most_of_the_ranks(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(300, 3_000))
    codes = {f"kind_{i}": draw.integers(0, draw.integers(2, 9), rows) for i in range(3)}
    columns: dict[str, Any] = {name: pd.array(code, dtype="Int32") for name, code in codes.items()}
    columns["kind_0"][draw.random(rows) < 0.1] = pd.NA
    columns["kind_1"] = np.char.add("k", codes["kind_1"].astype(str))
    columns["kind_2"] = codes["kind_2"] % 2 == 0
    for i, strength in enumerate(draw.choice([0.0, 0.3, 3.0], 4)):
        numbers = np.round(
            strength * codes[f"kind_{i % 3}"] + draw.normal(size=rows), int(draw.integers(0, 3))
        )
        columns[f"number_{i}"] = np.where(draw.random(rows) < 0.2, np.nan, numbers)
    frame, kinds, numbers = table(**columns), list(codes), [f"number_{i}" for i in range(4)]
    assert found(frame, kinds, numbers) == by_groups(frame, kinds, numbers)


def test_a_property_of_the_category_is_not_scaled_within_it() -> None:
    draw = np.random.default_rng(0)
    product = draw.integers(0, 50, 2_000)
    price = draw.gamma(2.0, 10.0, 50)[product]
    assert found(table(product=product, price=price), ["product"], ["price"]) == {}


def test_many_categories_explain_nothing_by_their_number_alone() -> None:
    draw = np.random.default_rng(0)
    shop = draw.integers(0, 900, 1_500)
    assert found(table(shop=shop, amount=draw.normal(size=1_500)), ["shop"], ["amount"]) == {}


@pytest.mark.parametrize("order", [["analyte", "method"], ["method", "analyte"]])
def test_of_categories_that_explain_as_much_the_one_with_fewer_values_is_taken(
    order: list[str],
) -> None:
    draw = np.random.default_rng(0)
    analyte = draw.integers(0, 6, 3_000)
    method = analyte * 40 + draw.integers(0, 40, 3_000)
    frame = table(analyte=analyte, method=method, value=10.0 * analyte + draw.normal(size=3_000))
    assert found(frame, order, ["value"]) == {"value": "analyte"}


def test_all_rare_numbers_are_looked_for_in_one_more_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within, "_ROWS", 1_000)
    monkeypatch.setattr(within, "_FEWEST_ROWS", 1_000)
    scans = []
    first_rows = within._first_rows
    monkeypatch.setattr(
        within, "_first_rows", lambda *a, **k: scans.append(k) or first_rows(*a, **k)
    )
    kind, late = np.arange(20_000) % 4, np.arange(20_000) >= 18_000
    rare = {
        f"rare_{i}": np.where(late, kind + np.linspace(0.0, 0.5, 20_000), np.nan) for i in range(5)
    }
    assert found(table(kind=kind, **rare), ["kind"], list(rare)) == dict.fromkeys(rare, "kind")
    assert len(scans) == 2


def test_a_number_that_is_rarely_there_is_looked_at_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(within, "_ROWS", 1_000)
    monkeypatch.setattr(within, "_FEWEST_ROWS", 1_000)
    kind = np.arange(20_000) % 4
    refund = np.where(np.arange(20_000) < 18_000, np.nan, kind + np.linspace(0.0, 0.5, 20_000))
    frame = table(kind=kind, refund=refund, other=np.linspace(0.0, 1.0, 20_000))
    assert found(frame, ["kind"], ["refund", "other"]) == {"refund": "kind"}


def test_a_number_without_values_in_the_first_rows_lies_within_nothing() -> None:
    assert found(table(kind=[0, 1] * 10, nothing=[np.nan] * 20), ["kind"], ["nothing"]) == {}


@pytest.mark.parametrize(("kinds", "numbers"), [([], ["x"]), (["kind"], [])])
def test_without_categories_or_numbers_there_is_nothing_to_find(
    kinds: list[str], numbers: list[str]
) -> None:
    assert found(table(kind=[0, 1], x=[0.0, 1.0]), kinds, numbers) == {}
