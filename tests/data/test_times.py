"""Day-first and month-first times are read if the column settles it, or the schema says so."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from small import batches, card_events, fitted, nested, tiny_config

from seqmel import EventSequences, SequenceEmbedder
from seqmel.core.errors import ConfigError, InputError, SchemaError
from seqmel.core.progress import EventsWarning
from seqmel.data.encoding.value_encoding import ValueEncoding
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.fitting.timeline import open_and_infer, open_for_schema
from seqmel.data.kinds.registry import check_events
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.parts import PartReader, parts_of, shape_of
from seqmel.data.sources.reading import open_events, open_unread
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed
from seqmel.model import Model, load_model
from seqmel.training.run import train

EVENTS = card_events(12)
DAY_FIRST = "%d.%m.%Y %H:%M:%S"


def written(form: str, events: pa.Table = EVENTS) -> pa.Table:
    """The events with their times as text."""
    texts = pd.Series(events["event_time"].to_pandas()).dt.strftime(form)
    return events.set_column(1, "event_time", pa.array(texts, pa.string()))


def csv(table: pa.Table, folder: Path, name: str = "events.csv") -> Path:
    pyarrow.csv.write_csv(table, folder / name)
    return folder / name


def parquet(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "events.parquet")
    return folder / "events.parquet"


def times(events: Any, schema: EventSchema) -> dict[Any, Any]:
    """Client -> its times as encoded, in microseconds."""
    vocabulary = fitted(EVENTS, schema.model_copy(update={"time_format": None}))
    return {
        row[schema.client]: row[schema.time]
        for batch in batches(events, schema, vocabulary) for row in batch.select([0, 1]).to_pylist()
    }  # fmt: skip


AS_IT_IS = infer_schema(open_events(EVENTS))
EXPECTED = times(EVENTS, AS_IT_IS)
KINDS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "csv": csv, "parquet": parquet, "arrow": lambda t, _: t, "pandas": lambda t, _: t.to_pandas(),
    "polars": lambda t, _: pl.from_arrow(t), "lists": lambda t, _: nested(t, "client_id"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [DAY_FIRST, "%m/%d/%Y %H:%M:%S"])
def test_day_first_and_month_first_are_the_times_that_iso_text_is(
    form: str, kind: str, tmp_path: Path
) -> None:
    events = KINDS[kind](written(form), tmp_path)
    schema = infer_schema(open_events(events))
    assert schema == AS_IT_IS.model_copy(update={"time_format": form})
    assert times(events, schema) == EXPECTED == times(written("%Y-%m-%d %H:%M:%S"), schema)


@pytest.mark.parametrize(
    "form",
    [
        "%d.%m.%Y",
        "%d/%m/%Y %H:%M",
        "%d-%m-%Y",
        "%m/%d/%Y %I:%M:%S %p",
        "%d.%m.%Y, %H:%M",
        "%d.%m.%YT%H:%M:%S",
    ],
)
def test_the_clock_is_recognised_too(form: str) -> None:
    assert infer_schema(open_events(written(form))).time_format == form


def some_days(form: str, *days: str) -> pa.Table:
    """Events on days that are written as 2023-04-05."""
    texts = pd.to_datetime(pd.Series(days * 4)).dt.strftime(form)
    count = len(texts)
    return pa.table({
        "client_id": [f"c{i % 3}" for i in range(count)], "event_time": texts.tolist(),
        "amount": [float(i) + 0.5 for i in range(count)],
    })  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet", "pandas"])
def test_days_that_may_be_months_are_refused_unless_said(kind: str, tmp_path: Path) -> None:
    table = some_days("%d.%m.%Y", "2023-04-05", "2023-12-11")
    events = KINDS[kind](table, tmp_path)
    with pytest.raises(
        SchemaError,
        match=r"such as '05\.04\.2023', may have the day first or the month.*--time-format",
    ):
        infer_schema(open_events(events))
    read = {}
    for form in ("%d.%m.%Y", "%m.%d.%Y"):
        schema = infer_schema(open_events(events), SchemaOptions(time_format=form))
        assert schema.time_format == form
        read[form] = open_events(events), schema
    first = {form: times_of(source, schema) for form, (source, schema) in read.items()}
    assert first == {
        "%d.%m.%Y": {"2023-04-05", "2023-12-11"},
        "%m.%d.%Y": {"2023-05-04", "2023-11-12"},
    }


def times_of(source: Any, schema: EventSchema) -> set[str]:
    from seqmel.data.sources.checking import time_sql

    return {
        day
        for (day,) in source.rows(
            f"SELECT DISTINCT make_timestamp({time_sql(source, schema)})::DATE::VARCHAR FROM events"
        )
    }


def test_years_of_two_digits_are_never_guessed_at(tmp_path: Path) -> None:
    table = some_days("%d/%m/%y", "2023-12-24", "2023-12-31")
    for events in (table, csv(table, tmp_path)):
        with pytest.raises(SchemaError, match=r"years of two digits.*'%d/%m/%y' \(--time-format"):
            infer_schema(open_events(events))
        schema = infer_schema(open_events(events), SchemaOptions(time_format="%d/%m/%y"))
        assert times_of(open_events(events), schema) == {"2023-12-24", "2023-12-31"}
        iso = schema.model_copy(update={"time_format": None})
        with pytest.raises(InputError, match="cannot be understood, such as '24/12/23'"):
            times(events, iso)


def test_a_column_that_is_written_in_two_ways_is_refused_with_the_odd_value() -> None:
    table = some_days("%d.%m.%Y", *[f"2023-12-{day}" for day in range(13, 30)])
    odd = table.set_column(
        1, "event_time", pa.array(["13.13.2023", *table["event_time"].to_pylist()[1:]])
    )
    with pytest.raises(
        InputError,
        match=r"67 of 68 times .* are written as '%d\.%m\.%Y', .* such as '13\.13\.2023'",
    ):
        infer_schema(open_events(odd))


def test_numbers_of_days_are_read_where_it_is_said() -> None:
    table = some_days("%Y%m%d", "2023-04-05", "2023-12-11")
    numbers = table.set_column(1, "event_time", table["event_time"].cast(pa.int64()))
    with pytest.raises(SchemaError, match="--time-format %Y%m%d"):
        infer_schema(open_events(numbers))
    schema = infer_schema(open_events(numbers), SchemaOptions(time_format="%Y%m%d"))
    assert times_of(open_events(numbers), schema) == {"2023-04-05", "2023-12-11"}
    with pytest.raises(
        SchemaError, match=r"holds whole numbers, which are not written as '%d%m%Y'"
    ):
        times(numbers, schema.model_copy(update={"time_format": "%d%m%Y"}))


def test_a_further_column_of_dates_as_text_is_left_out_and_the_time_is_found_by_its_values(
    tmp_path: Path,
) -> None:
    table = some_days("%d.%m.%Y", "2023-04-05", "2023-12-24").rename_columns(
        ["client_id", "Buchungstag", "amount"]
    )
    path = csv(table, tmp_path)
    assert infer_schema(open_events(path)).time == "Buchungstag"
    two = csv(table.append_column("Valuta", table["Buchungstag"]), tmp_path)
    assert infer_schema(open_events(two), SchemaOptions(time="Buchungstag")).left_out == {
        "Valuta": "a second time column"
    }


def test_iso_dates_of_csv_are_typed_and_others_are_text(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "client_id,day,at,zoned,other,empty,hour\n"
        + "1,2023-01-31,2023-01-31 10:00,2023-01-31T10:00:00+02:00,04/12/2023,,10:00:00\n" * 3
    )
    kinds = [
        "BIGINT",
        "DATE",
        "TIMESTAMP",
        "TIMESTAMP WITH TIME ZONE",
        "VARCHAR",
        "VARCHAR",
        "TIME",
    ]
    for opened in (open_events, open_unread):
        assert list(opened(tmp_path / "events.csv").columns.values()) == kinds


def test_the_parts_of_csv_files_are_read_as_the_whole(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    csv(written(DAY_FIRST, EVENTS.slice(0, 50)), tmp_path / "events", "a.csv")
    csv(written(DAY_FIRST, EVENTS.slice(50)), tmp_path / "events", "b.csv")
    source = open_unread(tmp_path / "events")
    schema = infer_schema(source)
    reader, found = PartReader(shape_of(source, "client_id")), set()
    for part in parts_of(str(tmp_path / "events"), 1_000):
        found |= times_of(reader.file(part), schema)
    assert found == times_of(open_events(EVENTS), AS_IT_IS)


# ------------------------------------------------------------------------------------------- from
# model to new events


@pytest.fixture(scope="module")
def bank_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that was trained on a CSV file with the day first."""
    folder = tmp_path_factory.mktemp("bank")
    config = tiny_config(training={"epochs": 0, "batch_size": 8, "validation_fraction": 0.3})
    return load_model(train(csv(written(DAY_FIRST), folder), folder / "model", config=config))


