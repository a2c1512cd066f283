"""The column path equals the DuckDB path to the last bit: vocabulary and sequences."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import SCHEMA, card_events, nested

from seqmel.core.errors import SeqmelError
from seqmel.data.encoding import column_reading
from seqmel.data.encoding.column_fitting import middle_magnitudes
from seqmel.data.encoding.column_reading import whole_columns
from seqmel.data.encoding.columns import _sort_by_keys
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting import vocabulary_fitting as fitting
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import Events, open_events
from seqmel.data.sources.shard import Shard
from seqmel.data.vocabulary import Vocabulary

EXAMPLES = int(os.environ.get("SEQMEL_EXAMPLES", "20"))
FEW = settings(max_examples=2 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

TEXT = st.one_of(
    st.sampled_from(["a", "b", "ab", "", "05", "5", "5.0", "é", "A", "a\0b", "NULL"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
FEW_WHOLE, WHOLE = st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)
REAL = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 1.5, 5411.0, 1e16, math.inf, -math.inf, math.nan, 1.7e308, -1.7e308, 5e-324]
    ),
    st.floats(),
)
AMOUNT = st.floats(0.01, 1e6)
SECONDS = st.integers(-(10**9), 2 * 10**9)
IDS = {
    "int64": (pa.int64(), st.one_of(FEW_WHOLE, WHOLE)),
    "few": (pa.int32(), FEW_WHOLE),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "text": (pa.string(), TEXT),
    "large": (pa.large_string(), TEXT),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), TEXT),
}
TIMES = {
    "us": (
        pa.timestamp("us"),
        st.one_of(SECONDS.map(lambda s: s * 10**6), st.integers(-(2**61), 2**61), FEW_WHOLE),
    ),
    "ms": (pa.timestamp("ms"), SECONDS),
    "s": (pa.timestamp("s"), st.one_of(SECONDS, FEW_WHOLE)),
    "ns": (
        pa.timestamp("ns"),
        st.one_of(SECONDS.map(lambda s: s * 10**9), st.integers(-(10**17), 10**18)),
    ),
    "zoned": (pa.timestamp("us", "America/New_York"), SECONDS.map(lambda s: s * 10**6)),
    "zoned ms": (pa.timestamp("ms", "UTC"), SECONDS),
    "date": (pa.date32(), st.integers(-30_000, 60_000)),
    "day": (pa.int32(), st.integers(-5, 20_000)),
    "second": (pa.float64(), st.floats(-1e9, 2e9)),
    ("second of int"): (pa.uint32(), st.integers(0, 2**32 - 1)),
}
KINDS = {
    "int64": (pa.int64(), st.one_of(FEW_WHOLE, WHOLE)),
    "uint8": (pa.uint8(), FEW_WHOLE),
    "text": (pa.string(), TEXT),
    "view": (pa.string_view(), TEXT),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), TEXT),
    "double": (pa.float64(), REAL),
    "float": (pa.float32(), st.sampled_from([0.5, -0.0, 0.0, 3.0, math.nan])),
    "bool": (pa.bool_(), st.booleans()),
}
SIZES = {
    "double": (pa.float64(), REAL),
    "amount": (pa.float64(), AMOUNT),
    "float": (pa.float32(), st.floats(width=32)),
    "int64": (pa.int64(), WHOLE),
    "count": (pa.uint16(), st.integers(0, 2**16 - 1)),
    "bool": (pa.bool_(), st.booleans()),
}


def same(
    events: Events, schema: EventSchema, vocabulary: Vocabulary | None = None, **options: Any
) -> None:
    """Hold whole columns to what is made row by row, `SeqmelError` and all."""
    wanted, got = (
        row_by_row(made, events, schema, vocabulary, **options),
        made(events, schema, vocabulary, **options),
    )
    assert got == wanted


def row_by_row(function: Any, *args: Any, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_reading, "MEMORY_FRACTION", 0.0)
        return function(*args, **options)


def made(
    events: Events,
    schema: EventSchema,
    vocabulary: Vocabulary | None,
    shard: Shard | None = None,
    chunk_events: int = 7,
) -> Any:
    """The vocabulary as JSON, and the sequences as lists and bytes; or the error's words."""
    source = open_events(events, client=schema.client, threads=2)
    try:
        fitted = vocabulary or fit_vocabulary(source, schema, min_count=2)
        batches = list(encode(source, schema, fitted, shard=shard, chunk_events=chunk_events))
    except SeqmelError as error:
        return type(error), str(error)
    finally:
        source.connection.close()
    table = pa.Table.from_batches(batches)
    lists = {
        name: pa.concat_arrays([b.column(name).flatten() for b in batches])
        for name in table.column_names[1:]
    }
    raw = [x.to_numpy().tobytes() for x in lists.values()]
    lengths = table.column(1).combine_chunks().value_lengths().to_pylist()
    return fitted.model_dump_json(), table.schema, table.column(0).to_pylist(), lengths, raw


