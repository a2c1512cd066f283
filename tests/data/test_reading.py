"""Whatever the events lie in, the same events come out."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch
from small import card_events, nested

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.sources.checking import times_of
from seqmel.data.sources.reading import open_events
from seqmel.data.sources.source import EventSource
from seqmel.data.tables.labels import read_labels

EVENTS = card_events(6).drop_columns("city")


def events_of(source: EventSource, *, without: str = "") -> list[tuple[Any, ...]]:
    """All rows, in the order of the input, NaN as text."""
    names = [name for name in source.columns if name != without]
    found = source.rows(f"SELECT {', '.join(names)} FROM events ORDER BY __row")
    return [tuple("NaN" if value != value else value for value in row) for row in found]


def _file(folder: Path) -> Any:
    pq.write_table(EVENTS, folder / "events.parquet")
    return str(folder / "events.parquet")


def _path(folder: Path) -> Any:
    return Path(_file(folder))


def _parts(folder: Path) -> Path:
    for i, begin in enumerate(range(0, len(EVENTS), 20)):
        (folder / f"day{i:02d}").mkdir()
        pq.write_table(EVENTS.slice(begin, 20), folder / f"day{i:02d}" / "part.parquet")
    (folder / "_SUCCESS").touch()
    (folder / ".part.parquet.crc").touch()
    return folder


def _glob(folder: Path) -> Any:
    return str(_parts(folder) / "day*" / "*.parquet")


def _reader(folder: Path) -> Any:
    return EVENTS.to_reader(max_chunksize=10)


def _data_set(folder: Path) -> Any:
    return ds.dataset(_parts(folder), format="parquet")


def _feather(folder: Path) -> Any:
    pyarrow.feather.write_feather(EVENTS, folder / "events.feather")
    return folder / "events.feather"


def _records(folder: Path) -> Any:
    return EVENTS.to_pylist()


SOURCES: dict[str, Callable[[Path], Any]] = {
    "file": _file,
    "pyarrow data set": _data_set,
    "list of dictionaries": _records,
    "path": _path,
    "folder": _parts,
    "list of paths": lambda folder: sorted(_parts(folder).rglob("*.parquet")),
    "Feather": _feather,
    "dictionary of columns": lambda _: EVENTS.to_pydict(),
    "glob": _glob,
    "pandas": lambda _: EVENTS.to_pandas(),
    "pandas with a named index": lambda _: EVENTS.to_pandas().set_index("client_id"),
    "pandas with two index levels": lambda _: EVENTS.to_pandas().set_index(
        ["client_id", "event_time"]
    ),
    "polars LazyFrame": lambda _: pl.from_arrow(EVENTS).lazy(),  # type: ignore[union-attr]
    "polars": lambda _: pl.from_arrow(EVENTS),
    "pandas with a sparse column": lambda _: EVENTS.to_pandas().assign(
        amount=pd.arrays.SparseArray(EVENTS["amount"].to_numpy())
    ),
    "pandas with the index twice": lambda _: EVENTS.to_pandas().set_index("client_id", drop=False),
    "arrow": lambda _: EVENTS,
    "arrow stream": _reader,
    "record batch": lambda _: EVENTS.combine_chunks().to_batches()[0],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_events_in_the_same_order(kind: str, tmp_path: Path) -> None:
    def known(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [
            tuple(None if value == "NaN" else value for value in row) for row in rows
        ]  # pandas knows no difference

    assert known(events_of(open_events(SOURCES[kind](tmp_path)))) == known(
        events_of(open_events(EVENTS))
    )


def test_a_partitioned_data_set_gives_its_events_and_leaves_its_keys_out(tmp_path: Path) -> None:
    table = EVENTS.append_column("year", pa.array([2020 + i % 3 for i in range(len(EVENTS))]))
    pq.write_to_dataset(table, tmp_path / "events", partition_cols=["year"])
    source = open_events(tmp_path / "events")
    assert set(events_of(source, without="year")) == set(events_of(open_events(EVENTS)))
    assert source.left_out == {"year": "partition key of the folder"}


@pytest.mark.parametrize(
    ("ending", "mark"), [(".csv", ","), (".csv", ";"), (".tsv", "\t"), (".csv.gz", ",")]
)
def test_csv_gives_the_same_events_as_parquet(ending: str, mark: str, tmp_path: Path) -> None:
    table = EVENTS.filter(pa.compute.is_finite(EVENTS["amount"]))
    plain = tmp_path / f"events{ending}"
    pyarrow.csv.write_csv(
        table, plain, pyarrow.csv.WriteOptions(delimiter=mark, quoting_style="none")
    )
    if ending.endswith(".gz"):
        plain.write_bytes(gzip.compress(plain.read_bytes()))
    source = open_events(plain)
    assert events_of(source) == events_of(open_events(table))
    assert source.columns["event_time"].startswith("TIMESTAMP")


def test_csv_numbers_that_begin_whole_are_not_rounded(tmp_path: Path) -> None:
    text = "client_id,day,amount\n" + "1,2,3\n" * 30_000 + "1,2,4.5\n"
    (tmp_path / "events.csv").write_text(text)
    assert open_events(tmp_path / "events.csv").row("SELECT max(amount) FROM events") == (4.5,)


def test_csv_text_that_begins_as_numbers_stays_text(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("client_id,day,code\n" + "1,2,3\n" * 30_000 + "1,2,A7\n")
    assert open_events(tmp_path / "events.csv").columns["code"] == "VARCHAR"


def test_a_csv_with_only_a_header_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("client_id,day,amount\n")
    with pytest.raises(InputError, match="has no rows"):
        open_events(tmp_path / "events.csv")


@pytest.mark.parametrize("lines", [30, 30_000])
def test_a_ragged_csv_is_refused(lines: int, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("client_id,day,amount\n" + "1,2,3\n" * lines + "1,2\n")
    with pytest.raises(InputError, match=r"same number of fields"):
        open_events(tmp_path / "events.csv")


def _by_pyarrow(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path)


def _by_polars(table: pa.Table, path: Path) -> None:
    pl.from_arrow(table).write_parquet(path)  # type: ignore[union-attr]


def _by_duckdb(table: pa.Table, path: Path) -> None:
    duckdb.from_arrow(table).write_parquet(str(path))


@pytest.mark.parametrize("write", [_by_pyarrow, _by_polars, _by_duckdb])
@pytest.mark.parametrize("layout", ["flat", "nested"])
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()], ids=str)
def test_nan_is_null_whatever_the_statistics_of_a_parquet_file_say(
    write: Callable[[pa.Table, Path], None], layout: str, kind: pa.DataType, tmp_path: Path
) -> None:
    values = pa.array([1.0, float("nan"), None, -3.0], kind)
    table = pa.table({"client": [1, 1, 1, 1], "day": [1, 2, 3, 4], "size": values})
    write(table if layout == "flat" else nested(table, "client"), tmp_path / "events.parquet")
    source = open_events(tmp_path / "events.parquet")
    assert source.rows("SELECT size FROM events ORDER BY day") == [
        (1.0,),
        (None,),
        (None,),
        (-3.0,),
    ]
    assert source.row("SELECT count(*) FROM events WHERE size IS NULL") == (2,)
    assert source.row("SELECT min(size), max(size) FROM events WHERE isfinite(size)") == (-3.0, 1.0)


@pytest.mark.parametrize(
    "name", ["a[1].parquet", "it's.parquet", "b*.parquet", "x=1.parquet", "no_ending"]
)
def test_odd_file_names_are_read(name: str, tmp_path: Path) -> None:
    pq.write_table(EVENTS, tmp_path / name)
    assert len(events_of(open_events(tmp_path / name))) == len(EVENTS)


def test_nested_events_are_the_flat_ones_in_the_order_of_the_lists() -> None:
    source = open_events(nested(EVENTS, "client_id"))
    expected: dict[Any, list[Any]] = {}
    for row in events_of(open_events(EVENTS)):
        expected.setdefault(row[0], []).append(row)
    assert source.nested
    assert events_of(source) == [row for events in expected.values() for row in events]


def test_nested_clients_without_events_are_kept() -> None:
    table = pa.table(
        {"client": [3, 1, 2], "day": [[], [1, 2], None], "size": [None, [1.0, 2.0], []]}
    )
    source = open_events(table)
    assert source.rows(f"SELECT client FROM ({source.clients_sql('client')}) ORDER BY first") == [
        (3,),
        (1,),
        (2,),
    ]
    assert events_of(source) == [(1, 1, 1.0), (1, 2, 2.0)]


def test_values_of_a_client_are_no_event_columns_in_the_nested_layout() -> None:
    table = pa.table({"client": [1], "born": [1990], "day": [[1, 2]], "size": [[1.0, 2.0]]})
    source = open_events(table)
    assert source.left_out == {"born": "one value per client, not per event"}
    assert list(source.columns) == ["client", "day", "size"]


def test_fixed_size_lists_are_lists() -> None:
    fixed = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))
    assert events_of(open_events(pa.table({"client": [1, 2], "day": fixed}))) == [
        (1, 1),
        (1, 2),
        (2, 3),
        (2, 4),
    ]


def test_a_nested_row_without_a_client_is_refused_even_without_events() -> None:
    table = pa.table({"client": [1, None], "day": [[1], []]})
    with pytest.raises(InputError, match="1 row in the given Table has no client"):
        open_events(table)


def test_a_nested_client_column_that_is_not_there_has_its_nearest_name_offered() -> None:
    table = pa.table({"client": [1], "day": [[1]]})
    with pytest.raises(
        SchemaError, match=r"No column 'clinet' in the given Table\. Did you mean 'client'\?"
    ):
        open_events(table, client="clinet")


def test_a_client_column_of_lists_is_refused() -> None:
    with pytest.raises(SchemaError, match="'client' of the given Table is a list"):
        open_events(pa.table({"client": [[1]], "day": [[1]]}), client="client")


@pytest.mark.parametrize("given", [None, [1, 2], {1, 2}, 7])
def test_what_is_no_table_is_refused_with_what_is_expected(given: object) -> None:
    with pytest.raises(InputError, match="Expected a path, or a pandas, polars or Arrow table"):
        open_events(given)


def test_clients_that_are_objects_of_no_one_type_are_refused() -> None:
    source = open_events(pd.DataFrame({"client": [1, "a"], "amount": [1, 2]}))
    with pytest.raises(
        SchemaError,
        match="'client' of the given DataFrame cannot be used: a column of Python objects",
    ):
        source.require("client", "")


@pytest.mark.parametrize("name", ["events.jsonl", "events.ndjson", "events.json"])
def test_json_lines_give_the_same_times_and_numbers(name: str, tmp_path: Path) -> None:
    lines = {"orient": "records", "lines": True, "date_format": "iso", "date_unit": "us"}
    EVENTS.to_pandas().to_json(tmp_path / name, **lines)
    source, plain = open_events(tmp_path / name), open_events(EVENTS)
    schema = infer_schema(plain)
    assert times_of(source, schema) == times_of(plain, schema)
    numbers = "SELECT client_id, mcc, amount FROM events ORDER BY __row"
    assert [tuple(map(str, row)) for row in source.rows(numbers)] == [
        tuple(map(str, row)) for row in plain.rows(numbers)
    ]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["Bodø", "Oslo", "Bergen"])])
def test_categories_of_polars_are_read_as_text(kind: Any) -> None:
    events = card_events(6)
    frame = pl.from_arrow(events).with_columns(pl.col("city").cast(kind))  # type: ignore[union-attr]
    rows = open_events(frame).rows("SELECT city::VARCHAR FROM events ORDER BY __row")
    assert [city for (city,) in rows] == events["city"].to_pylist()


def test_an_index_named_like_a_column_of_other_values_is_refused() -> None:
    frame = pd.DataFrame({"client": [1, 2]}, index=pd.Index([2, 1], name="client"))
    with pytest.raises(InputError, match=r"two columns of one name: 'client'\. Rename one\."):
        open_events(frame)


def test_a_frame_with_two_columns_of_one_name_is_refused() -> None:
    frame = pd.concat([EVENTS.to_pandas(), EVENTS.to_pandas()[["amount"]]], axis=1)
    with pytest.raises(InputError, match=r"two columns of one name: 'amount'\. Rename one\."):
        open_events(frame)


def test_several_frames_are_to_be_joined_first() -> None:
    frame = EVENTS.to_pandas()
    with pytest.raises(InputError, match=r"from a list\. .* Join several tables of one kind first"):
        open_events([frame, frame])


def test_a_model_in_place_of_a_table_is_recognised(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"folder of a model.* first: seqmel embed .* EVENTS"):
        open_events(tmp_path)


def test_a_missing_file_has_its_nearest_neighbour_offered(tmp_path: Path) -> None:
    (tmp_path / "events.parquet").touch()
    with pytest.raises(
        InputError,
        match=r"No such file or folder: .*event\.parquet\. Did you mean 'events\.parquet'",
    ):
        open_events(tmp_path / "event.parquet")


def test_a_folder_without_events_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        InputError, match=r"No Parquet or CSV file in the folder .* It has: notes\.txt"
    ):
        open_events(tmp_path)


@pytest.mark.parametrize("named", ["", "*", "day=1/*"])
def test_csv_among_parquet_is_refused_rather_than_passed_over(named: str, tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    pq.write_table(EVENTS, tmp_path / "day=1" / "events.parquet")
    folder = tmp_path / "day=1" if named == "*" else tmp_path
    EVENTS.slice(0, 9).to_pandas().to_csv(tmp_path / "day=1" / "late.CSV", index=False)
    with pytest.raises(
        InputError,
        match=r"CSV files, such as late\.CSV, and others, such as events\.parquet\. Only files",
    ):
        open_events(folder / named)
    source = open_events(tmp_path / "**" / "*.parquet")
    assert source.row("SELECT count(*) FROM events") == (len(EVENTS),)


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    path = Path(_file(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-12] + b"\xff\xff\xff\x7fPAR1")
    with pytest.raises(InputError, match="Cannot read") as caught:
        open_events(path)
    assert "\n" not in str(caught.value)


def test_feature_dictionaries_of_arrays_lists_and_tensors_are_the_nested_layout() -> None:
    rows = nested(EVENTS, "client_id").to_pylist()
    wanted = events_of(open_events(nested(EVENTS, "client_id")))
    for kind in (list, np.array, lambda values: torch.from_numpy(np.array(values))):
        records = [
            row | {name: kind(row[name]) for name in ("mcc", "amount", "reading")} for row in rows
        ]
        assert events_of(open_events(records)) == wanted


def test_the_keys_of_a_partitioned_pyarrow_data_set_are_left_out(tmp_path: Path) -> None:
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        pq.write_table(EVENTS.slice(20 * (day - 1), 20), tmp_path / f"day={day}" / "part.parquet")
    source = open_events(ds.dataset(tmp_path, format="parquet", partitioning="hive"))
    assert source.left_out == {"day": "partition key of the data set"}
    assert events_of(source, without="day") == events_of(open_events(EVENTS.slice(0, 40)))


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([{"client_id": 1}, 2], "Entry 1 of the given list is a int. Expected dictionaries only"),
        (
            [{"client_id": 1, "x": [1]}, {"client_id": 2, "x": ["a"]}],
            "'x' in the given dictionaries make no column",
        ),
        ([{"client_id": 1, "x": np.ones((2, 2))}], "'x' in the given dictionaries make no column"),
    ],
)
def test_dictionaries_that_make_no_table_are_refused(records: list[Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_events(records)


def test_a_file_that_a_list_holds_twice_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path)
    with pytest.raises(InputError, match=r"events\.parquet is in the list .* twice"):
        open_events([file, tmp_path])


@pytest.fixture
def store() -> Iterator[str]:
    """Return an address in memory that holds the events in two files, and their clients."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for number, part in enumerate((EVENTS.slice(0, 20), EVENTS.slice(20))):
        with memory.open(f"/bank/events/{number}.parquet", "wb") as file:
            pq.write_table(part, file)
    clients = pa.table({"client_id": EVENTS["client_id"].unique()})
    clients = clients.append_column("age", pa.array(range(len(clients))))
    with memory.open("/bank/clients.parquet", "wb") as file:
        pq.write_table(clients, file)
    yield "memory://bank"
    memory.rm("/bank", recursive=True)


