"""Roles of columns are inferred from values and names together where they disagree."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from small import nested

from seqmel.core.errors import SchemaError
from seqmel.data.fitting.schema_inference import explain_schema, infer_schema
from seqmel.data.schema import EventSchema, SchemaOptions
from seqmel.data.sources.reading import open_events

ROWS = 600
RANDOM = np.random.default_rng(0)
BASE: dict[str, Any] = {
    "client_id": np.arange(ROWS) % 30,
    "event_time": np.datetime64("2023-01-01", "us") + np.arange(ROWS) * np.timedelta64(7_000, "s"),
    "amount": RANDOM.normal(size=ROWS),
}


def inferred(columns: dict[str, Any] | None = None, **options: Any) -> EventSchema:
    return infer_schema(open_events(pa.table(BASE | (columns or {}))), SchemaOptions(**options))


def role(name: str, values: Any) -> str:
    """What one more column is taken for: its role, or why it is left out."""
    schema = inferred({name: pa.array(values)})
    if name in schema.left_out:
        return schema.left_out[name]
    return schema.role_of(name)


CODES = RANDOM.choice([5411, 5812, 6011, 742], ROWS)
WORDS = ["a long note", "of several words", "nobody reads", "in the end"]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("mcc", CODES, "categorical"),
        ("merchant_type", RANDOM.choice([1, 2, 3, 90_000], ROWS), "categorical"),
        ("mcc", CODES.astype(float), "categorical"),
        ("place", CODES, "categorical"),
        ("channel", RANDOM.integers(0, 9, ROWS), "categorical"),
        ("city", RANDOM.choice(["Oslo", "Bergen"], ROWS), "categorical"),
        ("online", RANDOM.random(ROWS) < 0.5, "categorical"),
        ("amount_usd", RANDOM.integers(1, 9, ROWS), "numeric"),
        ("quantity", RANDOM.integers(1, 9, ROWS), "numeric"),
        ("quantity", np.arange(ROWS) * 1_000 + RANDOM.integers(0, 9, ROWS), "numeric"),
        ("steps", RANDOM.integers(-5, 5, ROWS), "numeric"),
        ("n_items", RANDOM.integers(0, 9, ROWS), "numeric"),
        ("price_cents", RANDOM.integers(100, 900, ROWS), "numeric"),
        ("bytesSent", np.arange(ROWS), "numeric"),
        ("price_group", RANDOM.integers(0, 9, ROWS), "categorical"),
        ("language", RANDOM.choice([1, 2, 90_000], ROWS), "categorical"),
        ("language", RANDOM.integers(1, 9, ROWS), "categorical"),
        ("page", RANDOM.integers(1, 9, ROWS), "categorical"),
        ("bid", (RANDOM.pareto(0.7, ROWS) * 10).astype(int), "numeric"),
        ("version", RANDOM.choice(["1.0", "1.5", "2.0"], ROWS), "categorical"),
        ("form", [f"2023-{a}-{b}" for a, b in RANDOM.integers(11, 20, (ROWS, 2))], "categorical"),
        ("release", [f"{a}.{b}.10" for a, b in RANDOM.integers(0, 9, (ROWS, 2))], "categorical"),
        (
            "due",
            [f"2023-0{a}-1{b}" for a, b in RANDOM.integers(1, 9, (ROWS, 2))],
            "a second time column",
        ),
        (
            "due",
            [f"0{a}.1{b}.2023" for a, b in RANDOM.integers(1, 9, (ROWS, 2))],
            "a second time column",
        ),
        ("address", [f"10.0.{a}.{b}" for a, b in RANDOM.integers(0, 14, (ROWS, 2))], "categorical"),
        ("visits", (RANDOM.pareto(0.7, ROWS) * 10).astype(int), "numeric"),
        ("price", RANDOM.random(ROWS), "numeric"),
        ("price", RANDOM.random(ROWS).astype(np.float32), "numeric"),
        ("price", pa.array(range(ROWS)).cast(pa.decimal128(21, 2)), "numeric"),
        ("document", np.arange(ROWS), "an id: nearly every value belongs to one client"),
        (
            "receipt",
            [f"r{i}" for i in range(ROWS)],
            "an id: nearly every value belongs to one client",
        ),
        ("country", ["NO"] * ROWS, "constant"),
        ("rate", [1.5] * ROWS, "constant"),
        ("flag", ["yes"] * (ROWS - 9) + [None] * 9, "categorical"),
        ("note", pa.nulls(ROWS), "only nulls"),
        ("reading", [float("nan")] * ROWS, "only nulls"),
        ("booked", BASE["event_time"].astype("datetime64[D]"), "a second time column"),
        ("blob", [b"x", b"y"] * (ROWS // 2), "a column of bytes cannot be used"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_column_is_taken_for_what_it_is(name: str, values: Any, expected: str) -> None:
    if name == "booked":
        schema = inferred({name: values}, time="event_time")
        assert schema.left_out == {"booked": expected}
    else:
        assert role(name, values) == expected


def test_free_text_is_text_and_says_why() -> None:
    notes = [f"{WORDS[i % 4]} {i % 300} {WORDS[i % 3]}" for i in range(ROWS)]
    many = pa.table(
        {k: np.tile(v, 20) for k, v in BASE.items()}
        | {"note": RANDOM.permutation(np.tile(notes, 20))}
    )
    schema, reasons = explain_schema(open_events(many))
    assert schema.kinds == {"note": "text"}
    assert reasons["note"] == "free text: 6 words per value"
    named = infer_schema(open_events(many), SchemaOptions(categorical=()))
    assert named.left_out == {"note": "not among the categorical columns named"}


@pytest.mark.parametrize("number", ["{:.2f}", "{:,.2f}", "-{:.1f}"])
@pytest.mark.parametrize("point", [".", ","])
def test_amounts_written_as_text_are_no_categories(number: str, point: str) -> None:
    texts = [number.format(i % 300 * 11.5).translate({46: point, 44: "."}) for i in range(ROWS)]
    assert role("paid", texts).startswith("numbers written as text, such as")


def test_a_few_amounts_with_a_decimal_comma_are_no_categories_and_a_few_versions_are() -> None:
    assert role("paid", ["2,50", "12,50"] * (ROWS // 2)).startswith(
        "numbers written as text, such as '12,50'"
    )
    assert role("version", ["2.50", "12.50"] * (ROWS // 2)) == "categorical"


def test_only_what_nobody_asked_to_leave_out_is_told_of() -> None:
    columns = {"note": pa.nulls(ROWS), "mcc": CODES, "price": RANDOM.random(ROWS)}
    assert inferred(columns, ignore=("price",)).left_out_words == "left out: note (only nulls)"
    assert inferred(columns, categorical=("mcc",), numeric=()).left_out_words == ""


def test_a_column_that_cannot_be_used_is_lost_and_one_without_content_is_not() -> None:
    assert not inferred(
        {"note": pa.nulls(ROWS), "one": np.ones(ROWS), "id": np.arange(ROWS)}
    ).loses_columns
    assert inferred({"blob": pa.array([b"x", b"y"] * (ROWS // 2))}).loses_columns
    assert inferred({"price": [f"{x:.2f}" for x in BASE["amount"]]}).loses_columns
    assert not inferred({"blob": pa.array([b"x"] * ROWS)}, ignore=("blob",)).loses_columns


def test_free_text_that_nobody_writes_twice_is_text() -> None:
    assert role("note", [f"said {i} times" for i in range(ROWS)]) == "text"


def test_a_number_with_one_value_lies_within_no_category() -> None:
    assert inferred({"mcc": CODES, "mark": [1.0, None] * (ROWS // 2)}).numeric_by == {}


@pytest.mark.parametrize("missing", [None, float("nan")], ids=["null", "NaN"])
@pytest.mark.parametrize("common", [0.0, 5411.0])
def test_codes_that_pandas_made_floats_because_of_a_missing_one_are_still_codes(
    missing: float | None, common: float
) -> None:
    assert role("mcc", [missing, *[common] * (ROWS - 3), 5812.0, 4111.0]) == "categorical"


def test_a_pandas_categorical_is_categorical_whatever_its_values_are_called() -> None:
    frame = pd.DataFrame(BASE).assign(medium=pd.Categorical(["PRINT", "POINT"] * (ROWS // 2)))
    assert infer_schema(open_events(frame)).categorical == ("medium",)


def test_polars_and_nested_events_are_inferred_like_flat_ones() -> None:
    table = pa.table(BASE | {"mcc": CODES})
    flat = infer_schema(open_events(table))
    assert infer_schema(open_events(pl.from_arrow(table))) == flat
    assert infer_schema(open_events(nested(table, "client_id"))) == flat


@pytest.mark.parametrize(
    "name", ["client_id", "customer", "CustomerID", "user_id", "cl_id", "card no", "uid", "patient"]
)
def test_a_client_column_is_recognised_by_its_name(name: str) -> None:
    table = pa.table(BASE).rename_columns([name, "event_time", "amount"])
    assert infer_schema(open_events(table)).client == name


@pytest.mark.parametrize("name", ["event_time", "TRDATETIME", "ts", "when_it_was"])
def test_a_time_column_is_recognised_by_its_name_or_type(name: str) -> None:
    table = pa.table(BASE).rename_columns(["client_id", name, "amount"])
    assert infer_schema(open_events(table)).time == name


STAMPS = [f"2023-01-{i % 28 + 1:02d} 10:00:00" for i in range(ROWS)]


def test_the_only_text_of_timestamps_is_the_time() -> None:
    columns = {
        "client_id": BASE["client_id"],
        "Zeitpunkt": STAMPS,
        "note": ["2023"] * ROWS,
        "x": BASE["amount"],
    }
    schema = infer_schema(open_events(pa.table(columns)))
    assert (schema.time, schema.time_unit) == ("Zeitpunkt", "timestamp")
    with pytest.raises(
        SchemaError,
        match=r"Several columns of .* hold times: Zeitpunkt, booked\. Name one with --time",
    ):
        infer_schema(open_events(pa.table(columns | {"booked": STAMPS})))
    with pytest.raises(SchemaError, match="Found no time column by its name"):
        infer_schema(open_events(pa.table(columns | {"Zeitpunkt": [*STAMPS[1:], "2023-01-99"]})))


def test_dates_written_as_numbers_are_no_seconds() -> None:
    dates = [20_230_101 + i % 28 for i in range(ROWS)]
    with pytest.raises(
        SchemaError, match=r"dates written as numbers, such as 20230101.*schema\.time_unit"
    ):
        inferred({"event_time": dates})
    assert inferred({"event_time": dates}, time_unit="second").time_unit == "second"
    assert inferred({"event_time": [*dates[1:], 20_239_999]}).time_unit == "second"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([2021, 2022, 2023], "years or months, such as 2021, .* Name a column of dates"),
        ([202101, 202212, 202301], "years or months, such as 202101,"),
        ([202101, 202252, 202353], "years or months, such as 202101,"),
        (["20230131", "20230201"], "dates written as numbers, such as 20230131.* %Y%m%d "),
        ([202301312359, 202302010000], "--time-format %Y%m%d%H%M "),
        ([20230131235959, 20230201000000], "--time-format %Y%m%d%H%M%S "),
    ],
)
def test_years_months_and_dates_in_digits_are_no_counts(values: list[Any], message: str) -> None:
    times = [values[i % len(values)] for i in range(ROWS)]
    with pytest.raises(SchemaError, match=message):
        inferred({"event_time": times})


def test_numbers_written_as_text_count_as_numbers_do() -> None:
    texts = [str(1_700_000_000_000 + 1_000 * i) for i in range(ROWS)]
    assert inferred({"event_time": texts}).time_unit == "millisecond"


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (range(ROWS), "day"),
        ([float(i) for i in range(ROWS)], "day"),
        ([1_600_000_000 + i for i in range(ROWS)], "second"),
        ([1_600_000_000_000 + i for i in range(ROWS)], "millisecond"),
        ([1_600_000_000_000_000 + i for i in range(ROWS)], "microsecond"),
        ([1_600_000_000_000_000_000 + i for i in range(ROWS)], "nanosecond"),
        ([dt.date(2020, 1, 1)] * ROWS, "timestamp"),
        (["2020-01-01"] * ROWS, "timestamp"),
    ],
)
def test_the_unit_of_a_time_is_seen_from_its_size(values: Any, unit: str) -> None:
    assert inferred({"event_time": pa.array(values)}).time_unit == unit


@pytest.mark.parametrize("values", [[-5, 3], [99_000], [9e10], [9e13], [9e16], [9e18]])
def test_a_range_outside_1970_to_2100_is_asked_about_and_taken_where_the_unit_is_said(
    values: list[float],
) -> None:
    times = pa.array((values * ROWS)[:ROWS])
    with pytest.raises(
        SchemaError,
        match=(
            r"would lie in the years .* Say what they count: schema.time_unit, one of day, "
            r"second"
        ),
    ):
        inferred({"event_time": times})
    assert inferred({"event_time": times}, time_unit="day").time_unit == "day"


@pytest.mark.parametrize(
    "values", [[dt.timedelta(1)], [dt.time(1)], [True]], ids=["duration", "time of day", "bool"]
)
def test_a_time_column_that_is_no_time_is_refused(values: list[Any]) -> None:
    with pytest.raises(SchemaError, match="Expected timestamps, dates, text or numbers"):
        inferred({"event_time": pa.array(values * ROWS)}, time="event_time")


def test_a_number_that_means_something_only_within_its_category_is_found() -> None:
    kind = RANDOM.integers(0, 5, ROWS)
    columns = {"parameter_code": kind, "value": 100.0 * kind + RANDOM.normal(size=ROWS)}
    assert inferred(columns).numeric_by == {"value": "parameter_code"}


def test_a_number_that_its_category_says_little_of_is_scaled_overall() -> None:
    kind = RANDOM.integers(0, 5, ROWS)
    columns = {"parameter_code": kind, "value": 0.5 * kind + RANDOM.normal(size=ROWS)}
    assert inferred(columns).numeric_by == {}


def test_a_category_that_says_little_of_a_number_is_passed_over_for_one_that_says_much() -> None:
    kind = RANDOM.integers(0, 5, ROWS)
    columns = {
        "city_code": RANDOM.integers(0, 9, ROWS),
        "kind": kind,
        "value": np.exp(9.0 * kind) + RANDOM.random(ROWS),
    }
    assert inferred(columns).numeric_by == {"value": "kind"}


def test_what_is_named_is_taken_as_named_and_the_rest_is_inferred() -> None:
    schema = inferred({"mcc": CODES, "city": ["Oslo", "Bodø"] * (ROWS // 2)}, numeric=("mcc",))
    assert (schema.categorical, schema.numeric) == (("city",), ("mcc",))
    assert schema.left_out == {"amount": "not among the numeric columns named"}


def test_what_a_list_drops_is_said_and_names_with_a_plus_drop_nothing() -> None:
    columns = {"mcc": CODES, "city": ["Oslo", "Bodø"] * (ROWS // 2)}
    replaced = inferred(columns, categorical=("mcc",))
    assert replaced.left_out_words == "left out: city (not among the categorical columns named)"
    added = inferred(columns, categorical=("+amount",))
    assert (set(added.categorical), added.left_out) == ({"amount", "mcc", "city"}, {})
    with pytest.raises(
        ValueError,
        match=r"categorical names \+amount, which adds to what is inferred, beside names",
    ):
        SchemaOptions(categorical=("+amount", "mcc"))


def test_ignored_columns_are_left_out() -> None:
    schema = inferred({"mcc": CODES}, ignore=("amount", "no such column"))
    assert (schema.features, schema.left_out) == (("mcc",), {"amount": "as asked"})


def test_a_partition_key_is_a_feature_where_it_is_named(tmp_path: Any) -> None:
    pa.parquet.write_to_dataset(
        pa.table(BASE | {"region": CODES}), tmp_path, partition_cols=["region"]
    )
    source = open_events(tmp_path)
    assert infer_schema(source).left_out == {"region": "partition key of the folder"}
    schema = infer_schema(source, SchemaOptions(categorical=("region",)))
    assert (schema.categorical, schema.left_out) == (("region",), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"client": "clientid"},
            r"No column 'clientid' .* Did you mean 'client_id'\? It has: .*--client",
        ),
        ({"time": "even_time"}, r"No column 'even_time' .* Did you mean 'event_time'\?.*--time"),
        ({"time": "client_id"}, "Client and time are the same column"),
        ({"categorical": ["mc"]}, r"No column 'mc' .* Did you mean 'mcc'\?.*schema.categorical"),
        ({"numeric": ["empty"]}, "'empty' of the given Table holds only nulls"),
        ({"categorical": ["empty"]}, "'empty' of the given Table holds only nulls"),
        ({"numeric": ["city"]}, "'city' of the given Table holds text, not numbers"),
        ({"numeric": ["mcc"], "categorical": ["mcc"]}, "named as categorical and as numeric"),
        ({"numeric": ["mcc"], "ignore": ["mcc"]}, r"named as numeric and in schema\.ignore"),
        ({"categorical": ["client_id"]}, "is the client or the time and cannot be categorical too"),
        (
            {"numeric_by": {"amount": "client_id"}},
            "is the client or the time and cannot be categorical too",
        ),
        ({"numeric_by": {"amount": "nothing"}}, "No column 'nothing'"),
        ({"numeric_by": {"amount": "mcc"}, "numeric": ["mcc"]}, "wants {numeric: categorical}"),
        ({"categorical": [], "numeric": []}, "is left to learn from"),
    ],
)
def test_options_that_do_not_fit_the_events_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        inferred(
            {"mcc": CODES, "city": ["a", "b"] * (ROWS // 2), "empty": pa.nulls(ROWS, pa.float64())},
            **options,
        )


def test_several_columns_that_could_be_the_client_are_named() -> None:
    with pytest.raises(
        SchemaError, match=r"Several columns could be the client: client_id, user_id\..*--client"
    ):
        inferred({"user_id": CODES})


def test_no_column_that_could_be_the_client_is_said_with_what_there_is() -> None:
    table = pa.table(BASE).rename_columns(["who", "event_time", "amount"])
    with pytest.raises(
        SchemaError, match=r"Found no client column by its name\..*has: who, event_time, amount"
    ):
        infer_schema(open_events(table))


def test_the_index_that_pandas_writes_into_a_file_is_left_out_unless_it_is_named(
    tmp_path: Any,
) -> None:
    table = pa.table(BASE | {"__index_level_0__": pa.array(range(ROWS))})
    assert infer_schema(open_events(table)).left_out == {
        "__index_level_0__": "an index that pandas wrote"
    }
    named = infer_schema(open_events(table), SchemaOptions(numeric=("amount", "__index_level_0__")))
    assert "__index_level_0__" in named.numeric
