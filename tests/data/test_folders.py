"""Special folders are recognised, and files of two tables are not combined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import card_events

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.kinds.registry import check_events
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import event_files, open_events
from seqmel.data.tables.facts import read_facts
from seqmel.inference.as_of import read_moments

EVENTS = card_events(6)


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("_delta_log/0000.json", "Delta"),
        ("metadata/v1.metadata.json", "Iceberg"),
        (".hoodie/hoodie.properties", "Hudi"),
    ],
)
@pytest.mark.parametrize(
    "asked", ["", "*.parquet", "day=1"], ids=["folder", "glob", "one partition"]
)
def test_the_files_of_a_table_that_keeps_a_list_of_them_are_refused(
    log: str, kind: str, asked: str, tmp_path: Path
) -> None:
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
    assert source.notes == ("2 rows without a time are left out: the static facts of MEDS",)
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
