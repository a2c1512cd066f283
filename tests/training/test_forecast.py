"""Forecasts know nothing of what comes after their moment, and beat what they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from in_process import InProcess
from small import Recorded, sequences, tiny_config

import seqmel
from seqmel.core.errors import ConfigError, InputError
from seqmel.training import forecast as home
from seqmel.training.forecast import Forecast

DAYS = 240
RANDOM = np.random.default_rng(0)


def habits(clients: int = 40) -> pd.DataFrame:
    """Return events of clients with a rate of their own that doubles or halves half-way."""
    parts = []
    for client in range(clients):
        rate = 0.5 if client % 2 else 0.1
        chance = np.full(DAYS, rate)
        chance[DAYS // 2 :] *= 2 if client % 4 < 2 else 0.3
        days = np.flatnonzero(RANDOM.random(DAYS) < chance)
        kind = np.where(RANDOM.random(len(days)) < 0.8, f"k{client % 3}", "rare")
        parts.append(pd.DataFrame({"client_id": client, "day": days, "kind": kind}))
    events = pd.concat(parts, ignore_index=True)
    return events.assign(
        event_time=pd.Timestamp("2023-01-01") + pd.to_timedelta(events["day"], "D")
    )


EVENTS = habits()
TABLE = EVENTS.drop(columns="day")


@pytest.fixture(scope="module")
def model() -> seqmel.Model:
    return seqmel.train(TABLE, config=tiny_config(encoder="none"))


@pytest.fixture(scope="module")
def found(model: seqmel.Model) -> Forecast:
    return model.forecast(TABLE, within="30d")


def test_a_forecast_beats_the_own_rate_where_rates_change(found: Forecast) -> None:
    assert found.scores.index.tolist() == [
        "number of events", "number of each kind", "any event", "next kind, if any",
    ]  # fmt: skip
    counts = found.scores.loc["number of events"]
    assert counts["forecast"] < counts["own rate"] < counts["global rate"]
    kinds = found.scores.loc["next kind, if any"]
    assert kinds["forecast"] < kinds["global rate"]
    assert found.scores["calibration"].between(0.7, 1.4).all()
    assert found.rows == 40


def test_probabilities_and_counts_add_up(found: Forecast) -> None:
    table = found.table
    assert len(table) == 40
    kinds = [column for column in table if column.startswith("count=")]
    assert set(kinds) == {"count=k0", "count=k1", "count=k2", "count=rare", "count=others"}
    np.testing.assert_allclose(table[kinds].sum(axis=1), table["count"], rtol=1e-6)
    nexts = [column.replace("count=", "next=") for column in kinds]
    np.testing.assert_allclose(table[nexts].sum(axis=1), table["any"], rtol=1e-6)
    busy = table.iloc[1::4]
    assert (busy["next"] == [f"k{client % 3}" for client in busy.index]).mean() > 0.9
    assert (table["days_to_next"].isna() == (table["any"] < 0.5)).all()
    assert table["days_to_next"].dropna().between(0, 30).all()
    assert found.moment == "2023-08-29 00:00:00"  # the day after the last event


def test_events_after_the_moment_change_nothing(model: seqmel.Model) -> None:
    moment = "2023-07-01"
    cut = TABLE[TABLE["event_time"] < moment]
    whole = model.forecast(TABLE, within="30d", as_of=moment)
    assert whole.moment == "2023-07-01 00:00:00"
    only = model.forecast(cut, within="30d", as_of=moment)
    assert only.rows == whole.rows
    assert cut["event_time"].max() + pd.Timedelta("1D") == pd.Timestamp(moment)
    shared = [column for column in only.table if column != "next"]
    np.testing.assert_allclose(only.table[shared], whole.table[shared], rtol=1e-3, atol=1e-3)


def test_a_moment_after_the_data_is_the_end_of_the_data_and_said(model: seqmel.Model) -> None:
    progress = Recorded()
    end = home._extent(model, TABLE, None, progress)
    assert not progress.lines
    assert home._extent(model, TABLE, "2030-01-01", progress) == end
    (line,) = progress.lines
    assert line.endswith("the forecast is of 2023-08-29 00:00:00")


def test_what_is_observed_at_a_moment_is_that_of_a_loop(model: seqmel.Model) -> None:
    day_us = 86_400_000_000
    start, at, horizon = pd.Timestamp("2023-01-01").value // 1000, 120, 30
    kinds = home._Kinds.of(model, "kind", 10)
    encoded = sequences(TABLE, model.schema, model.vocabulary)
    rows = home._at(
        model, encoded, kinds, start + at * day_us, horizon * day_us, torch.device("cpu")
    )
    for i, client in enumerate(rows.client):
        own = EVENTS[EVENTS["client_id"] == encoded.client_ids[int(client)].as_py()]
        past, ahead = own[own["day"] < at], own[(own["day"] >= at) & (own["day"] < at + horizon)]
        assert rows.past[i].sum() == len(past) - 1
        assert rows.last[i].sum() == (past["day"] >= at - horizon).sum()
        assert rows.active[i] == len({(at - 1 - day) // horizon for day in past["day"]})
        assert kinds.names[rows.last_kind[i]] == past["kind"].iloc[-1]
        for name, count in zip(kinds.names, rows.windows[i], strict=True):
            assert count == (ahead["kind"] == name).sum()
        if len(ahead):
            assert kinds.names[rows.next_kind[i]] == ahead["kind"].iloc[0]
            assert rows.part[i] == (ahead["day"].iloc[0] - at) * 4 // horizon
        else:
            assert (rows.next_kind[i], rows.part[i]) == (-1, 4)


def test_the_median_time_is_where_the_probability_reaches_one_half() -> None:
    parts = np.array([[0.5, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]])
    np.testing.assert_allclose(home._median(parts, 40.0), [10, 25, np.nan])


def test_a_kind_may_be_called_others(model: seqmel.Model) -> None:
    renamed = TABLE.assign(kind=TABLE["kind"].replace({"k0": "others", "k1": "none"}))
    other = seqmel.train(renamed, config=tiny_config(encoder="none"))
    kinds = home._Kinds.of(other, None, 2)
    assert sorted(kinds.names) == sorted({*kinds.names})
    assert kinds.names[-1] == "others_"
    assert kinds.none == "none_"


def test_many_clients_are_thinned_out_to_fit_heads(
    model: seqmel.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "_MOST_ROWS", 150)
    thinned = model.forecast(TABLE, within="30d")
    assert thinned.rows < 40
    assert len(thinned.table) == 40


def test_the_amount_of_the_next_event_is_forecast_beside_simple_ones() -> None:
    random = np.random.default_rng(1)
    usual = 10.0 * 3 ** (TABLE["client_id"] % 3)
    amounts = usual * np.exp(random.normal(0, 0.1, len(TABLE)))
    paid = TABLE.assign(paid=amounts.where(random.random(len(TABLE)) > 0.1).round(2))
    model = seqmel.train(paid, config=tiny_config(encoder="none"))
    found = model.forecast(paid, within="30d", amount="paid")
    errors = found.scores.loc["next paid, if any"]
    assert errors["forecast"] < 0.3 * errors["global rate"]
    assert errors["own rate"] < 0.3 * errors["global rate"]
    assert 0.5 < errors["calibration"] < 1.5
    expected = 10.0 * 3 ** (found.table.index % 3)
    np.testing.assert_allclose(found.table["next_paid"], expected, rtol=0.3)
    plain = model.forecast(paid, within="30d")
    pd.testing.assert_frame_equal(plain.table, found.table.drop(columns="next_paid"))
    kinds = home._Kinds.of(model, "kind", 10, "paid")
    encoded = sequences(paid, model.schema, model.vocabulary)
    moment = pd.Timestamp("2023-05-01")
    day_us = 86_400_000_000
    rows = home._at(model, encoded, kinds, moment.value // 1000, 30 * day_us, torch.device("cpu"))
    for i, client in enumerate(rows.client):
        own = paid[paid["client_id"] == encoded.client_ids[int(client)].as_py()]
        past = own.loc[own["event_time"] < moment, "paid"].dropna()
        ahead = own.loc[own["event_time"] >= moment]
        soon = ahead["event_time"] < moment + pd.Timedelta("30D")
        wanted = ahead["paid"].iloc[0] if len(ahead) and soon.iloc[0] else np.nan
        np.testing.assert_allclose(kinds.original(rows.amount[[i]]), [wanted], rtol=1e-4)
        np.testing.assert_allclose(kinds.original(rows.last_amount[[i]]), past.iloc[-1:], rtol=1e-4)
        assert rows.amounts[i] == len(past)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"within": "30d", "amount": "kind"}, ConfigError, "not a numeric column of the model"),
        ({"within": "a month"}, ConfigError, "within cannot be 'a month'"),
        ({"within": "0d"}, ConfigError, "longer than zero"),
        ({"within": "200d"}, InputError, "span less than two horizons of 200d"),
        ({"within": "30d", "by": "kid"}, ConfigError, "Did you mean 'kind'"),
        ({"within": "30d", "top": 0}, ConfigError, "top is 0"),
        ({"within": "30d", "as_of": "soon"}, InputError, "'soon' is not a moment"),
        ({"within": "30d", "as_of": "2020-01-01"}, InputError, "span less than two horizons"),
    ],
)
def test_what_cannot_be_forecast_is_said(
    model: seqmel.Model, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        model.forecast(TABLE, **options)


def test_the_command_writes_forecasts_and_prints_scores(
    model: seqmel.Model, in_process: InProcess, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    TABLE.to_parquet(tmp_path / "events.parquet")
    done = in_process.seqmel(
        "forecast", tmp_path / "model", tmp_path / "events.parquet", "--within", "30d",
        "--top", "2", "-o", tmp_path / "forecast.parquet",
    )  # fmt: skip
    assert "number of each kind" in done.stdout
    table = pq.read_table(tmp_path / "forecast.parquet")
    assert table.column_names[:2] == ["client_id", "count"]
    assert len(table) == 40
