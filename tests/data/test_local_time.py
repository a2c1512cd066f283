"""The calendar in local time: `time_zone`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from small import TINY, card_events, fitted
from torch import Tensor
from typer.testing import CliRunner

import seqmel
from seqmel.cli.main import app
from seqmel.config import Config
from seqmel.core.errors import ConfigError, ModelError, SchemaError
from seqmel.core.time_zones import utc_offsets
from seqmel.data.local_time import LocalTime
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import TimeScale
from seqmel.nn.decoder import EventDecoder
from seqmel.nn.events import TimeFeatures

HOUR_US = 3_600_000_000
SCALE = TimeScale(daily=False, span_days=500.0, gap_center=8.0, gap_scale=2.0)


def batch_of(times: list[dt.datetime], **columns: Tensor) -> SequenceBatch:
    """One sequence of events at these times."""
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    micros = torch.tensor([(time - epoch) // dt.timedelta(microseconds=1) for time in times])
    ends = torch.tensor([0, len(times)])
    return SequenceBatch(columns, micros, ends, ends[1:])


def noons(zone: str, *days: tuple[int, int]) -> list[dt.datetime]:
    return [dt.datetime(2024, month, day, 12, tzinfo=ZoneInfo(zone)) for month, day in days]


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Asia/Kolkata", "UTC"])
def test_local_time_is_that_of_the_zone_at_every_hour_of_a_year_and_long_ago(zone: str) -> None:
    start = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    times = [start + dt.timedelta(hours=hour) for hour in range(366 * 24)]
    times += [dt.datetime(year, 7, 1, tzinfo=dt.timezone.utc) for year in (1905, 1943, 2150)]
    found = LocalTime(SCALE.model_copy(update={"time_zone": zone}))(batch_of(times))
    assert found is not None
    expected = [time.astimezone(ZoneInfo(zone)).utcoffset() for time in times[:-1]]
    assert found[:-1].tolist() == [offset // dt.timedelta(microseconds=1) for offset in expected]


def test_the_changes_of_daylight_saving_are_at_the_second() -> None:
    changes, offsets = utc_offsets("Europe/Paris")
    summer = int(dt.datetime(2024, 3, 31, 1, tzinfo=dt.timezone.utc).timestamp()) * 1_000_000
    place = changes.index(summer)
    assert [offsets[place], offsets[place + 1]] == [HOUR_US, 2 * HOUR_US]


def test_noon_is_noon_in_winter_and_in_summer() -> None:
    batch = batch_of(noons("Europe/Paris", (1, 10), (7, 10)))
    day = slice(2, 8)  # three waves of the day
    local = TimeFeatures(SCALE.model_copy(update={"time_zone": "Europe/Paris"}))(batch)[:, day]
    torch.testing.assert_close(local[0], local[1])
    utc = TimeFeatures(SCALE)(batch)[:, day]
    assert not torch.allclose(utc[0], utc[1])


def test_each_table_has_its_zone() -> None:
    zones = {2: "Europe/Paris", 4: "Asia/Tokyo"}
    scale = SCALE.model_copy(update={"zones": zones, "zone_column": "source"})
    times = noons("UTC", (1, 10), (1, 10), (1, 10), (7, 10))
    found = LocalTime(scale)(batch_of(times, source=torch.tensor([2, 3, 4, 2])))
    assert found is not None
    assert [offset // HOUR_US for offset in found.tolist()] == [1, 0, 9, 2]


def test_the_decoder_predicts_local_hours_and_weekdays() -> None:
    events = card_events(6)
    schema = EventSchema(
        client="client_id", time="event_time", numeric=("amount",), time_zone="Asia/Tokyo"
    )
    vocabulary = fitted(events, schema)
    decoder = EventDecoder(vocabulary, input_size=4, hidden_size=4)
    batch = batch_of([dt.datetime(2024, 1, 7, 20, tzinfo=dt.timezone.utc)], amount=torch.zeros(1))
    codes = dict(zip(decoder.sizes, decoder._codes(batch, None)[0].tolist(), strict=True))
    # Sunday evening in London is Monday morning in Tokyo.
    assert (codes["time of day"], codes["day of week"]) == (5, 0)


@pytest.fixture(scope="module")
def model() -> seqmel.Model:
    return seqmel.train(card_events(), config=TINY, time_zone="Europe/Paris")


def test_the_vectors_are_the_same_from_file_frame_and_scorer_and_not_those_of_utc(
    model: seqmel.Model, tmp_path: Path
) -> None:
    events = card_events()
    found = model.embed(events)
    model.save(tmp_path / "model")
    pa.parquet.write_table(events, tmp_path / "events.parquet")
    loaded = seqmel.load(tmp_path / "model")
    assert loaded.schema.time_zone == loaded.vocabulary.time.time_zone == "Europe/Paris"
    np.testing.assert_array_equal(loaded.embed(tmp_path / "events.parquet"), found)
    frame = events.to_pandas()
    aware = frame.assign(event_time=frame["event_time"].dt.tz_localize("Asia/Tokyo"))
    aware["event_time"] += pd.Timedelta(hours=9)
    np.testing.assert_allclose(model.embed(aware), found, atol=1e-6)
    client = frame["client_id"].iloc[0]
    vector = model.scorer().embed(frame[frame["client_id"] == client])
    np.testing.assert_allclose(vector, found.loc[client], atol=1e-5)
    utc = seqmel.train(events, config=TINY).embed(events)
    assert not np.allclose(utc, found)


def test_without_a_zone_nothing_of_it_is_written() -> None:
    assert not {"time_zone", "zones", "zone_column"} & {*SCALE.model_dump()}
    assert "time_zone" not in Config().to_dict()["schema"]
    assert "time_zone" not in EventSchema(client="c", time="t").model_dump()


def test_aggregates_have_local_hours_and_weekdays() -> None:
    events = card_events()
    aggregates = seqmel.AggregateFeatures(client="client_id", time_zone="Europe/Paris")
    found = aggregates.set_output(transform="pandas").fit_transform(events)
    assert aggregates.feature_descriptions_["share_hour_07"].endswith("day (Europe/Paris)")
    frame = events.to_pandas()
    local = frame["event_time"].dt.tz_localize("UTC").dt.tz_convert("Europe/Paris")
    for name, values in (
        ("share_hour_07", local.dt.hour == 7),
        ("share_weekday_mon", local.dt.day_of_week == 0),
    ):
        expected = values.groupby(frame["client_id"]).mean().loc[found.index]
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def test_onnx_has_the_local_time(model: seqmel.Model, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    seqmel.export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    frame = card_events().to_pandas()
    client = frame["client_id"].iloc[0]
    rows = frame[frame["client_id"] == client].sort_values("event_time")
    given = {
        "event_time": rows["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64),
        "offsets": np.array([0, len(rows)]),
        "amount": rows["amount"].to_numpy(np.float64),
        "reading": rows["reading"].to_numpy(np.float64),
        "mcc": rows["mcc"].astype(str).to_numpy(object),
        "city": rows["city"].fillna("").astype(str).to_numpy(object),
    }
    (found,) = session.run(["embedding"], given)
    np.testing.assert_allclose(found[0], model.embed(rows).loc[client], rtol=1e-4, atol=2e-4)


def test_tables_of_several_zones_are_embedded_and_not_exported(tmp_path: Path) -> None:
    events = card_events()
    tables = {"cards": events[::2], "visits": events[1::2]}
    schema = {"time_zone": "Europe/Paris", "sources": {"visits": {"time_zone": "Asia/Tokyo"}}}
    model = seqmel.train(tables, config=TINY | {"schema": schema})
    assert sorted(model.vocabulary.time.zones.values()) == ["Asia/Tokyo", "Europe/Paris"]
    assert model.embed(tables).notna().all(axis=None)
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match="cards in Europe/Paris, visits in Asia/Tokyo"):
        seqmel.export_onnx(model, tmp_path / "model.onnx")


def test_tables_of_one_zone_have_one() -> None:
    events = card_events()
    tables = {"cards": events[::2], "visits": events[1::2]}
    model = seqmel.train(tables, config=TINY, time_zone="Europe/Paris")
    assert model.vocabulary.time.time_zone == "Europe/Paris"
    assert not model.vocabulary.time.zones


def test_dates_have_no_zone() -> None:
    events = card_events()
    days = events["event_time"].cast(pa.date32(), safe=False)
    dated = events.set_column(1, "event_time", days)
    with pytest.raises(SchemaError, match="are whole days, which are the same in every time zone"):
        seqmel.train(dated, config=TINY, time_zone="Europe/Paris")


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"'Europe/Pariss' is not a time zone. Did you mean 'Europe/P"
    ):
        seqmel.train(card_events(), config=TINY, time_zone="Europe/Pariss")


def test_a_model_keeps_its_zone(model: seqmel.Model) -> None:
    with pytest.raises(ConfigError, match="time_zone"):
        seqmel.train(card_events(), initial=model, config=TINY, time_zone="Asia/Tokyo")


def test_describe_says_in_which_zone_the_calendar_is_read(tmp_path: Path) -> None:
    pa.parquet.write_table(card_events(), tmp_path / "events.parquet")
    command = ["describe", str(tmp_path / "events.parquet"), "--time-zone", "Europe/Paris"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "; the calendar is read in Europe/Paris" in done.output.replace("\n", " ")
