"""Labels made from events are those of a slow loop in pandas, and never of the history."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import card_events, nested

from seqmel import make_labels, read_labels
from seqmel.cli.main import main
from seqmel.core.errors import ConfigError, InputError, SchemaError, SeqmelError

EVENTS = card_events(12)
FRAME = EVENTS.to_pandas()
OWN = {client: FRAME[FRAME["client_id"] == client] for client in FRAME["client_id"].unique()}
FIRST, LAST = FRAME["event_time"].min(), FRAME["event_time"].max()
Matches = Callable[[pd.DataFrame], Any]


def slow(
    moments: pd.DatetimeIndex,
    matches: Matches,
    *,
    within: str,
    gap: str = "0d",
    kind: str = "any",
    everyone: bool = False,
) -> pd.DataFrame:
    """One row per client and moment, by loops."""
    rows = []
    for moment in moments:
        begin = moment + span(gap)
        end = begin + span(within)
        if end > LAST:
            continue
        for client, own in OWN.items():
            if not everyone and not (own["event_time"] < moment).any():
                continue
            window = own[(own["event_time"] >= begin) & (own["event_time"] < end)]
            found = window[matches(window)]
            if kind == "any":
                label: list[Any] = [int(len(found) > 0)]
            elif kind == "count":
                label = [len(found)]
            elif kind == "sum":
                label = [found["amount"].sum()]
            else:
                first = found["event_time"].min() if len(found) else end
                label = [(first - moment) / pd.Timedelta(days=1), len(found) > 0]
            rows.append((client, moment, *label))
    names = ["client_id", "event_time", "target"]
    names += ["target_observed"] if kind == "time_to_event" else []
    return pd.DataFrame(rows, columns=names)


def span(text: str) -> pd.Timedelta:
    return pd.Timedelta(int(text[:-1]), {"h": "h", "d": "D", "w": "W"}[text[-1]])


def grid(step: str) -> pd.DatetimeIndex:
    start = FIRST.normalize()
    if step == "month":
        days = pd.date_range(start, LAST, freq="MS")
    else:
        days = pd.date_range(
            start, LAST, freq={"week": "W-MON", "day": "D"}.get(step, step.upper())
        )
    return days[days > FIRST]


def every_event(window: pd.DataFrame) -> Any:
    return np.ones(len(window), bool)


CASES: dict[str, tuple[dict[str, Any], Matches]] = {
    "any event": ({"every": "month", "within": "30d"}, every_event),
    "weekly": ({"every": "week", "within": "2w"}, every_event),
    "daily": ({"every": "day", "within": "12h", "event": "amount>50"}, lambda w: w["amount"] > 50),
    "every 30 days": (
        {"every": "30d", "within": "30d", "event": "mcc=5411"},
        lambda w: w["mcc"] == 5411,
    ),
    "gap": (
        {"every": "month", "within": "20d", "gap": "7d", "event": "city=Oslo"},
        lambda w: w["city"] == "Oslo",
    ),
    "not a city, nulls included": (
        {"every": "month", "within": "10d", "event": "city != Oslo"},
        lambda w: w["city"] != "Oslo",
    ),
    "two conditions, counted": (
        {"every": "month", "within": "60d", "kind": "count", "event": ["mcc=5411", "amount<=40"]},
        lambda w: (w["mcc"] == 5411) & (w["amount"] <= 40),
    ),
    "sum with NaN": (
        {"every": "month", "within": "30d", "kind": "sum", "column": "amount"},
        every_event,
    ),
    "time to event": (
        {
            "every": "month",
            "within": "30d",
            "gap": "1d",
            "kind": "time_to_event",
            "event": "mcc!=5411",
        },
        lambda w: w["mcc"] != 5411,
    ),
    "everyone": ({"every": "month", "within": "30d", "all_clients": True}, every_event),
}


@functools.cache
def wanted_of(case: str) -> pd.DataFrame:
    """The labels of a case, by the slow loop; nobody changes them."""
    options, matches = CASES[case]
    return slow(
        grid(options["every"]),
        matches,
        within=options["within"],
        gap=options.get("gap", "0d"),
        kind=options.get("kind", "any"),
        everyone=options.get("all_clients", False),
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["rows", "lists"])
def test_labels_are_those_of_a_slow_loop(case: str, form: str) -> None:
    events = EVENTS if form == "rows" else nested(EVENTS, "client_id")
    found, wanted = make_labels(events, **CASES[case][0]), wanted_of(case)
    assert len(found) == len(wanted) > 12
    keys = ["event_time", "client_id"]
    pd.testing.assert_frame_equal(
        found.sort_values(keys, ignore_index=True),
        wanted.sort_values(keys, ignore_index=True),
        check_dtype=False,
    )


def test_an_event_at_the_moment_is_label_and_not_history() -> None:
    events = pa.table(
        {
            "client_id": [1, 1, 2, 2],
            "event_time": pd.to_datetime(["2024-01-01", "2024-02-01", "2024-02-01", "2024-04-01"]),
            "kind": ["a", "b", "a", "b"],
        }
    )
    found = make_labels(events, at="2024-02-01", within="1d")
    assert found.to_numpy().tolist() == [[1, pd.Timestamp("2024-02-01"), 1]]


def test_events_after_the_window_change_no_label() -> None:
    changed = FRAME.assign(amount=FRAME["amount"].where(FRAME["event_time"] < "1970-07-01", 1e9))
    asked: dict[str, Any] = {"at": "1970-06-01", "within": "30d", "kind": "sum", "column": "amount"}
    pd.testing.assert_frame_equal(make_labels(changed, **asked), make_labels(EVENTS, **asked))


def test_the_last_of_whole_days_is_complete_and_until_says_more() -> None:
    days = pd.date_range("2024-01-01", "2024-01-31")
    events = pd.DataFrame({"client_id": 1, "event_date": days, "kind": "a"})
    asked: dict[str, Any] = {"every": "day", "within": "7d"}
    assert make_labels(events, **asked)["event_date"].max() == pd.Timestamp("2024-01-25")
    later = make_labels(events, until="2024-02-03", **asked)
    assert later["event_date"].max() == pd.Timestamp("2024-01-27")


def test_booleans_and_numbers_are_conditions_by_themselves() -> None:
    events = FRAME.assign(bought=FRAME["amount"] > 50, units=(FRAME["amount"] > 50) * 2)
    asked: dict[str, Any] = {"every": "month", "within": "30d"}
    wanted = make_labels(events, event="amount>50", **asked)
    for condition in ("bought", "units", "bought=true", "bought!=no", "units>=2", "units=2"):
        pd.testing.assert_frame_equal(make_labels(events, event=condition, **asked), wanted)


@pytest.mark.parametrize(("unit", "size"), [("second", 1_000_000), ("day", 86_400_000_000)])
def test_numeric_times_give_moments_in_their_unit(unit: str, size: int) -> None:
    counted = FRAME["event_time"].astype("datetime64[us]").astype("int64") // size
    asked: dict[str, Any] = {"every": "30d", "within": "30d"}
    events = FRAME.assign(event_time=counted)
    from seqmel.data.fitting.schema_inference import infer_times
    from seqmel.data.schema import SchemaOptions
    from seqmel.data.sources.reading import open_events
    from seqmel.data.tables.event_labels import LabelOptions, event_labels

    options = SchemaOptions(time_unit=unit)
    assert infer_times(open_events(events), options).time_unit == unit
    made = event_labels(events, LabelOptions(**asked), options)
    found = pa.concat_tables(made.tables()).to_pandas()
    floored = FRAME.assign(event_time=(counted * size).astype("datetime64[us]"))
    wanted = make_labels(floored, **asked)
    assert found["event_time"].dtype == np.int64
    assert (found["event_time"] * size).tolist() == (
        wanted["event_time"].astype("datetime64[us]").astype("int64").tolist()
    )
    assert found["target"].tolist() == wanted["target"].tolist()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"within": "30"}, ConfigError, "within cannot be '30'. Expected a duration such as 30d"),
        ({"within": "0d"}, ConfigError, "Expected a window longer than zero"),
        ({"gap": "-1d"}, ConfigError, "gap cannot be '-1d'"),
        ({"every": None}, ConfigError, "either every (--every month) or at"),
        ({"at": "1970-05-01"}, ConfigError, "either every (--every month) or at"),
        ({"every": "fortnight"}, ConfigError, "Expected day, week, month"),
        ({"every": None, "at": "soon"}, ConfigError, "at cannot be 'soon'"),
        ({"every": None, "at": 7}, ConfigError, "at cannot be '7'"),
        ({"kind": "summ"}, ConfigError, "Did you mean 'sum'?"),
        ({"kind": "sum"}, ConfigError, "name it with column (--column)"),
        ({"column": "amount"}, ConfigError, "which no other kind takes"),
        ({"kind": "sum", "column": "city"}, SchemaError, "holds text. A sum needs numbers"),
        ({"kind": "sum", "column": "amunt"}, SchemaError, "Did you mean 'amount'?"),
        ({"event": "cty=Oslo"}, SchemaError, "No column 'cty' in the given Table"),
        ({"event": "city"}, ConfigError, "Compare it with a value: city=..."),
        ({"event": "city>3"}, ConfigError, "Only numbers are compared by size"),
        ({"event": "amount>much"}, ConfigError, "'much' is not a number"),
        ({"event": "amount~3"}, SchemaError, "No column 'amount~3'"),
        ({"event": "city=Paris"}, InputError, "No event of the given Table matches 'city=Paris'"),
        ({"within": "900d"}, InputError, "No window of 900d after a moment lies within the data"),
        ({"every": None, "at": "1960-01-01"}, InputError, "has an event before 1960-01-01"),
        ({"target": "event_time"}, ConfigError, "named 'event_time', like another column"),
        ({"until": "later"}, ConfigError, "until cannot be 'later'"),
    ],
)
def test_what_cannot_be_labelled_is_refused_in_a_line(
    changes: dict[str, Any], error: type[SeqmelError], words: str
) -> None:
    asked: dict[str, Any] = {"every": "month", "within": "30d"} | changes
    with pytest.raises(error) as caught:
        make_labels(EVENTS, **asked)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_calendar_needs_dates() -> None:
    events = FRAME.assign(event_time=FRAME["event_time"].astype("int64") % 1000)
    with pytest.raises(ConfigError, match="count time in days, which have no calendar"):
        make_labels(events, every="month", within="30d")


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["seqmel", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_writes_what_finetune_reads_and_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(EVENTS, "events.parquet")
    words = ["label", "events.parquet", "--within", "30d", "--every", "month", "-o", "l.parquet"]
    assert run([*words, "--event", "amount>50", "--target", "spends"], monkeypatch) == 0
    said = capsys.readouterr()
    wanted = make_labels(EVENTS, event="amount>50", within="30d", every="month", target="spends")
    pd.testing.assert_frame_equal(pd.read_parquet("l.parquet"), wanted)
    assert len(read_labels("l.parquet", "spends", time_column="event_time")) == len(wanted)
    first = wanted[wanted["event_time"] == "1970-02-01"]
    assert f"{first['spends'].mean():.1%}" in said.out
    assert (
        f"{len(wanted)} rows of 12 clients in l.parquet: client_id, event_time, spends" in said.out
    )
    next_command = "MODEL events.parquet l.parquet --target spends --time-column event_time"
    assert next_command in said.out
    assert "moment left out: their windows (30d) end after the data do" in said.err
    assert f"{12 * wanted['event_time'].nunique() - len(wanted)} rows left out" in said.err
    assert run(words, monkeypatch) == 2  # the output exists
    assert run([*words[:-1], "l.csv"], monkeypatch) == 2
    capsys.readouterr()
    assert run([*words[:-1], "m.parquet", "--event", "city=Rome"], monkeypatch) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not Path("m.parquet").exists()


def test_csv_events_are_labelled_like_parquet(tmp_path: Path) -> None:
    csv = tmp_path / "events.csv"
    FRAME.assign(bought=FRAME["amount"] > 50).to_csv(csv, index=False)
    asked: dict[str, Any] = {"every": "month", "within": "30d"}
    wanted = make_labels(EVENTS, event="amount>50", **asked)
    for event in ("bought", "bought=true", "amount>50"):
        found = make_labels(csv, event=event, **asked)
        assert found["target"].tolist() == wanted["target"].tolist()


def test_several_tables_are_labelled_like_one_with_all_events() -> None:
    odd = np.arange(len(FRAME)) % 2 == 1
    small, large = FRAME[~odd], FRAME[odd].rename(columns={"amount": "price"})
    tables = {"small": small, "large": large}
    asked: dict[str, Any] = {"every": "month", "within": "30d"}

    def sorted_labels(events: Any, event: str) -> list[tuple[Any, ...]]:
        found = make_labels(events, event=event, **asked)
        return sorted(found.itertuples(index=False, name=None))

    marked = FRAME.assign(spent=FRAME["amount"].where(odd), table=np.where(odd, "large", "small"))
    assert sorted_labels(tables, "large.price>50") == sorted_labels(marked, "spent>50")
    assert sorted_labels(tables, "source=large") == sorted_labels(marked, "table=large")
    with pytest.raises(SchemaError, match=r"No column 'price'.*large\.price"):
        make_labels(tables, event="price>50", **asked)
