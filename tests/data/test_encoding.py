"""Events become sequences: the right events, in the right order, with times in microseconds."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small import SCHEMA, batches, card_events, days, fitted, nested, rows

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.encoding.event_encoding import encode, sequence_schema
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import open_events
from seqmel.data.vocabulary import NumericScale, NumericScales, TimeScale, Vocabulary

EVENTS = card_events(12)
VOCABULARY = fitted(EVENTS, SCHEMA, min_count=2)
DAY_US = 86_400_000_000
SIZE = EventSchema(client="client", time="time", numeric=("size",))


COUNTED_DAYS = SIZE.model_copy(update={"time_unit": "day"})
THOUSANDTHS = Vocabulary(
    categorical={},
    numeric={"size": NumericScales(overall=NumericScale(log_unit=None, center=0.0, scale=1_000.0))},
    time=TimeScale(daily=False, span_days=1.0, gap_center=0.0, gap_scale=1.0),
)


def timed(
    times: Any, *, clients: list[Any] | None = None, unit: str = "timestamp"
) -> list[dict[str, Any]]:
    """Return one dict per client for events at these times; `size` is their position."""
    table = pa.table(
        {
            "client": clients or ["c"] * len(times),
            "time": times,
            "size": [float(i) for i in range(len(times))],
        }
    )
    found = rows(table, SIZE.model_copy(update={"time_unit": unit}), THOUSANDTHS)
    return [row | {"size": [round(1_000 * size) for size in row["size"]]} for row in found]


def microseconds(times: Any, unit: str = "timestamp") -> list[int]:
    return timed(times, unit=unit)[0]["time"]


# --------------------------------------------------------------------------------------------------
# time

MOMENTS = [
    dt.datetime(1969, 12, 31, 23, 59, 59, 500_000),
    dt.datetime(2023, 1, 31),
    dt.datetime(2024, 2, 29, 12, 30, 1),
]
EXPECTED = [(m - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1) for m in MOMENTS]
OSLO = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    "times",
    [
        pa.array(MOMENTS, pa.timestamp("us")),
        pa.array(MOMENTS, pa.timestamp("ns")),
        pa.array(MOMENTS, pa.timestamp("ms")),
        pa.array(MOMENTS, pa.timestamp("us", tz="UTC")),
        pa.array(
            [m.replace(tzinfo=dt.timezone.utc) for m in MOMENTS],
            pa.timestamp("us", tz="Asia/Tokyo"),
        ),
        pa.array([m.isoformat(sep=" ") for m in MOMENTS]),
        pa.array([m.isoformat() for m in MOMENTS]),
        pa.array([m.isoformat() + "Z" for m in MOMENTS]),
        pa.array([m.replace(tzinfo=dt.timezone.utc).astimezone(OSLO).isoformat() for m in MOMENTS]),
    ],
    ids=["us", "ns", "ms", "UTC", "Tokyo", "text", "ISO", "Z", "offset"],
)
def test_a_moment_is_the_same_however_it_is_written(times: pa.Array) -> None:
    assert microseconds(times) == EXPECTED


def test_pandas_times_are_the_same_moments() -> None:
    for times in (
        pd.Series(MOMENTS),
        pd.Series(MOMENTS).dt.tz_localize("UTC").dt.tz_convert("Europe/Oslo"),
    ):
        frame = pd.DataFrame({"client": ["c"] * 3, "time": times, "size": [1.0, 2.0, 3.0]})
        assert rows(frame, SIZE, fitted(frame, SIZE))[0]["time"] == EXPECTED


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (pa.array([dt.date(1970, 1, 2), dt.date(2023, 1, 1)]), "timestamp"),
        (pa.array(["1970-01-02", "2023-01-01"]), "timestamp"),
        (pa.array([1, 19_358], pa.int16()), "day"),
        (pa.array([1, 19_358], pa.uint64()), "day"),
        (pa.array([1.0, 19_358.0]), "day"),
        (pa.array(["1", "19358"]), "day"),
        (pa.array([86_400, 19_358 * 86_400], pa.int64()), "second"),
        (pa.array([decimal.Decimal(86_400), decimal.Decimal(19_358 * 86_400)]), "second"),
        (pa.array([86_400_000, 19_358 * 86_400_000]), "millisecond"),
        (pa.array([DAY_US, 19_358 * DAY_US]), "microsecond"),
    ],
    ids=str,
)
def test_a_day_is_the_same_as_date_text_and_number(times: pa.Array, unit: str) -> None:
    assert microseconds(times, unit) == [DAY_US, 19_358 * DAY_US]


def test_parts_of_seconds_and_days_are_kept() -> None:
    assert microseconds([0.25, 1.5], "second") == [250_000, 1_500_000]
    assert microseconds([0.25, 1.5], "day") == [DAY_US // 4, 3 * DAY_US // 2]


@pytest.mark.parametrize(
    ("times", "unit", "example"),
    [
        (["2023-01-01", "31/01/2023 noon"], "timestamp", "31/01/2023 noon"),
        (["2023-01-01", "2023-02-30"], "timestamp", "2023-02-30"),
        (["2023-01-01", "infinity"], "timestamp", "infinity"),
        ([1.0, float("inf")], "day", "inf"),
        ([1, 10**18], "day", "1000000000000000000"),
        (["1", "two"], "day", "two"),
        ([1, 2], "timestamp", "1"),
    ],
)
def test_a_time_that_cannot_be_understood_is_refused_with_an_example(
    times: list[Any], unit: str, example: str
) -> None:
    with pytest.raises(
        InputError, match=rf"times? in column 'time' .* cannot be understood, such as '{example}'"
    ):
        timed(times, unit=unit)


def test_dates_where_days_are_counted_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"holds dates\. Expected numbers that count days"):
        timed([dt.date(2020, 1, 1)], unit="day")


# --------------------------------------------------------------------------------------------------
# order


def test_events_are_sorted_by_client_and_time() -> None:
    found = timed(days(3, 1, 2, 0), clients=["a", "b", "a", "a"])
    assert [(row["client"], row["size"]) for row in found] == [("a", [3, 2, 0]), ("b", [1])]


def test_clients_come_in_the_order_of_their_first_event_in_the_input() -> None:
    found = timed(days(1, 2, 3, 4, 0), clients=["m", "z", "a", "m", "z"])
    assert [row["client"] for row in found] == ["m", "z", "a"]


def test_events_at_the_same_time_keep_the_order_of_the_input() -> None:
    random = np.random.default_rng(0)
    clients, times = random.integers(0, 20, 3_000).tolist(), random.integers(0, 4, 3_000).tolist()
    for row in timed(times, clients=clients, unit="day"):
        mine = sorted((times[i], i) for i in range(3_000) if clients[i] == row["client"])
        assert list(zip(row["time"], row["size"], strict=True)) == [
            (day * DAY_US, place) for day, place in mine
        ]


def test_the_order_of_the_rows_does_not_change_the_sequences_where_no_times_are_equal() -> None:
    shuffled = EVENTS.take(np.random.default_rng(1).permutation(len(EVENTS)))
    by_client = {row["client_id"]: row for row in rows(EVENTS, SCHEMA, VOCABULARY)}
    assert {row["client_id"]: row for row in rows(shuffled, SCHEMA, VOCABULARY)} == by_client
    ordered = EVENTS.sort_by([("client_id", "ascending"), ("event_time", "ascending")])
    assert {row["client_id"]: row for row in rows(ordered, SCHEMA, VOCABULARY)} == by_client


@pytest.mark.parametrize("chunk_events", [1, 7, 40, 1_000, 10**6])
def test_the_size_of_a_chunk_changes_nothing_but_the_chunks(chunk_events: int) -> None:
    assert rows(EVENTS, SCHEMA, VOCABULARY, chunk_events=chunk_events) == rows(
        EVENTS, SCHEMA, VOCABULARY
    )


def test_a_client_larger_than_a_chunk_is_never_split() -> None:
    clients = ["small"] * 3 + ["large"] * 5_000 + ["last"] * 2
    table = pa.table({"client": clients, "time": range(len(clients)), "size": [1.0] * len(clients)})
    chunks = batches(table, COUNTED_DAYS, THOUSANDTHS, chunk_events=100)
    assert [(row["client"], len(row["size"])) for chunk in chunks for row in chunk.to_pylist()] == [
        ("small", 3), ("large", 5_000), ("last", 2),
    ]  # fmt: skip
    assert len(chunks) > 1


# --------------------------------------------------------------------------------------------------
# layouts


def test_nested_events_give_the_same_sequences_as_flat_ones() -> None:
    assert rows(nested(EVENTS, "client_id"), SCHEMA, VOCABULARY) == rows(EVENTS, SCHEMA, VOCABULARY)
    assert fitted(nested(EVENTS, "client_id"), SCHEMA, min_count=2) == VOCABULARY


def test_pandas_and_polars_events_give_the_same_sequences() -> None:
    polars = pytest.importorskip("polars")
    expected = rows(EVENTS, SCHEMA, VOCABULARY)
    assert rows(polars.from_arrow(EVENTS), SCHEMA, VOCABULARY) == expected
    assert rows(EVENTS.to_pandas(), SCHEMA, VOCABULARY) == expected


@pytest.mark.parametrize("chunk_events", [1, 3, 100])
def test_clients_without_events_stay_in_their_place(chunk_events: int) -> None:
    table = pa.table(
        {
            "client": ["first", "a", "between", "also", "b", "last"],
            "time": [[], [3, 1, 2], None, [], [5], []],
            "size": [[], [3.0, 1.0, 2.0], None, [], [5.0], []],
        }
    )
    found = rows(table, COUNTED_DAYS, THOUSANDTHS, chunk_events=chunk_events)
    assert [(row["client"], [t // DAY_US for t in row["time"]]) for row in found] == [
        ("first", []), ("a", [1, 2, 3]), ("between", []), ("also", []), ("b", [5]), ("last", []),
    ]  # fmt: skip


def test_only_clients_without_events_give_only_empty_sequences() -> None:
    empty = pa.array([[], []], pa.list_(pa.int64()))
    table = pa.table({"client": [2, 1], "time": empty, "size": empty.cast(pa.list_(pa.float64()))})
    found = rows(table, COUNTED_DAYS, THOUSANDTHS)
    assert found == [{"client": 2, "time": [], "size": []}, {"client": 1, "time": [], "size": []}]


IDS = {
    "int8": pa.array([2, 1, 2], pa.int8()),
    "int32": pa.array([2, 1, 2], pa.int32()),
    "uint64": pa.array([2**64 - 1, 1, 2**64 - 1], pa.uint64()),
    "text": pa.array(["0b6c5a52-0000", "", "0b6c5a52-0000"]),
    "date": pa.array([dt.date(2020, 1, 2), dt.date(2020, 1, 1), dt.date(2020, 1, 2)]),
    "decimal": pa.array(
        [decimal.Decimal("2.50"), decimal.Decimal("1.00"), decimal.Decimal("2.50")]
    ),
    "binary": pa.array([b"\x02", b"\x01", b"\x02"]),
    "bool": pa.array([True, False, True]),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("chunk_events", [1, 100])
def test_ids_keep_their_type_and_value(kind: str, chunk_events: int) -> None:
    ids = IDS[kind]
    table = pa.table({"client": ids, "time": [1, 2, 3], "size": [1.0, 2.0, 3.0]})
    found = pa.Table.from_batches(
        batches(table, COUNTED_DAYS, THOUSANDTHS, chunk_events=chunk_events)
    )
    assert found.schema.field("client").type == ids.type
    assert found["client"].to_pylist() == ids.to_pylist()[:2]


def test_the_schema_of_the_sequences_is_known_before_they_are_made() -> None:
    source = open_events(EVENTS)
    expected = sequence_schema(source, SCHEMA, VOCABULARY)
    assert all(batch.schema == expected for batch in encode(source, SCHEMA, VOCABULARY))
    assert expected.names == ["client_id", "event_time", "mcc", "city", "amount", "reading"]


NAMES = [
    "client",
    "client_index",
    "first",
    "code",
    "key",
    "text",
    "value",
    "x",
    "n",
    "t",
    "log_unit",
    "center",
    "scale",
]
NAMES += ["events", "raw", "sample", "select", "a.b", 'quo"ted', "two words", "größe"]


@functools.cache
def encoded_under(who: str, day: str, kind: str, size: str) -> list[list[Any]]:
    """Return the sequences of events whose columns have these names, without the names."""
    table = pa.table({
        who: [i % 3 for i in range(90)], day: range(90), kind: [i % 2 for i in range(90)],
        size: [float(i % 7) for i in range(90)],
    })  # fmt: skip
    schema = EventSchema(
        client=who,
        time=day,
        time_unit="day",
        categorical=(kind,),
        numeric=(size,),
        numeric_by={size: kind},
    )
    return [list(row.values()) for row in rows(table, schema, fitted(table, schema))]


@pytest.mark.parametrize("first", range(len(NAMES)))
def test_no_name_of_a_column_gets_in_the_way(first: int) -> None:
    names = [NAMES[(first + i) % len(NAMES)] for i in range(4)]
    assert encoded_under(*names) == encoded_under("who", "day", "kind", "size")


# --------------------------------------------------------------------------------------------------
# checks


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"client": ["a", None, None]},
            r"2 events in the given Table have no client \(column 'client' is null\)",
        ),
        ({"time": [1.0, float("nan"), None]}, r"2 events in the given Table have no time"),
        (
            {"time": [1, None, 2]},
            r"1 event in the given Table has no time \(column 'time' is null\)",
        ),
    ],
)
def test_events_without_client_or_time_are_counted_and_refused(
    columns: dict[str, Any], message: str
) -> None:
    table = pa.table(
        {"client": ["a", "b", "c"], "time": [1, 2, 3], "size": [1.0, 2.0, 3.0]} | columns
    )
    with pytest.raises(InputError, match=message):
        fitted(table, COUNTED_DAYS)


@pytest.mark.parametrize("missing", ["client", "time", "size"])
def test_events_that_lack_a_column_of_the_model_are_refused(missing: str) -> None:
    columns = {"client": ["a"], "time": [1], "size": [1.0]}
    changed = pa.table(
        {name + "s" if name == missing else name: values for name, values in columns.items()}
    )
    with pytest.raises(
        SchemaError, match=rf"No column '{missing}' .* Did you mean '{missing}s'\?.*trained with"
    ):
        rows(changed, COUNTED_DAYS, THOUSANDTHS)
