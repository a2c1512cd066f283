"""Special folders are recognised, and files of two tables are not combined."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from small import card_events

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.progress import EventsWarning
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.kinds.registry import check_events
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import event_files, open_events
from seqmel.data.tables.facts import read_facts
from seqmel.inference.as_of import read_moments

EVENTS = card_events(6)


TABLES = {
    "Delta": "_delta_log/0000.json",
    "Iceberg": "metadata/v1.metadata.json",
    "Hudi": ".hoodie/hoodie.properties",
}
PLACES = ("", "*.parquet", "day=1")  # the folder, a glob, and one partition


@pytest.mark.parametrize(
    ("kind", "asked"),
    # the folder of a Delta table is read
    [(kind, path) for kind in TABLES for path in PLACES if path or kind != "Delta"],
)
def test_the_files_of_a_table_that_keeps_a_list_of_them_are_refused(
    kind: str, asked: str, tmp_path: Path
) -> None:
    log = TABLES[kind]
    root = tmp_path / "table"
    (root / "day=1").mkdir(parents=True)
    (root / log).parent.mkdir()
    (root / log).write_text("{}")
    for file in ("old.parquet", "new.parquet", "day=1/new.parquet"):
        pq.write_table(EVENTS, root / file)
    with pytest.raises(
        InputError,
        match=(
            rf"is an? {kind} table .*replaced or deleted.*in Python, or write its rows to "
            rf"Parquet"
        ),
    ):
        open_events(root / asked)
    assert event_files(str(root / "new.parquet")) == [
        str(root / "new.parquet")
    ]  # a file that is named is wanted


def test_a_delta_table_is_read_without_the_rows_that_were_deleted(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    root = str(tmp_path / "table")
    deltalake.write_deltalake(root, EVENTS.slice(0, 40))
    deltalake.write_deltalake(root, EVENTS.slice(40), mode="append")
    first = EVENTS["client_id"][0].as_py()
    deltalake.DeltaTable(root).delete(f"client_id = {first}")
    source = open_events(root)
    found = source.stream("SELECT client_id, event_time, mcc FROM events", 1_000).read_all()
    wanted = EVENTS.to_pandas()[["client_id", "event_time", "mcc"]].query(f"client_id != {first}")
    by = ["client_id", "event_time", "mcc"]
    pd.testing.assert_frame_equal(
        found.to_pandas().sort_values(by, ignore_index=True),
        wanted.sort_values(by, ignore_index=True),
    )
    deltalake.DeltaTable(root).delete()
    with pytest.raises(InputError, match="a Delta table without rows"):
        open_events(root)


def test_a_delta_table_needs_its_package_and_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_delta_log").mkdir()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "deltalake", None)
        with pytest.raises(InputError, match=r"pip install 'seqmel\[delta\]'"):
            event_files(tmp_path)
    pytest.importorskip("deltalake")
    with pytest.raises(InputError, match="cannot be read as a Delta table"):
        event_files(tmp_path)


@pytest.mark.parametrize("feature", ["deletionVectors", "columnMapping"])
def test_delta_tables_whose_files_differ_from_their_rows_are_refused(
    feature: str, tmp_path: Path
) -> None:
    deltalake = pytest.importorskip("deltalake")
    deltalake.write_deltalake(str(tmp_path), EVENTS)
    first = next((tmp_path / "_delta_log").glob("*.json"))
    lines = [json.loads(line) for line in first.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] |= {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["timestampNtz", feature],
                "writerFeatures": ["timestampNtz", feature],
            }
    first.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=rf"a Delta table with {feature}"):
        event_files(tmp_path)


def meds(folder: Path, columns: list[str]) -> Path:
    """A data set with one static row of each subject."""
    events = EVENTS.select(["client_id", "event_time", "mcc", "amount"]).rename_columns(columns)
    static = pa.table(
        {
            columns[0]: [100, 107],
            columns[1]: pa.nulls(2, pa.timestamp("us")),
            columns[2]: [1, 2],
            columns[3]: [None, None],
        }
    )
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "metadata").mkdir()
    pq.write_table(
        pa.concat_tables([static.cast(events.schema), events]),
        folder / "data" / "train" / "0.parquet",
    )
    pq.write_table(
        pa.table({"code": [1], "description": ["x"]}), folder / "metadata" / "codes.parquet"
    )
    return folder


@pytest.mark.parametrize("below", ["", "data", "data/train/0.parquet"])
def test_static_rows_of_meds_are_left_out_with_a_word(below: str, tmp_path: Path) -> None:
    source = open_events(meds(tmp_path, ["subject_id", "time", "code", "numeric_value"]) / below)
    assert source.rows("SELECT count(*) FROM events") == [(len(EVENTS),)]
    assert source.notes == ("2 rows without a time left out: the static facts of MEDS",)
    check_events(source, infer_schema(source))


def test_rows_without_a_time_are_refused_where_the_columns_are_not_those_of_meds(
    tmp_path: Path,
) -> None:
    source = open_events(meds(tmp_path, ["subject_id", "time", "kind", "amount"]) / "data")
    with pytest.raises(InputError, match=r"2 events .* have no time"):
        check_events(source, infer_schema(source))


def test_static_rows_of_meds_are_facts(tmp_path: Path) -> None:
    time = pa.timestamp("us")
    rows: list[tuple[int, str, float | None]] = [
        (1, "GENDER//F", None), (2, "GENDER//M", None), (2, "RACE//B//C", None),
        (2, "RACE//A", None), (1, "HEIGHT", 170.0), (1, "HEIGHT", 172.0), (3, "SMOKER", None),
    ]  # fmt: skip
    ids, codes, numbers = zip(*rows, strict=True)
    static = pa.table(
        {"subject_id": ids, "time": pa.nulls(len(rows), time), "code": codes,
         "numeric_value": numbers}
    )  # fmt: skip
    visits = pa.table(
        {"subject_id": [1], "time": pa.array([0], time), "code": ["X"], "numeric_value": [1.0]}
    )
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "dataset.json").write_text("{}")
    whole = pa.concat_tables([static, visits])
    pq.write_table(whole, tmp_path / "data" / "train" / "0.parquet")
    expected = {
        "GENDER": ["F", "M", None],
        "HEIGHT": [171.0, None, None],
        "RACE": [None, "A, B//C", None],
        "SMOKER": [None, None, "true"],
    }
    for table in (str(tmp_path), whole, whole.to_pandas()):
        found = read_facts(table)
        assert found.index.tolist() == [1, 2, 3]
        assert found["HEIGHT"].dtype == np.float64
        assert found.astype(object).where(found.notna(), None).to_dict("list") == expected
    with pytest.raises(InputError, match="MEDS data set without static facts"):
        read_facts(visits)


def test_labels_of_meds_have_their_time_in_prediction_time() -> None:
    schema = EventSchema(client="subject_id", time="time")
    rows = pd.DataFrame({"subject_id": [1], "prediction_time": [pd.Timestamp("2024-01-01")]})
    found = read_moments(rows, schema)
    assert found.table.column_names == ["subject_id", "time"]
    assert found.time_us.tolist() == [pd.Timestamp("2024-01-01").value // 1000]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_folder_of_two_tables_names_the_files(ending: str, tmp_path: Path) -> None:
    for name, table in (
        ("a", EVENTS),
        ("b", EVENTS.rename_columns({"event_time": "date", "amount": "price"})),
    ):
        pq.write_table(
            table, tmp_path / f"{name}.parquet"
        ) if ending == "parquet" else table.to_pandas().to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    source = open_events(tmp_path)
    a, b = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    with pytest.raises(
        SchemaError, match=f"{a} alone has amount, event_time and {b} alone has date, price"
    ):
        infer_schema(source)
    schema = infer_schema(open_events(a))
    with pytest.raises(
        InputError, match=f"{b} has no column 'event_time', which other files of {tmp_path} have"
    ):
        check_events(source, schema)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_copy_of_a_file_in_a_folder_is_said_and_parts_without_rows_are_not(
    ending: str, tmp_path: Path
) -> None:
    def write(table: pa.Table, name: str) -> None:
        path = tmp_path / f"{name}.{ending}"
        pq.write_table(table, path) if ending == "parquet" else pa.csv.write_csv(table, path)

    half = len(EVENTS) // 2
    for name, table in {"a": EVENTS[:half], "b": EVENTS[half:], "c": EVENTS[:0]}.items():
        write(table, name)
    write(EVENTS[:0], "d")
    assert open_events(tmp_path).row("SELECT count(*) FROM events") == (len(EVENTS),)
    write(EVENTS[:half], "e")
    with pytest.warns(EventsWarning, match=rf"e\.{ending} is a copy of .*a\.{ending}, to the byte"):
        found = open_events(tmp_path)
    assert found.row("SELECT count(*) FROM events") == (len(EVENTS) + half,)
