"""Roles of columns without telling names: values distinguish numbers from identifiers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqmel.data.fitting.schema_inference import explain_schema, infer_schema
from seqmel.data.schema import SchemaOptions
from seqmel.data.sources.reading import open_events

SHARED = Path(os.environ.get("SEQMEL_DATA", Path(__file__).parents[3] / "shared" / "data"))
CLIENTS, EVENTS = 200, 40
ROWS = CLIENTS * EVENTS


def columns() -> dict[str, Any]:
    """Return a table in which numbers follow a level of the client, and codes its taste."""
    draw = np.random.default_rng(0)
    client = np.repeat(np.arange(CLIENTS), EVENTS)
    level = np.exp(draw.normal(size=CLIENTS))[client] * np.exp(0.3 * draw.normal(size=ROWS))
    taste = draw.dirichlet(np.full(60, 0.1), CLIENTS)
    shop = (taste.cumsum(axis=1)[client] < draw.random(ROWS)[:, None]).sum(axis=1)
    price = draw.normal(size=60)[shop] + 0.3 * draw.normal(size=ROWS)
    frequency = np.empty(60, int)
    frequency[np.argsort(-np.bincount(shop, minlength=60))] = np.arange(60)
    mcc = np.sort(draw.choice(np.arange(700, 9_999), 60, replace=False))
    return {
        "client_id": client,
        "event_time": np.datetime64("2023-01-01", "us")
        + np.tile(np.arange(EVENTS), CLIENTS) * np.timedelta64(7_000, "s"),
        "real": price,
        "count": draw.poisson(5 * level),
        "score": np.clip(50 + 20 * np.log(level) + draw.normal(size=ROWS), 0, 100).astype(int),
        "cents": (1_000 * level).astype(int),
        "age": draw.integers(18, 90, CLIENTS)[client] + np.tile(np.arange(EVENTS), CLIENTS) // 12,
        "shop": shop,
        "by_frequency": frequency[shop],
        "mcc_like": draw.permutation(mcc)[shop],
        "flag": (draw.random(ROWS) < 0.3).astype(int),
        "few": shop % 4,
    }


TABLE = pa.table(columns())
NUMBERS = ["real", "count", "score", "cents", "age"]
CODES = ["shop", "by_frequency", "mcc_like", "flag", "few"]


def nameless(table: pa.Table, keep: list[str] | None = None) -> tuple[pa.Table, dict[str, str]]:
    """The columns as c1 to cn, and what each was called."""
    keep = keep or table.column_names[2:]
    names = {f"c{i}": name for i, name in enumerate(keep, 1)}
    table = table.select(["client_id", "event_time", *keep])
    return table.rename_columns(["client_id", "event_time", *names]), names


def roles(events: Any, names: dict[str, str]) -> dict[str, str]:
    schema = infer_schema(open_events(events), SchemaOptions(client="client_id", time="event_time"))
    assert not set(schema.left_out) & set(names)
    return {old: "number" if new in schema.numeric else "code" for new, old in names.items()}


EXPECTED = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(CODES, "code")


def test_values_tell_numbers_from_codes_without_a_name() -> None:
    assert roles(*nameless(TABLE)) == EXPECTED


def test_whole_numbers_that_pandas_made_floats_are_recognised_alike() -> None:
    table, names = nameless(TABLE)
    frame = table.to_pandas()
    for name in names:
        frame[name] = frame[name].astype(float)
        frame.loc[frame.index % 17 == 0, name] = np.nan
    assert roles(frame, names) == EXPECTED


def test_columns_of_noise_beside_them_change_no_role() -> None:
    table, names = nameless(TABLE)
    draw = np.random.default_rng(1)
    for i in range(40):
        noise = draw.normal(size=ROWS) if i % 2 else draw.integers(0, 50, ROWS)
        table = table.append_column(f"n{i}", pa.array(noise))
    assert roles(table, names) == EXPECTED


@pytest.mark.parametrize("column", [*NUMBERS, *CODES])
def test_a_column_alone_is_recognised_by_what_its_client_does_next(column: str) -> None:
    assert roles(*nameless(TABLE, [column])) == {column: EXPECTED[column]}


def test_the_order_of_the_columns_changes_no_role() -> None:
    table, names = nameless(TABLE, list(EXPECTED)[::-1])
    assert roles(table, names) == EXPECTED


def test_codes_with_another_order_stay_codes_whatever_the_order() -> None:
    shop = TABLE["shop"].to_numpy()
    for seed in range(20):
        codes = np.random.default_rng(seed).permutation(60)[shop]
        table, names = nameless(
            TABLE.set_column(TABLE.column_names.index("shop"), "shop", pa.array(codes))
        )
        assert roles(table, names)["shop"] == "code", seed


@pytest.mark.parametrize("values", [7, 10])
def test_few_codes_are_no_numbers_because_clients_go_from_one_to_another(values: int) -> None:
    for seed in range(8):
        codes = np.random.default_rng(seed).permutation(60)[TABLE["shop"].to_numpy()] % values
        table, names = nameless(TABLE.set_column(7, "shop", pa.array(codes)), ["shop"])
        assert roles(table, names) == {"shop": "code"}, seed


def test_a_few_ordered_steps_are_numbers() -> None:
    steps = np.digitize(TABLE["score"].to_numpy(), [25, 40, 50, 60, 75])
    table, names = nameless(TABLE.set_column(4, "score", pa.array(steps)))
    assert roles(table, names) == EXPECTED


def test_no_number_is_scaled_within_a_count_even_where_it_is_called_a_category() -> None:
    frame = TABLE.select(["client_id", "event_time", "score", "shop"]).to_pandas()
    frame["other"] = frame["score"] + np.random.default_rng(0).normal(size=ROWS)
    schema = infer_schema(open_events(frame), SchemaOptions(categorical=("score", "shop")))
    assert schema.numeric == ("other",)
    assert schema.numeric_by == {}


def test_infinities_are_no_evidence() -> None:
    values = TABLE["count"].to_numpy().astype(float)
    values[::50] = np.inf
    table, names = nameless(TABLE.set_column(3, "count", pa.array(values)))
    assert roles(table, names) == EXPECTED


def test_each_feature_has_a_reason() -> None:
    table, names = nameless(TABLE)
    schema, reasons = explain_schema(
        open_events(table), SchemaOptions(numeric=tuple(names), categorical=())
    )
    assert set(reasons.values()) == {"as asked"}
    schema, reasons = explain_schema(open_events(table))
    assert set(reasons) == set(schema.features)
    found = {old: reasons[new] for new, old in names.items()}
    assert found["real"] == "has fractions"
    assert found["flag"] == "two values"
    assert "alike" in found["count"]
    assert "not alike" in found["shop"]


@pytest.mark.parametrize("rename", [False, True], ids=["as named", "c1 to cn"])
def test_counts_of_baseball_are_numbers_and_names_are_categories(rename: bool) -> None:
    path = SHARED / "baseball" / "events.parquet"
    if not path.exists():
        pytest.skip("the shared baseball events are not here")
    frame = pd.read_parquet(path)
    names = [c for c in frame.columns if c not in ("client_id", "event_time")]
    if rename:
        frame = frame.rename(columns={c: f"c{i}" for i, c in enumerate(names)})
        names = [f"c{i}" for i in range(len(names))]
    schema = infer_schema(open_events(frame), SchemaOptions(client="client_id", time="event_time"))
    assert schema.categorical == tuple(names[:4])
    assert schema.numeric == tuple(names[4:])