def vectors(model: Model, events: Any) -> dict[Any, Any]:
    return {
        client: vector.tolist()
        for ids, found in embed(model, events, device="cpu")
        for client, vector in zip(ids.to_pylist(), found, strict=True)
    }


def test_a_model_reads_new_events_as_those_of_its_training_also_where_they_settle_nothing(
    bank_model: Model, tmp_path: Path
) -> None:
    early = EVENTS.filter(pa.compute.less_equal(pa.compute.day(EVENTS["event_time"]), 12))
    with pytest.raises(SchemaError, match="may have the day first or the month"):
        infer_schema(open_events(csv(written(DAY_FIRST, early), tmp_path)))
    expected = vectors(bank_model, early)
    assert vectors(bank_model, tmp_path / "events.csv") == expected
    assert vectors(bank_model, csv(written("%Y-%m-%d %H:%M:%S", early), tmp_path)) == expected
    with pytest.raises(
        InputError, match=r"cannot be understood, such as .* text written as '%d\.%m\.%Y %H:%M:%S'"
    ):
        vectors(bank_model, csv(written("%m/%d/%Y %H:%M:%S", early), tmp_path))


def test_a_model_of_timestamps_refuses_text_with_the_day_first(
    model: Model, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"cannot be understood.*schema\.time_format says how"):
        vectors(model, csv(written(DAY_FIRST), tmp_path))


