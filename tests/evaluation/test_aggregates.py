"""Aggregates against a slow twin in plain pandas, and what they do at the edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqmel.core.errors import ConfigError, InputError
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import open_events
from seqmel.evaluation.aggregates import AggregatePlan

SCHEMA = EventSchema(
    client="client", time="time", categorical=("mcc", "kind"), numeric=("amount", "points")
)
_OF_NUMBER = ("sum", "mean", "std", "min", "max")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@pytest.fixture
def events() -> pd.DataFrame:
    """Return 300 events of 12 clients around 1970, with nulls, NaN, infinities and time ties."""
    rng = np.random.default_rng(0)
    count = 300
    frame = pd.DataFrame(
        {
            "client": rng.permutation([f"c{i}" for i in rng.integers(0, 12, count)]),
            "time": pd.Timestamp("1969-11-15")
            + pd.to_timedelta(rng.integers(0, 100 * 96, count) * 900, unit="s"),
            "mcc": pd.array(
                rng.choice([5411, 6011, 7995, 42], count, p=[0.5, 0.3, 0.15, 0.05]), dtype="Int64"
            ),
            "kind": rng.choice(["in", "out", "it's", "null"], count).astype(object),
            "amount": rng.normal(0, 1e4, count),
            "points": rng.integers(-5, 5, count),
        }
    )
    frame.loc[::17, "mcc"] = pd.NA
    frame.loc[::19, "kind"] = None
    frame.loc[::7, "amount"] = np.nan
    frame.loc[3, "amount"], frame.loc[5, "amount"] = np.inf, -np.inf
    return frame


def _numbers(prefix: str, suffix: str, values: pd.Series) -> dict[str, float]:
    known = values[np.isfinite(values)].astype(float)
    return {f"{prefix}_{s}{suffix}": getattr(known, s)() for s in _OF_NUMBER}


def _slow(own: pd.DataFrame, plan: AggregatePlan, first: pd.Timestamp) -> dict[str, float]:
    """All aggregates of one client, one after the other."""
    day = pd.Timedelta(days=1)
    times = own["time"].sort_values()
    gaps = np.log1p(times.diff().dropna().dt.total_seconds())
    out = {"events": float(len(own)), "span_days": (times.max() - times.min()) / day}
    out |= {"first_day": (times.min() - first) / day, "last_day": (times.max() - first) / day}
    out |= {f"gap_log_{s}": getattr(gaps, s)() for s in _OF_NUMBER[1:]}
    for name in SCHEMA.numeric:
        out |= {f"{name}_known": float(np.isfinite(own[name]).sum())} | _numbers(
            name, "", own[name]
        )
    for column, values in plan.values.items():
        text = own[column].astype(object).map(str, na_action="ignore")
        out[f"{column}_distinct"] = float(text.nunique())
        for value in values:
            of_value = own[
                text.isna() if value is None else (text == value).fillna(False).astype(bool)
            ]
            label = f"{column}_{'null' if value is None else value.replace(chr(39), '_')}"
            label = label if f"count_{label}" not in out else f"{label}_2"
            out |= {
                f"count_{label}": float(len(of_value)),
                f"share_{label}": len(of_value) / len(own),
            }
            for name in SCHEMA.numeric:
                out |= _numbers(name, f"_{label}", of_value[name])
    out |= {f"share_hour_{h:02}": float((times.dt.hour == h).mean()) for h in range(24)}
    return out | {
        f"share_weekday_{w}": float((times.dt.day_of_week == i).mean())
        for i, w in enumerate(_WEEKDAYS)
    }


def test_aggregates_equal_a_slow_pandas_twin(events: pd.DataFrame) -> None:
    source = open_events(events)
    plan = AggregatePlan.fit(source, SCHEMA)
    found = plan.compute(source)
    first = events["time"].min()
    slow = pd.DataFrame(
        {c: _slow(own, plan, first) for c, own in events.groupby("client", sort=False)}
    ).T
    assert set(found.columns) == set(slow.columns)
    assert (found.dtypes == np.float32).all()
    pd.testing.assert_frame_equal(
        found,
        slow[found.columns].astype(np.float32),
        rtol=1e-5,
        atol=1e-6,
        check_names=False,
        check_index_type=False,
    )


def test_clients_come_in_order_of_first_appearance_under_their_own_name(
    events: pd.DataFrame,
) -> None:
    found = AggregatePlan.fit(open_events(events), SCHEMA).compute(open_events(events))
    assert found.index.tolist() == events["client"].unique().tolist()
    assert found.index.name == "client"


def test_column_names_are_unique_even_where_a_value_is_the_text_null(events: pd.DataFrame) -> None:
    source = open_events(events)
    columns = AggregatePlan.fit(source, SCHEMA).compute(source).columns
    assert columns.is_unique
    assert {"share_kind_null", "share_kind_null_2", "amount_sum_mcc_5411", "amount_mean"} <= set(
        columns
    )


def test_clients_without_events_are_kept_with_counts_of_zero() -> None:
    nested = pa.table(
        {"client": [7, 8, 9], "day": [[1, 2], [], None], "amount": [[1.0, 2.0], [], None]}
    )
    schema = EventSchema(client="client", time="day", time_unit="day", numeric=("amount",))
    source = open_events(nested)
    found = AggregatePlan.fit(source, schema).compute(source)
    assert found.index.tolist() == [7, 8, 9]
    assert found["events"].tolist() == [2, 0, 0]
    assert found["amount_sum"].tolist() == [3, 0, 0]
    assert found.loc[[8, 9], ["amount_mean", "gap_log_mean", "span_days"]].isna().all(axis=None)


def test_the_most_frequent_values_get_columns_and_no_others(events: pd.DataFrame) -> None:
    plan = AggregatePlan.fit(open_events(events), SCHEMA, most_categories=2)
    assert plan.values["mcc"] == ("5411", "6011")
    assert len(plan.values["kind"]) == 2


def test_a_plan_gives_other_clients_the_same_columns(events: pd.DataFrame) -> None:
    plan = AggregatePlan.fit(open_events(events), SCHEMA)
    other = pd.DataFrame(
        {
            "client": [1],
            "time": [pd.Timestamp("2000-01-01")],
            "mcc": [9999],
            "kind": ["new"],
            "amount": [1.0],
            "points": [1],
        }
    )
    found = plan.compute(open_events(other))
    assert found.columns.tolist() == plan.compute(open_events(events)).columns.tolist()
    assert found.filter(regex=r"^count_(mcc|kind)_").eq(0).all(axis=None)


def test_whole_numbers_match_whatever_type_they_are_read_as(events: pd.DataFrame) -> None:
    plan = AggregatePlan.fit(open_events(events), SCHEMA)
    as_float = events.assign(mcc=events["mcc"].astype("Float64"))
    pd.testing.assert_frame_equal(
        plan.compute(open_events(as_float)), plan.compute(open_events(events))
    )


def test_days_without_a_time_of_day_get_no_hours_and_short_spans_no_weekdays(
    events: pd.DataFrame,
) -> None:
    days = events.assign(time=events["time"].dt.floor("D"))
    source = open_events(days)
    columns = AggregatePlan.fit(source, SCHEMA).compute(source).columns
    assert not columns.str.startswith("share_hour_").any()
    assert columns.str.startswith("share_weekday_").sum() == 7
    week = open_events(events[events["time"] < events["time"].min() + pd.Timedelta(days=7)])
    columns = AggregatePlan.fit(week, SCHEMA).compute(week).columns
    assert not columns.str.startswith("share_weekday_").any()


def test_event_columns_may_have_any_name() -> None:
    names = ["client", "events", "value", "place", "client_index", "first", "n", "t"]
    frame = pd.DataFrame({name: [1, 1, 2] for name in names})
    schema = EventSchema(
        client="client",
        time="t",
        time_unit="day",
        categorical=("value", "place", "n"),
        numeric=("events", "first"),
    )
    source = open_events(frame)
    found = AggregatePlan.fit(source, schema).compute(source)
    assert found["events"].tolist() == [2, 1]
    assert found["events_sum"].tolist() == [2, 2]
    assert found.columns.is_unique


def test_huge_numbers_stay_within_float32() -> None:
    frame = pd.DataFrame({"client": [1, 1], "day": [1, 2], "amount": [1e300, -1e300]})
    schema = EventSchema(client="client", time="day", time_unit="day", numeric=("amount",))
    source = open_events(frame)
    found = AggregatePlan.fit(source, schema).compute(source)
    assert np.isfinite(found.to_numpy()[:, found.columns.str.startswith("amount")]).all()


def test_many_numbers_and_categories_do_not_make_ever_more_columns() -> None:
    rng = np.random.default_rng(0)
    numbers, categories = [f"x{i}" for i in range(30)], [f"c{i}" for i in range(10)]
    data = {"client": rng.integers(0, 5, 400), "day": rng.integers(0, 9, 400)}
    data |= {n: rng.normal(size=400) for n in numbers} | {
        c: rng.integers(0, 40, 400) for c in categories
    }
    schema = EventSchema(
        client="client",
        time="day",
        time_unit="day",
        categorical=tuple(categories),
        numeric=tuple(numbers),
    )
    source = open_events(pd.DataFrame(data))
    assert AggregatePlan.fit(source, schema).compute(source).shape[1] < 5_500


def test_a_missing_client_is_refused(events: pd.DataFrame) -> None:
    events.loc[4, "client"] = None
    with pytest.raises(InputError, match="1 event in the given DataFrame has no client"):
        AggregatePlan.fit(open_events(events), SCHEMA)


def test_a_number_of_categories_out_of_range_is_refused(events: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="most_categories is 0"):
        AggregatePlan.fit(open_events(events), SCHEMA, most_categories=0)


def test_items_of_sets_words_of_texts_and_hashed_names_are_counted() -> None:
    frame = pd.DataFrame({
        "client": ["a", "a", "a", "b"],
        "time": pd.date_range("2024-01-01", periods=4),
        "basket": [["milk", "bread", "milk"], ["milk"], None, ["it's", None]],
        "note": ["Pay RENT now", "rent", "", None],
        "shop": ["x", "x", "y", None],
    })  # fmt: skip
    schema = EventSchema(
        client="client", time="time", categorical=(), numeric=(),
        kinds={"basket": "set", "note": "text", "shop": "hashed"},
    )  # fmt: skip
    source = open_events(frame, client="client")
    plan = AggregatePlan.fit(source, schema)
    assert plan.items == {
        "basket": ("milk", "bread", "it's"), "note": ("rent", "now", "pay"), "shop": ("x", "y"),
    }  # fmt: skip
    found = plan.compute(source)
    counts = {
        "count_basket_milk": [2, 0], "count_basket_bread": [1, 0], "count_note_rent": [2, 0],
        "count_note_pay": [1, 0], "count_shop_x": [2, 0], "count_shop_y": [1, 0],
    }  # fmt: skip
    for name, expected in counts.items():
        assert found[name].tolist() == expected, name
    assert found["share_basket_milk"].tolist() == pytest.approx([2 / 3, 0])
    assert found["count_basket_it_s"].tolist() == [0, 1]
    few = AggregatePlan.fit(source, schema, most_categories=1)
    assert few.items == {"basket": ("milk",), "note": ("rent",), "shop": ("x",)}
