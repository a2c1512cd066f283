"""Features of event order equal a slow twin in plain pandas, also in edge cases."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqmel.core.errors import ConfigError
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import open_events
from seqmel.evaluation.aggregates import AggregatePlan
from seqmel.evaluation.order_blocks import OrderPlan
from seqmel.inference.as_of import read_moments

SCHEMA = EventSchema(client="client", time="time", categorical=("kind",), numeric=("amount",))
_DAY = pd.Timedelta(days=1)


@pytest.fixture
def events() -> pd.DataFrame:
    """Return 240 unordered events of 12 clients, with nulls, rare values and time ties."""
    rng = np.random.default_rng(1)
    count = 240
    frame = pd.DataFrame(
        {
            "client": rng.integers(0, 12, count),
            "time": pd.Timestamp("1969-12-01")
            + pd.to_timedelta(rng.integers(0, 100 * 24, count), unit="h"),
            "kind": rng.choice(["a", "b", "c", "d"], count, p=[0.5, 0.3, 0.15, 0.05]).astype(
                object
            ),
            "amount": rng.normal(0, 1e3, count),
        }
    )
    frame.loc[::11, "kind"] = None
    frame.loc[::5, "amount"] = np.nan
    return frame


def _slope(x: pd.Series, y: np.ndarray) -> float:
    known = x.notna().to_numpy()
    apart = y[known] - y[known].mean() if known.any() else np.zeros(0)
    return float((apart * x[known]).sum() / (apart**2).sum()) if (apart**2).sum() > 0 else np.nan


def _mean(x: pd.Series, weight: np.ndarray) -> float:
    known = x.notna().to_numpy()
    return float((x[known] * weight[known]).sum() / weight[known].sum()) if known.any() else np.nan


def _ends_of(x: pd.Series) -> tuple[float, float]:
    known = x.dropna()
    return (known.iloc[0], known.iloc[-1]) if len(known) else (np.nan, np.nan)


def _slow(
    own: pd.DataFrame, plan: OrderPlan, moment: pd.Timestamp | None = None
) -> dict[str, float]:
    """The features of the order of one client, one after the other."""
    own = own.sort_values("time", kind="stable").reset_index(drop=True)
    n, quarter = len(own), -(-len(own) // 4)
    age = ((moment or own["time"].iloc[-1]) - own["time"]).to_numpy() / _DAY
    place = np.arange(1, n + 1)
    decayed, recent = 0.5 ** (age / plan.half_life_days), 0.5 ** ((n - place) / 3)
    early, late = place <= quarter, n - place < quarter
    gap = np.log1p(own["time"].diff().dt.total_seconds())
    values = plan.values["kind"]
    kinds = [None if pd.isna(k) else k for k in own["kind"]]
    code = pd.Series([values.index(k) if k in values else -1 for k in kinds])
    out = {}
    for k in range(3):
        has = k < n
        for name, x in (("kind", code), ("amount", own["amount"])):
            out[f"{name}_last{k + 1}"] = x.iloc[-1 - k] if has else np.nan
            out[f"{name}_first{k + 1}"] = x.iloc[k] if has else np.nan
        out[f"gap_log_last{k + 1}"] = gap.iloc[-1 - k] if has else np.nan
        out[f"days_since_last{k + 1}"] = age[-1 - k] if has else np.nan
    for name, x in (("amount", own["amount"]), ("gap_log", gap)):
        first, last = _ends_of(x)
        out |= {f"{name}_last_known": last, f"{name}_last_minus_first": last - first}
        out |= {f"{name}_last_minus_mean": last - x.mean()}
        out |= {f"{name}_early_mean": x[early].mean(), f"{name}_late_mean": x[late].mean()}
        out |= {f"{name}_late_minus_early": x[late].mean() - x[early].mean()}
        out |= {f"{name}_slope": _slope(x, place / n), f"{name}_slope_by_day": _slope(x, -age)}
        out |= {f"{name}_decayed_mean": _mean(x, decayed), f"{name}_recent_mean": _mean(x, recent)}
    text = own["kind"].map(str)
    run = text.groupby((text != text.shift()).cumsum()).cumcount() + 1
    out |= {
        "kind_changes": float((run == 1).sum() - 1),
        "kind_longest_run": run.max(),
        "kind_last_run": run.iloc[-1],
    }
    for value in values[: plan.kinds["kind"]]:
        of = (own["kind"].isna() if value is None else own["kind"] == value).to_numpy()
        label = f"kind_{'null' if value is None else value}"
        shares = (of & late).sum() / quarter, (of & early).sum() / quarter
        out |= {
            f"late_share_{label}": shares[0],
            f"late_minus_early_{label}": shares[0] - shares[1],
        }
        out |= {
            f"decayed_count_{label}": decayed[of].sum(),
            f"recent_count_{label}": recent[of].sum(),
        }
        out[f"events_since_{label}"] = n - place[of].max() if of.any() else np.nan
        out[f"days_since_{label}"] = age[of].min() if of.any() else np.nan
        out[f"mean_gap_days_{label}"] = np.ptp(age[of]) / (of.sum() - 1) if of.sum() > 1 else np.nan
        x = own["amount"][of]
        first, last = _ends_of(x)
        out |= {
            f"amount_last_known_{label}": last,
            f"amount_last_minus_first_{label}": last - first,
        }
        out[f"amount_last_minus_mean_{label}"] = last - x.mean()
        out[f"amount_late_minus_early_{label}"] = (
            own["amount"][of & late].mean() - own["amount"][of & early].mean()
        )
        out[f"amount_slope_by_day_{label}"] = _slope(x, -age[of])
    for pair in plan.transitions["kind"]:
        names = ["rare" if c < 0 else values[c] or "null" for c in pair]
        out[f"count_kind_{names[0]}_to_{names[1]}"] = float(
            ((code.shift() == pair[0]) & (code == pair[1])).sum()
        )
    return out


def _assert_equal(found: pd.DataFrame, slow: pd.DataFrame) -> None:
    assert set(found.columns) == set(slow.columns)
    np.testing.assert_allclose(
        found.to_numpy(), slow[found.columns].to_numpy(float), rtol=2e-4, atol=1e-4
    )


def _of_order(plan: AggregatePlan) -> list[str]:
    return [name for name in plan.columns if name not in plan.plain_columns]


@pytest.mark.parametrize("most_categories", [3, 5])
def test_features_of_order_equal_a_slow_pandas_twin(
    events: pd.DataFrame, most_categories: int
) -> None:
    source = open_events(events)
    plan = AggregatePlan.fit(source, SCHEMA, order=True, most_categories=most_categories)
    assert plan.order is not None
    assert plan.order.kinds == {"kind": most_categories}
    found = plan.compute(source)[_of_order(plan)]
    _assert_equal(
        found,
        pd.DataFrame(
            {c: _slow(own, plan.order) for c, own in events.groupby("client", sort=False)}
        ).T,
    )


def test_the_half_life_is_an_eighth_of_the_median_span(events: pd.DataFrame) -> None:
    plan = AggregatePlan.fit(open_events(events), SCHEMA, order=True)
    spans = events.groupby("client")["time"].agg(np.ptp) / _DAY
    assert plan.order is not None
    assert plan.order.half_life_days == pytest.approx(spans.median() / 8)


def test_as_of_a_moment_only_what_came_before_counts(events: pd.DataFrame) -> None:
    source = open_events(events)
    plan = AggregatePlan.fit(source, SCHEMA, order=True)
    moments = pd.DataFrame(
        {"client": [3, 5, 3], "time": pd.to_datetime(["1970-02-01", "1970-01-20", "1970-01-11"])}
    )
    found = plan.compute(source, read_moments(moments, SCHEMA))
    assert found.index.tolist() == list(zip(moments["client"], moments["time"], strict=True))
    assert plan.order is not None
    slow, plain = {}, []
    for client, moment in found.index:
        before = events[(events["client"] == client) & (events["time"] < moment)]
        slow[client, moment] = _slow(before, plan.order, moment)
        plain.append(plan.compute(open_events(before))[plan.plain_columns])
    _assert_equal(found[_of_order(plan)], pd.DataFrame(slow).T)
    np.testing.assert_allclose(found[plan.plain_columns], pd.concat(plain), rtol=1e-5)


def test_a_client_without_events_before_the_moment_has_counts_of_zero(events: pd.DataFrame) -> None:
    source = open_events(events)
    plan = AggregatePlan.fit(source, SCHEMA, order=True)
    moments = read_moments(
        pd.DataFrame({"client": [3, 99], "time": pd.to_datetime(["1960-01-01", "1970-02-01"])}),
        SCHEMA,
    )
    found = plan.compute(source, moments)
    assert found["events"].tolist() == [0, 0]
    assert (found.filter(regex="^(count|late_share|decayed_count)_") == 0).all(axis=None)
    assert found[["amount_last1", "kind_last1", "days_since_kind_a"]].isna().all(axis=None)


def test_the_features_of_order_see_a_shuffle_and_the_plain_ones_do_not(
    events: pd.DataFrame,
) -> None:
    plan = AggregatePlan.fit(open_events(events), SCHEMA, order=True)
    events = events.sort_values(["client", "time"]).drop_duplicates(["client", "time"])
    shuffled = events.copy()
    rng = np.random.default_rng(0)
    for _, own in events.groupby("client"):
        shuffled.loc[own.index, ["kind", "amount"]] = own[["kind", "amount"]].to_numpy()[
            rng.permutation(len(own))
        ]
    whole, mixed = (
        plan.compute(open_events(e)).sort_index() for e in (events, shuffled.infer_objects())
    )
    np.testing.assert_allclose(mixed[plan.plain_columns], whole[plan.plain_columns], rtol=1e-4)
    assert (mixed["amount_last1"] != whole["amount_last1"]).any()
    assert (mixed["kind_changes"] != whole["kind_changes"]).any()


def test_other_clients_get_the_transitions_of_those_fitted_on(events: pd.DataFrame) -> None:
    plan = AggregatePlan.fit(open_events(events), SCHEMA, order=True)
    other = events[events["client"] < 2].assign(kind="new")
    found = plan.compute(open_events(other))
    assert found.columns.tolist() == plan.columns
    assert (found.filter(regex=r"^count_kind_\w+_to_") == 0).all(axis=None)
    assert (found["kind_last1"] == -1).all()


@pytest.mark.parametrize("most", [60, 100, 150])
def test_the_columns_stay_within_their_budget(events: pd.DataFrame, most: int) -> None:
    wide = events.assign(code=np.arange(len(events)) % 40)
    schema = SCHEMA.model_copy(update={"categorical": ("kind", "code")})
    plan = AggregatePlan.fit(open_events(wide), schema, order=True, most_order_columns=most)
    assert most / 2 < len(_of_order(plan)) <= most
    with pytest.raises(ConfigError, match="most_order_columns is 0"):
        AggregatePlan.fit(open_events(wide), schema, order=True, most_order_columns=0)


def test_names_are_letters_digits_and_underscores_whatever_the_columns_and_values_are() -> None:
    texts = [
        "fast food",
        "fast_food",
        "Fast-Food",
        "a, b: {c}",
        'say "x"',
        "продукты",
        "",
        "x" * 90,
        "7",
    ]
    frame = pd.DataFrame(
        {"client": 1, "time": range(18), '{mcc}, "[<]': texts * 2, "Betrag [€]": 1.0, "2": 2.0}
    )
    categorical, numeric = ('{mcc}, "[<]',), ("Betrag [€]", "2")
    schema = EventSchema(
        client="client", time="time", time_unit="day", categorical=categorical, numeric=numeric
    )
    source = open_events(frame)
    plan = AggregatePlan.fit(source, schema, order=True)
    names = plan.compute(source).columns
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) for name in names)
    assert names.str.casefold().is_unique
    assert {
        "count_mcc_Fast_Food",
        "count_mcc_fast_food_2",
        "count_mcc_fast_food_3",
        "Betrag_mean",
        "f_2_mean",
    } <= set(names)
    words = plan.descriptions
    assert list(words) == names.tolist()
    assert words["count_mcc_a_b_c"] == "number of events with {mcc}, \"[<] = 'a, b: {c}'"
    assert words["count_mcc_value9"] == "number of events with {mcc}, \"[<] = 'продукты'"


OURS = [
    "t",
    "p",
    "n",
    "c0",
    "k0",
    "x0",
    "age",
    "gap",
    "rowid",
    "file_row_number",
    "file_index",
    "place",
]


@pytest.mark.parametrize("k", range(len(OURS)))
def test_no_name_of_a_column_meets_one_of_ours(events: pd.DataFrame, k: int) -> None:
    wanted = AggregatePlan.fit(open_events(events), SCHEMA, order=True).compute(open_events(events))
    renamed = dict(zip(("client", "time", "kind", "amount"), (OURS * 2)[k::3], strict=False))
    schema = EventSchema(
        client=renamed["client"],
        time=renamed["time"],
        categorical=(renamed["kind"],),
        numeric=(renamed["amount"],),
    )
    source = open_events(events.rename(columns=renamed))
    found = AggregatePlan.fit(source, schema, order=True).compute(source)
    np.testing.assert_array_equal(found.to_numpy(), wanted.to_numpy())
    assert found.index.tolist() == wanted.index.tolist()


def test_there_may_be_no_event_no_category_and_no_number() -> None:
    nothing = pa.table(
        {"client": pa.array([1, 2]), "day": pa.array([[], []], pa.list_(pa.int64()))}
    )
    schema = EventSchema(client="client", time="day", time_unit="day")
    source = open_events(nothing)
    found = AggregatePlan.fit(source, schema, order=True).compute(source)
    assert found["events"].tolist() == [0, 0]
    assert found["gap_log_slope"].isna().all()


def test_a_number_that_never_changes_differs_from_its_mean_by_zero() -> None:
    events = pd.DataFrame(
        {
            "client": np.repeat([1, 2], 9),
            "time": np.tile(pd.date_range("2024-01-01", periods=9, freq="D"), 2),
            "kind": "a",
            "amount": np.repeat([0.1, 70.1], 9),
        }
    )
    source = open_events(events)
    found = AggregatePlan.fit(source, SCHEMA, order=True).compute(source)
    names = [name for name in found if "minus" in name and name.startswith("amount")]
    assert len(names) == 6
    assert (found[names].to_numpy() == 0).all()
