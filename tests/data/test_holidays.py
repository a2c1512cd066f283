"""Holidays: how they are read, and what a model sees of them in local time."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small import TINY, card_events, offsets

import seqmel
from seqmel.core.errors import ConfigError, SchemaError, SeqmelError
from seqmel.data.fitting.holidays import read_holidays
from seqmel.data.fitting.timeline import open_and_infer
from seqmel.data.schema import SchemaOptions
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import TimeScale
from seqmel.nn.events import TimeFeatures

DAYS = (dt.date(1970, 1, 1), dt.date(1970, 5, 1), dt.date(1970, 5, 17))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_days_is_read_whatever_else_it_has(ending: str, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"name": ["b", "a", "a", "c"], "day": [DAYS[1], DAYS[0], DAYS[0], DAYS[2]]}
    )
    path = tmp_path / f"days.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    assert read_holidays(str(path)) == DAYS
    assert read_holidays((DAYS[1], DAYS[0], DAYS[1])) == DAYS[:2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\nMay Day\n", "Expected one column of dates"),
        ("a,b\n2024-01-01,2024-01-02\n", "has a, b. Expected one column of dates"),
        ("day,name\n2024-01-01,x\n,y\n", "a null among its holidays"),
    ],
)
def test_what_is_no_table_of_days_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "days.csv").write_text(text)
    with pytest.raises(SeqmelError, match=words):
        read_holidays(str(tmp_path / "days.csv"))
    with pytest.raises(SeqmelError, match="No such file"):
        read_holidays(str(tmp_path / "other.csv"))


def test_an_event_sees_the_local_day_and_how_near_holidays_are() -> None:
    scale = TimeScale(
        daily=False, span_days=10, gap_center=0, gap_scale=1, time_zone="Europe/Oslo",
        holidays=tuple((day - dt.date(1970, 1, 1)).days for day in DAYS[1:]),
    )  # fmt: skip
    # 23:30 in UTC is half past midnight of the holiday in Oslo.
    times = ["1970-04-01 12:00", "1970-04-30 22:00", "1970-04-30 23:30", "1970-05-03 12:00",
             "1970-05-20 12:00"]  # fmt: skip
    moments = torch.tensor([pd.Timestamp(time).value // 1000 for time in times])
    length = torch.tensor([len(times)])
    batch = SequenceBatch({}, moments, offsets(length), length)
    found = TimeFeatures(scale)(batch)[:, -3:]
    expected = [[0, 1 / 31, 0], [0, 1 / 2, 0], [1, 1, 1], [0, 1 / 15, 1 / 3], [0, 0, 1 / 4]]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.fixture(scope="module")
def model() -> seqmel.Model:
    return seqmel.train(card_events(), config=TINY | {"schema": {"holidays": DAYS}}, progress=False)


def test_holidays_travel_with_the_model(model: seqmel.Model, tmp_path: Path) -> None:
    again = seqmel.load(model.save(tmp_path / "m"))
    assert again.schema.holidays == DAYS
    plain = seqmel.train(card_events(), config=TINY, progress=False)
    events = card_events()
    vectors = again.embed(events)
    pd.testing.assert_frame_equal(vectors, model.embed(events))
    assert not np.allclose(vectors, plain.embed(events))
    assert plain.schema.model_dump(mode="json").keys().isdisjoint({"holidays"})
    one = events.to_pandas().query("client_id == 107")
    found = again.scorer().embed(one)
    np.testing.assert_allclose(found, vectors.loc[107], atol=1e-5)


def test_a_path_and_the_days_give_the_same_model(model: seqmel.Model, tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    pd.DataFrame({"day": DAYS}).to_csv(path, index=False)
    given: Any = TINY | {"schema": {"holidays": path}}
    found = seqmel.train(card_events(), config=given, progress=False)
    pd.testing.assert_frame_equal(found.embed(card_events()), model.embed(card_events()))


@pytest.fixture(scope="module")
def two_tables() -> tuple[seqmel.Model, dict[str, pd.DataFrame]]:
    """A model of two tables, of which one has own holidays, and the other those of all."""
    frame = card_events().to_pandas()
    first = np.arange(len(frame)) % 2 == 0
    tables = {"cards": frame[first], "clicks": frame[~first]}
    schema = {"holidays": DAYS[:1], "sources": {"clicks": {"holidays": DAYS[1:]}}}
    return seqmel.train(tables, config=TINY | {"schema": schema}, progress=False), tables


def test_a_table_has_its_own_holidays_before_those_of_all(
    two_tables: tuple[seqmel.Model, dict[str, pd.DataFrame]], tmp_path: Path
) -> None:
    model, tables = two_tables
    assert model.schema.calendars == {"": DAYS[:1], "clicks": DAYS[1:]}
    source = str(model.schema.source)
    code = 2 + model.vocabulary.categorical[source].values.index("clicks")
    features = model.encoder.events.time.holidays
    day = torch.tensor([(d - dt.date(1970, 1, 1)).days * 86_400_000_000 for d in DAYS])
    for table, expected in ((code, [0, 1, 1]), (5 - code, [1, 0, 0])):
        length = torch.tensor([3])
        batch = SequenceBatch({source: torch.full((3,), table)}, day, offsets(length), length)
        assert features(batch, day)[:, 0].tolist() == expected
    again = seqmel.load(model.save(tmp_path / "m"))
    pd.testing.assert_frame_equal(again.embed(tables), model.embed(tables))


def test_onnx_knows_the_holidays_of_each_table(
    two_tables: tuple[seqmel.Model, dict[str, pd.DataFrame]], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, tables = two_tables
    source = str(model.schema.source)
    frame = pd.concat(
        table.rename(columns=model.schema.sources[name].columns).assign(**{source: name})
        for name, table in tables.items()
    ).sort_values(["client_id", "event_time"], kind="stable")
    session = runtime.InferenceSession(model.export(tmp_path / "m.onnx"))
    given: dict[str, Any] = {}
    for column in session.get_inputs():
        if column.name == "offsets":
            sizes = frame.groupby("client_id").size()
            given["offsets"] = np.append(0, sizes.cumsum()).astype("int64")
        elif column.name == model.schema.time:
            times = frame[column.name].astype("datetime64[us]")
            given[column.name] = times.astype("int64").to_numpy()
        elif "string" in column.type:
            text = frame[column.name].map(lambda v: "" if pd.isna(v) else str(v).removesuffix(".0"))
            given[column.name] = text.astype(object).to_numpy()
        else:
            given[column.name] = frame[column.name].to_numpy(np.float64)
    (found,) = session.run(["embedding"], given)
    expected = model.embed(tables).loc[sizes.index].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-4)


def test_aggregates_with_order_count_events_on_holidays_of_their_table() -> None:
    times = ["1970-01-01 12:00", "1970-04-30 23:30", "1970-05-01 12:00", "1970-06-01 00:00"]
    frame = pd.DataFrame(
        {"client_id": 7, "event_time": pd.to_datetime(times), "kind": list("abab")}
    )
    schema = {
        "time_zone": "Europe/Oslo",
        "holidays": DAYS[:1],
        "sources": {"b": {"holidays": DAYS[1:]}},
    }
    options = SchemaOptions.model_validate(schema)
    sources = {"a": frame, "b": frame}
    for given, expected in ((sources, (1 + 2) / 8), (frame, 1 / 4)):
        alone = options.model_copy(update={"sources": {}}) if given is frame else options
        source, columns = open_and_infer(given, alone)
        plan = seqmel.AggregatePlan.fit(source, columns, order=True)
        found = plan.compute(source)
        assert found.loc[7, "holiday_share"] == pytest.approx(expected)


def test_holidays_come_in_time_or_not_at_all(tmp_path: Path) -> None:
    seqmel.prepare(card_events(), tmp_path / "prepared", config=TINY)
    with pytest.raises(SchemaError, match="was prepared without holidays"):
        seqmel.train(tmp_path / "prepared", config=TINY | {"schema": {"holidays": DAYS}})
    with pytest.raises(ConfigError, match="holidays"):
        seqmel.train(card_events(), config=TINY | {"schema": {"holidays": 3}})
