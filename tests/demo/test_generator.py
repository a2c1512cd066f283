"""The demo data: reproducible, in the documented form, with the signal planted as intended."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqmel.core.errors import ConfigError
from seqmel.demo.generator import CardData, generate_card_data
from seqmel.demo.merchants import CITIES, MERCHANTS, PAY_MCC

CLIENTS = 600
GROCERIES, PHARMACY, RESTAURANT, TAXI, COSMETICS, GARDEN = 5411, 5912, 5812, 4121, 5977, 5261


@pytest.fixture(scope="module")
def data() -> CardData:
    return generate_card_data(CLIENTS, seed=3)


@pytest.fixture(scope="module")
def events(data: CardData) -> pd.DataFrame:
    """Events by client and time, with the client's labels."""
    frame = data.events.to_pandas().merge(data.clients.to_pandas(), on="client_id")
    ordered: pd.DataFrame = frame.sort_values(
        ["client_id", "event_time"], kind="stable", ignore_index=True
    )
    return ordered


def _trips(events: pd.DataFrame, first: int, second: int) -> pd.DataFrame:
    """Count neighbouring events at two kinds of merchant within three hours, in each order."""
    after = events.groupby("client_id")[["mcc", "event_time"]].shift(-1)
    near = after["event_time"] - events["event_time"] < pd.Timedelta(hours=3)
    forward = near & (events["mcc"] == first) & (after["mcc"] == second)
    backward = near & (events["mcc"] == second) & (after["mcc"] == first)
    trips: pd.DataFrame = events.assign(forward=forward)[forward | backward]
    return trips


def _share(events: pd.DataFrame, mcc: int) -> pd.Series:
    """Each client's share of events at this kind of merchant."""
    return (events["mcc"] == mcc).groupby(events["client_id"]).mean()


def test_the_same_seed_gives_the_same_tables() -> None:
    one, two = generate_card_data(50, seed=7), generate_card_data(50, seed=7)
    assert one.events.equals(two.events)
    assert one.clients.equals(two.clients)


def test_another_seed_gives_other_tables() -> None:
    one, two = generate_card_data(50, seed=7), generate_card_data(50, seed=8)
    assert not one.events.equals(two.events)
    assert not one.clients.equals(two.clients)


def test_global_random_state_is_neither_used_nor_changed() -> None:
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    generate_card_data(5)
    assert np.random.random() == expected


def test_columns_and_types(data: CardData) -> None:
    text, whole = pa.string(), pa.int64()
    columns = [
        ("client_id", whole),
        ("event_time", pa.timestamp("s")),
        ("mcc", whole),
        ("amount", pa.float64()),
    ]
    assert data.events.schema.equals(pa.schema([*columns, ("city", text), ("channel", text)]))
    labels = [("client_id", whole), ("gender", text), ("age", whole), ("age_group", whole)]
    assert data.clients.schema.equals(pa.schema(labels))


def test_clients(data: CardData) -> None:
    clients = data.clients.to_pandas()
    assert len(clients) == clients["client_id"].nunique() == CLIENTS
    assert clients["client_id"].min() >= 10_000_000
    assert not clients["client_id"].is_monotonic_increasing
    assert set(clients["gender"]) == {"F", "M"}
    assert clients["age"].between(18, 80).all()
    assert clients["age_group"].value_counts(normalize=True).between(0.2, 0.3).all()
    assert (
        clients.groupby("age_group")["age"]
        .max()
        .lt(clients.groupby("age_group")["age"].min().shift(-1))[:-1]
        .all()
    )


def test_events_are_one_year_in_time_order_with_clients_mixed(data: CardData) -> None:
    events = data.events.to_pandas()
    assert events["event_time"].is_monotonic_increasing
    assert events["event_time"].min() >= datetime(2023, 1, 1)
    assert events["event_time"].max() < datetime(2024, 1, 1)
    assert (events["client_id"].diff() != 0).mean() > 0.9


@pytest.mark.parametrize("clients", [1, 2, 40])
def test_every_client_has_events_however_few_clients(clients: int) -> None:
    data = generate_card_data(clients)
    assert set(data.events["client_id"].to_pylist()) == set(data.clients["client_id"].to_pylist())


def test_lengths_are_heavy_tailed(events: pd.DataFrame) -> None:
    lengths = events.groupby("client_id").size()
    assert len(lengths) == CLIENTS
    assert lengths.min() >= 3
    assert lengths.max() < 900
    assert 110 < lengths.median() < 190
    assert lengths.mean() > 1.1 * lengths.median()


def test_values(events: pd.DataFrame) -> None:
    assert set(events["mcc"]) <= {m.mcc for m in MERCHANTS}
    assert set(events["channel"]) == {"chip", "contactless", "online", "atm"}
    assert set(events["city"].dropna()) <= set(CITIES)
    assert not events.drop(columns="city").isna().any(axis=None)
    assert set(events.loc[events["city"].isna(), "channel"]) == {"online"}
    assert (events.loc[events["mcc"] == PAY_MCC, "amount"] > 0).all()
    assert (events["amount"] < 0).mean() > 0.9
    assert not (events["amount"] == 0).any()


def test_seasons_and_hours(events: pd.DataFrame) -> None:
    toys, bars = events[events["mcc"] == 5945], events[events["mcc"] == 5813]
    assert (toys["event_time"].dt.month == 12).mean() > 1.5 / 12
    assert bars["event_time"].dt.hour.median() > 18
    assert events["event_time"].dt.hour.between(2, 4).mean() < 0.02


def test_no_clients_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        generate_card_data(0)


def test_aggregates_see_part_of_the_labels(data: CardData, events: pd.DataFrame) -> None:
    clients = data.clients.to_pandas().set_index("client_id")
    woman = (clients["gender"] == "F").astype(float)
    assert _share(events, COSMETICS).corr(woman) > 0.2
    assert _share(events, GARDEN).corr(clients["age"].astype(float)) > 0.2


def test_order_of_a_trip_tells_gender_where_its_counts_do_not(events: pd.DataFrame) -> None:
    trips = _trips(events, GROCERIES, PHARMACY)
    forward = trips.groupby("gender")["forward"].mean()
    assert forward["F"] - forward["M"] > 0.2
    for_each_event = trips.groupby("gender").size() / events.groupby("gender").size()
    assert for_each_event["F"] == pytest.approx(for_each_event["M"], rel=0.15)
    for mcc in (GROCERIES, PHARMACY):
        shares = _share(events, mcc).groupby(events.groupby("client_id")["gender"].first()).mean()
        assert shares["F"] == pytest.approx(shares["M"], rel=0.1)


def test_order_of_a_night_out_tells_age(events: pd.DataFrame) -> None:
    forward = _trips(events, RESTAURANT, TAXI).groupby("age_group")["forward"].mean()
    assert forward[0] - forward[3] > 0.4


def test_habits_last_all_year(events: pd.DataFrame) -> None:
    trips = _trips(events, GROCERIES, PHARMACY)
    half = trips["event_time"].dt.month.gt(6).rename("half")
    halves = trips.groupby(["client_id", half])["forward"].mean().unstack().dropna()
    assert halves[False].corr(halves[True]) > 0.4