def test_moments_are_read_as_the_events_are(bank_model: Model, tmp_path: Path) -> None:
    moments = pa.table(
        {"client_id": EVENTS["client_id"].slice(0, 2), "event_time": ["04.05.1970 00:00:00"] * 2}
    )
    iso = moments.set_column(1, "event_time", pa.array(["1970-05-04"] * 2))
    for name, table in (("as_written.parquet", moments), ("iso.parquet", iso)):
        embed_as_of(bank_model, EVENTS, csv(table, tmp_path), tmp_path / name, device="cpu")
    first, second = (
        pq.read_table(tmp_path / name).drop_columns("event_time")
        for name in ("as_written.parquet", "iso.parquet")
    )
    assert first.equals(second)


def test_event_sequences_are_in_time_order_and_carry_how_times_are_written() -> None:
    sequences = EventSequences.read(written(DAY_FIRST))
    for row in sequences.table.select(["client_id", "event_time"]).to_pylist():
        assert row["event_time"] == sorted(
            row["event_time"], key=lambda text: pd.to_datetime(text, format=DAY_FIRST)
        )
    options = {**tiny_config().model_dump(include={"device"}), "epochs": 0, "batch_size": 8}
    embedder = SequenceEmbedder(
        encoder={"name": "gru", "hidden_size": 16}, random_state=0, **options
    ).fit(sequences[:9])
    assert embedder.schema_.time_format == DAY_FIRST
    as_it_is = EventSequences.read(EVENTS)
    np.testing.assert_array_equal(embedder.transform(sequences), embedder.transform(as_it_is))
    with pytest.raises(ConfigError, match=r"schema\.time_format: '%d' has no day"):
        EventSequences.read(EVENTS, time_format="%d")


# --------------------------------------------------------------------------------------------------
# the option


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("%d.%m", "has no day"),
        ("%Y-%m", "has no day"),
        ("hello", "has no day"),
        ("%d.%m.%Y.%y", "has no day"),
        ("%d.%m.%Q", "has %Q, an unknown code"),
        ("%d.%m.%Y%", "has %, an unknown code"),
        ("%Y-%d-%m", "with the year first only %Y-%m-%d is read"),
        ("%d.%m.%Y %Z", "has %Z"),
    ],
)
def test_a_format_that_says_no_day_is_refused_before_anything_is_read(
    form: str, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        tiny_config(schema={"time_format": form})
    assert words in str(refused.value)
    with pytest.raises(ValidationError):
        EventSchema(client="c", time="t", time_format=form)


def test_a_format_and_a_unit_of_numbers_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="time_format is for text of dates"):
        tiny_config(schema={"time_format": "%Y%m%d", "time_unit": "day"})


def test_a_schema_of_an_earlier_version_has_no_format() -> None:
    older = AS_IT_IS.model_dump(exclude={"time_format"})
    assert EventSchema.model_validate(older).time_format is None


def placed(*times: str) -> pa.Table:
    """The events, the first of which have these times."""
    moments = EVENTS["event_time"].to_numpy().copy()
    moments[: len(times)] = np.array(times, "datetime64[us]")
    return EVENTS.set_column(1, "event_time", pa.array(moments))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            placed("9999-12-31", "9999-12-31"),
            r"2 times in column 'event_time' of the given Table are far from the others: "
            r"9999-12-31, while half of all are 1970-\d\d-\d\d to 1970-\d\d-\d\d\. .* leave these",
        ),
        (placed("1900-01-01"), "1 time in column .* is far from the others: 1900-01-01, while"),
        (
            placed(*["2190-01-01"] * len(EVENTS)),
            rf"{len(EVENTS)} times in column .* lie in the future, up to 2190-01-01\. Check",
        ),
    ],
    ids=["far ahead", "far back", "all ahead"],
)
def test_times_that_are_no_times_of_events_are_warned_about(table: pa.Table, message: str) -> None:
    schema = infer_schema(open_events(table))
    with pytest.warns(EventsWarning, match=message) as said:
        times(table, schema)
    assert len(said) == 1