def column(draw: Any, kind: tuple[pa.DataType, Any], n: int, *, nulls: bool) -> pa.Array:
    values = st.one_of(st.none(), kind[1], kind[1], kind[1]) if nulls else kind[1]
    few = draw(st.lists(values, min_size=1, max_size=12))
    drawn = [few[i] for i in draw(st.lists(st.integers(0, len(few) - 1), min_size=n, max_size=n))]
    if pa.types.is_dictionary(kind[0]):
        return pa.array(drawn, pa.string()).dictionary_encode().cast(kind[0])
    return (
        pa.array(drawn, pa.int64()).cast(kind[0])
        if pa.types.is_timestamp(kind[0])
        else pa.array(drawn, kind[0])
    )


@st.composite
def tables(draw: Any) -> tuple[pa.Table, EventSchema]:
    n = draw(st.integers(1, 60))
    who, day, kind, size = (
        draw(st.sampled_from(sorted(kinds))) for kinds in (IDS, TIMES, KINDS, SIZES)
    )
    odd = draw(st.integers(0, 9)) == 0
    table = pa.table(
        {
            "client": column(draw, IDS[who], n, nulls=odd),
            "time": column(draw, TIMES[day], n, nulls=odd),
            "kind": column(draw, KINDS[kind], n, nulls=True),
            "size": column(draw, SIZES[size], n, nulls=True),
            "left": pa.array([[1]] * n).flatten(),
            "amount": column(draw, SIZES["amount"], n, nulls=draw(st.booleans())),
        }
    )
    unit = {"day": "day", "second": "second", "second of int": "second"}.get(day, "timestamp")
    within = draw(st.sampled_from([{}, {"size": "kind"}, {"amount": "kind"}]))
    schema = EventSchema(
        client="client",
        time="time",
        time_unit=unit,
        categorical=("kind",),
        numeric=("size", "amount"),
        numeric_by=within,
    )
    return table, schema


@st.composite
def as_events(draw: Any, table: pa.Table, folder: str) -> Events:
    """Return a table in chunks, or as Parquet files with several row groups, or as CSV."""
    cut = draw(st.integers(0, len(table)))
    parts = [part for part in (table[:cut], table[cut:]) if len(part)]
    how = draw(st.sampled_from(["table", "file", "files", "csv"]))
    if how == "table":
        return pa.concat_tables(parts)
    if how == "csv":
        duckdb.from_arrow(table).to_csv(str(Path(folder) / "events.csv"))
        return folder
    plain = {
        "use_dictionary": draw(st.booleans()),
        "row_group_size": draw(st.sampled_from([3, 1_000])),
    }
    for i, part in enumerate(parts if how == "files" else [table]):
        pq.write_table(part, Path(folder) / f"part-{i}.parquet", **plain)
    return folder


@FEW
@given(drawn=tables(), data=st.data())
def test_whole_columns_give_the_same_vocabulary_and_sequences(drawn: Any, data: Any) -> None:
    table, schema = drawn
    with tempfile.TemporaryDirectory() as folder:
        same(data.draw(as_events(table, folder)), schema)


