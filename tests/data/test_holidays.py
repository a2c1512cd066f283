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


def test_holidays_come_in_time_or_not_at_all(tmp_path: Path) -> None:
    seqmel.prepare(card_events(), tmp_path / "prepared", config=TINY)
    with pytest.raises(SchemaError, match="was prepared without holidays"):
        seqmel.train(tmp_path / "prepared", config=TINY | {"schema": {"holidays": DAYS}})
    with pytest.raises(ConfigError, match="holidays"):
        seqmel.train(card_events(), config=TINY | {"schema": {"holidays": 3}})