def test_parquet_at_an_address_is_read_as_a_local_file(store: str, tmp_path: Path) -> None:
    found = open_events(f"{store}/events")
    assert found.label == f"{store}/events"
    assert events_of(found) == events_of(open_events(EVENTS))
    ages = read_labels(f"{store}/clients.parquet", "age")
    assert ages.tolist() == list(range(len(ages)))
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    local = open_events(f"file://{tmp_path / 'events.parquet'}")
    assert local.row("SELECT count(*) FROM events") == (len(EVENTS),)
    assert found.left_out == local.left_out == {}


def test_keys_of_folders_at_an_address_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "year=2023").mkdir()
    pq.write_table(EVENTS, tmp_path / "year=2023" / "0.parquet")
    assert open_events(f"file://{tmp_path}").left_out == {"year": "partition key of the folder"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nothing", "Cannot read memory://bank/nothing"),
        ("/events.csv", "read as one Parquet file or a folder of them. Copy other formats"),
        ("/events/*", "name the folder rather than a pattern"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused(store: str, path: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        open_events(store + path)


def test_an_unknown_scheme_and_a_list_of_addresses_are_refused() -> None:
    with pytest.raises(InputError, match=r"Cannot read nowhere://bucket/events"):
        open_events("nowhere://bucket/events")
    with pytest.raises(InputError, match=r"is an address, where a path is expected"):
        open_events(["s3://bucket/a.parquet", "s3://bucket/b.parquet"])


def test_leading_zeros_of_csv_are_part_of_a_client_id(tmp_path: Path) -> None:
    lines = [
        "client_id,event_time,city",
        "00012,2023-01-01,Oslo",
        "12,2023-01-02,Oslo",
        "7,2023-01-03,Bergen",
    ]
    for name, rows in (("a.csv", [lines[0], lines[2], lines[3]]), ("b.csv", lines[:2])):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    source = open_events(tmp_path, client="client_id")
    assert [row[0] for row in events_of(source)] == ["12", "7", "00012"]


def test_the_only_column_without_lists_is_the_client(tmp_path: Path) -> None:
    table = nested(EVENTS, "client_id")
    renamed = table.rename_columns(["Kunde", *table.column_names[1:]])
    assert open_events(renamed).client == "Kunde"
    assert events_of(open_events(renamed)) == events_of(open_events(table))
    with pytest.raises(SchemaError, match="Found no client column by its name"):
        open_events(renamed.append_column("city_of_birth", pa.array(["Oslo"] * len(renamed))))


def test_a_list_in_each_event_leaves_the_table_one_row_an_event() -> None:
    tags = EVENTS.append_column("tags", pa.array([["a", "b"]] * len(EVENTS)))
    source = open_events(tags)
    assert (source.nested, source.left_out) == (False, {})
    assert events_of(source, without="tags") == events_of(open_events(EVENTS))


def test_lists_of_clients_are_told_from_lists_of_events_where_the_time_has_no_name_for_it() -> None:
    renamed = nested(EVENTS.rename_columns({"event_time": "w"}), "client_id")
    joined = renamed.append_column(
        "created_at", pa.array([0] * len(renamed)).cast(pa.timestamp("us"))
    )
    assert open_events(joined.drop_columns("w"), client="client_id").nested
    flat = EVENTS.append_column("w", pa.array([[1]] * len(EVENTS)))
    assert not open_events(flat, client="client_id").nested


def test_a_vector_column_is_refused_with_advice_and_ignored_on_request() -> None:
    table = nested(EVENTS, "client_id")
    table = table.append_column("vector", pa.array([[0.5] * 8] * len(table)))
    with pytest.raises(SchemaError, match=r"unequal length .*'vector'.*schema.ignore"):
        open_events(table)
    source = open_events(table, skip=lambda name: name == "vector")
    assert source.left_out == {"vector": "as asked"}
    assert events_of(source) == events_of(open_events(nested(EVENTS, "client_id")))


def test_a_column_that_no_type_fits_is_left_out_and_the_others_are_read() -> None:
    odd = EVENTS.to_pandas().assign(
        odd=[{"a": 1}, "b", 3, {4}] * (len(EVENTS) // 4) + [None] * (len(EVENTS) % 4)
    )
    source = open_events(odd)
    assert source.left_out == {"odd": "a column of Python objects without a common type"}
    assert len(events_of(source, without="odd")) == len(EVENTS)
    with pytest.raises(
        SchemaError, match="'odd' of the given DataFrame cannot be used: a column of Python objects"
    ):
        source.require("odd", "")


@pytest.mark.parametrize("freq", ["M", "W", "Q", "h", "D"])
def test_a_period_is_the_time_at_which_it_starts(freq: str, tmp_path: Path) -> None:
    frame = EVENTS.to_pandas()
    periods = frame.assign(event_time=frame["event_time"].dt.to_period(freq))
    source = open_events(periods)
    assert source.columns["event_time"].startswith("TIMESTAMP")
    times = [time for (time,) in source.rows("SELECT event_time FROM events ORDER BY __row")]
    assert times == periods["event_time"].dt.start_time.tolist()
    periods.to_parquet(tmp_path / "events.parquet")
    with pytest.raises(SchemaError, match=r"'event_time' of .* cannot be used: pandas periods"):
        open_events(tmp_path / "events.parquet").require("event_time", "")


def test_a_spreadsheet_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "events.xlsx").write_bytes(b"PK")
    with pytest.raises(
        InputError, match=r"is a spreadsheet. Save it as CSV in UTF-8, or .* pandas.read_excel"
    ):
        open_events(tmp_path / "events.xlsx")