@FEW
@given(drawn=tables(), share=st.sampled_from([3, 10]))
def test_a_sample_of_whole_columns_is_the_same_sample(drawn: Any, share: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_SAMPLE_ROWS", "_SAMPLE_ROWS_WITHIN", "_GAP_ROWS"):
            patch.setattr(fitting, name, share)
        same(*drawn)


@FEW
@given(drawn=tables(), other=tables(), shard=st.sampled_from([None, (1, 2), (2, 2), (5, 7)]))
def test_events_are_encoded_the_same_with_the_vocabulary_of_a_model(
    drawn: Any, other: Any, shard: Any
) -> None:
    (table, schema), (later, later_schema) = drawn, other
    source = open_events(table, client="client")
    try:
        vocabulary = fit_vocabulary(source, schema, min_count=1)
    except SeqmelError:
        return
    same(
        later,
        schema.model_copy(update={"time_unit": later_schema.time_unit}),
        vocabulary,
        shard=shard,
    )


@FEW
@given(st.data())
def test_places_are_sorted_whatever_the_size_of_the_keys(data: Any) -> None:
    n = data.draw(st.integers(1, 40))
    bounds = data.draw(
        st.lists(st.sampled_from([1, 2, 7, 2**31, 2**62, 2**63 + 1, 2**64]), min_size=1, max_size=3)
    )
    keys = [
        np.array(data.draw(st.lists(st.integers(0, b - 1), min_size=n, max_size=n)), np.uint64)
        for b in bounds
    ]
    assert _sort_by_keys(list(zip(keys, bounds, strict=True))).tolist() == np.lexsort(keys).tolist()


@FEW
@given(
    st.lists(
        st.one_of(st.integers(-4, 4), st.floats(allow_nan=False, allow_infinity=False)), max_size=30
    )
)
def test_the_middle_of_magnitudes_is_that_of_all_sorted(drawn: list[float]) -> None:
    x = np.sort(np.array(drawn, np.float64))
    magnitudes = np.sort(np.abs(x[x != 0]))
    n = len(magnitudes)
    expected = magnitudes[[(n - 1) // 2, n // 2]] if n else magnitudes
    assert middle_magnitudes(x).tolist() == expected.tolist()


@pytest.mark.parametrize("grouped", [True, False])
def test_many_events_are_the_same(grouped: bool) -> None:
    """So many that the engine shares them out among its threads."""
    random, n = np.random.default_rng(0), 400_000
    client = random.integers(0, 3_000, n)
    table = pa.table(
        {
            "client": np.sort(client) if grouped else client,
            "time": pa.array(random.integers(0, 10**17, n), pa.timestamp("ns")),
            "kind": random.integers(0, 300, n),
            "size": np.exp(random.normal(0, 3, n)),
            "amount": random.normal(0, 1, n),
            "other": np.exp(random.normal(0, 3, n)),
        }
    )
    schema = EventSchema(
        client="client",
        time="time",
        categorical=("kind",),
        numeric=("size", "amount", "other"),
        numeric_by={"other": "kind"},
    )
    same(table, schema, chunk_events=100_000)


def taken(events: Events, schema: EventSchema, **options: Any) -> bool:
    return whole_columns(open_events(events, client=schema.client, **options), schema) is not None


PLAIN = EventSchema(
    client="client", time="time", time_unit="day", categorical=("kind",), numeric=("size",)
)


def plain(**columns: Any) -> pa.Table:
    return pa.table(
        {
            "client": ["a", "b", "a"],
            "time": [1, 2, 3],
            "kind": ["x", None, "y"],
            "size": [1.0, None, 2.0],
            **columns,
        }
    )


def test_plain_events_are_read_as_whole_columns(tmp_path: Path) -> None:
    events = card_events(12)
    pq.write_table(events, tmp_path / "a.parquet")
    pq.write_table(events.slice(1), tmp_path / "b.parquet")
    (tmp_path / "csv").mkdir()
    events.to_pandas().to_csv(tmp_path / "csv" / "events.csv", index=False)
    for given_as in (
        events,
        events.to_pandas(),
        tmp_path / "a.parquet",
        tmp_path / "*.parquet",
        tmp_path / "csv",
    ):
        assert taken(given_as, SCHEMA)
    assert taken(pytest.importorskip("polars").from_arrow(events), SCHEMA)


@pytest.mark.parametrize(
    "columns",
    [
        {"client": ["a", None, "a"]},
        {"time": [1, None, 3]},
        {"time": ["1", "2", "3"]},
        {"time": [1, 2, 2**62]},
        {"size": pa.array([1, 2, 3], pa.decimal128(5, 2))},
        {"size": ["1", "2", "3"]},
        {"client": [1.5, 2.0, 1.5]},
        {"kind": pa.array([b"x", b"y", b"z"])},
        {"kind": pa.array([1, 2, 3]).dictionary_encode()},
    ],
    ids=lambda columns: "-".join(
        (f"{name} {pa.array(values).type}") for name, values in columns.items()
    ),
)
def test_what_is_not_plain_is_left_to_the_engine(columns: dict[str, Any]) -> None:
    assert taken(plain(), PLAIN)
    assert not taken(plain(**columns), PLAIN)
    same(plain(**columns), PLAIN)


def test_other_layouts_are_left_to_the_engine(tmp_path: Path) -> None:
    events = card_events(6)
    (tmp_path / "day=1").mkdir()
    pq.write_table(events, tmp_path / "day=1" / "a.parquet")
    import pyarrow.dataset as ds

    for given_as in (nested(events, "client_id"), tmp_path / "day=1", ds.dataset(events)):
        assert not taken(given_as, SCHEMA)


def test_text_that_is_none_is_told_of_by_the_engine(tmp_path: Path) -> None:
    odd = pa.array([b"x", b"\xff\xfe", b"y"]).view(pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, odd.buffers())
    pq.write_table(plain(kind=broken), tmp_path / "events.parquet")
    assert not taken(tmp_path / "events.parquet", PLAIN)


def test_no_more_than_a_share_of_the_memory_is_taken(tmp_path: Path) -> None:
    n = 300_000
    many = pa.table(
        {
            "client": range(n),
            "time": range(n),
            "kind": [str(i) for i in range(n)],
            "size": [1.0] * n,
        }
    )
    pq.write_table(many, tmp_path / "events.parquet")
    for events in (many, tmp_path / "events.parquet"):
        assert taken(events, PLAIN, memory_limit="2GB")
        assert not taken(events, PLAIN, memory_limit="100MB")


def test_files_with_different_columns_are_left_to_the_engine(tmp_path: Path) -> None:
    pq.write_table(plain(), tmp_path / "a.parquet")
    pq.write_table(plain().drop_columns("kind"), tmp_path / "b.parquet")
    assert not taken(tmp_path, PLAIN)


def test_one_event_alone_is_the_same_whether_numbers_of_its_kind_are_logarithms_or_not() -> None:
    random, n = np.random.default_rng(0), 600
    kind = np.arange(n) % 3
    size = np.where(kind == 0, np.exp(random.normal(5, 3, n)), random.normal(0, 1, n))
    seconds = pa.array(np.arange(n) * 10**6, pa.timestamp("us"))
    table = pa.table(
        {"client": np.arange(n) % 20, "time": seconds, "kind": kind, "size": size, "amount": size}
    )
    schema = EventSchema(
        client="client",
        time="time",
        time_unit="timestamp",
        categorical=("kind",),
        numeric=("size", "amount"),
        numeric_by={"size": "kind"},
    )
    vocabulary = fit_vocabulary(open_events(table, client="client"), schema, min_count=2)
    known = [scale for scale in vocabulary.numeric["size"].within if scale is not None]
    assert {scale.log_unit is None for scale in known} == {True, False}
    for row in range(6):
        same(table[row : row + 1], schema, vocabulary)