def test_a_long_history_is_not_warned_about() -> None:
    decades = pd.date_range("1871-01-01", "2020-01-01", periods=len(EVENTS)).strftime("%Y-%m-%d")
    table = placed(*decades)
    assert times(table, infer_schema(open_events(table)))


ZONED = pc.assume_timezone(EVENTS["event_time"], "Asia/Tokyo")
OF_TOKYO = EVENTS.set_column(1, "event_time", ZONED)


@pytest.mark.parametrize(
    ("trained", "given", "words"),
    [
        (EVENTS, OF_TOKYO, "state a time zone, and those of the training did not"),
        (OF_TOKYO, EVENTS, "state no time zone, and those of the training did"),
        (EVENTS, written("%Y-%m-%dT%H:%M:%S+09:00"), "state a time zone"),
        (OF_TOKYO, written("%Y-%m-%d %H:%M:%S"), "state no time zone"),
    ],
)
def test_times_that_state_a_zone_where_those_of_the_training_did_not_are_said(
    trained: pa.Table, given: pa.Table, words: str
) -> None:
    schema = infer_schema(open_events(trained))
    with pytest.warns(EventsWarning, match=words):
        check_events(open_events(given), schema)
    check_events(open_events(trained), schema)


def test_the_same_moments_in_another_zone_are_the_same_times_without_a_word() -> None:
    schema = infer_schema(open_events(OF_TOKYO))
    in_paris = OF_TOKYO.set_column(1, "event_time", ZONED.cast(pa.timestamp("us", "Europe/Paris")))
    iso = pc.strftime(in_paris["event_time"], "%Y-%m-%dT%H:%M:%S%z")
    expected = times(OF_TOKYO, schema)
    assert times(in_paris, schema) == expected
    assert times(OF_TOKYO.set_column(1, "event_time", iso), schema) == expected


def test_a_schema_of_an_older_model_and_dates_say_nothing_of_zones() -> None:
    old = infer_schema(open_events(EVENTS)).model_copy(update={"stated_zone": None})
    check_events(open_events(OF_TOKYO), old)
    dates = EVENTS.set_column(1, "event_time", EVENTS["event_time"].cast(pa.date32(), safe=False))
    check_events(open_events(dates), infer_schema(open_events(OF_TOKYO)))
    assert infer_schema(open_events(dates)).stated_zone is None


def test_each_of_several_tables_keeps_whether_its_times_state_a_zone() -> None:
    both = {"here": EVENTS, "there": OF_TOKYO}
    _, schema = open_and_infer(both, SchemaOptions())
    assert [table.stated_zone for table in schema.sources.values()] == ["absent", "present"]
    assert schema.stated_zone is None
    with pytest.warns(EventsWarning, match="event_time.*state a time zone"):
        open_for_schema(both | {"here": OF_TOKYO}, schema, {})


def test_values_of_one_client_say_it_as_a_table_does_and_once() -> None:
    vocabulary = fitted(EVENTS, AS_IT_IS)
    plain = EVENTS.filter(pc.equal(EVENTS["client_id"], EVENTS["client_id"][0])).to_pylist()
    for zoned in (
        [e | {"event_time": e["event_time"].replace(tzinfo=dt.timezone.utc)} for e in plain],
        [e | {"event_time": e["event_time"].isoformat() + "+00:00"} for e in plain],
    ):
        encoding = ValueEncoding(AS_IT_IS, vocabulary)
        encoding.encode(plain)
        with pytest.warns(EventsWarning, match="'event_time' state a time zone"):
            encoding.encode(zoned)
        encoding.encode(zoned)  # a warning would be an error


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="only POSIX systems set the zone")
def test_the_zone_of_the_process_changes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    text = written("%Y-%m-%d %H:%M:%S")
    before = times(text, AS_IT_IS), times(EVENTS, AS_IT_IS)
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert (times(text, AS_IT_IS), times(EVENTS, AS_IT_IS)) == before
        assert fitted(EVENTS, AS_IT_IS) == fitted(text, AS_IT_IS)
    finally:
        monkeypatch.undo()
        time.tzset()
