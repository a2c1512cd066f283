"""Spark equals the embedded engine: vocabulary, sequences, embeddings and errors."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from small import card_events, nested, tiny_config

from seqmel.config import Config
from seqmel.core.errors import ConfigError, InputError, SeqmelError
from seqmel.data.sequences.prepared import PreparedSequences, open_prepared
from seqmel.inference.embed import embed_to_parquet
from seqmel.model import Model
from seqmel.training.run import prepare

pytest.importorskip("pyspark", reason="pyspark is not installed")
if shutil.which("java") is None:
    pytest.skip("Java is not installed", allow_module_level=True)

from seqmel import embed_spark, embed_spark_to_parquet, prepare_spark
from seqmel.inference.spark import source

pytestmark = pytest.mark.filterwarnings(
    "ignore:PySpark does not yet fully support pandas:FutureWarning"
)

REAL = Path(__file__).parents[2] / "shared" / "data" / "online_retail" / "events.parquet"
CONFIG = tiny_config(schema={"numeric_by": {"reading": "mcc"}})


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    """One small session for the module."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # not whatever python3 is in the path
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = (
        builder.config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def events_with_ties() -> pa.Table:
    """`card_events`, with several events at the same moment, whose order is that of the rows."""
    events = card_events(30, seed=4)
    day = pa.compute.floor_temporal(events.column("event_time"), unit="week")
    return events.set_column(1, "event_time", day)


def contents(prepared: PreparedSequences) -> dict[str, Any]:
    """All that a folder of sequences holds, as plain values; NaN as a number equal to itself."""
    sequences = prepared.sequences
    whole = sequences.gather(*_all(sequences))
    columns = {
        name: np.nan_to_num(values.numpy(), nan=99.0).tolist()
        for name, values in whole.columns.items()
    }
    return {
        "ids": sequences.client_ids.to_pylist(),
        "type": str(sequences.client_ids.type),
        "schema": prepared.schema,
        "vocabulary": prepared.vocabulary,
        "time": whole.time.tolist(),
        "lengths": sequences.lengths.tolist(),
        **columns,
    }


def _all(sequences: Any) -> tuple[Any, Any, Any]:
    import torch

    clients = torch.arange(len(sequences))
    return clients, torch.zeros_like(clients), sequences.lengths


def assert_same(
    events: Any,
    spark_events: Any,
    tmp_path: Path,
    *,
    config: Config = CONFIG,
    model: Model | None = None,
) -> None:
    ours = prepare(events, tmp_path / "embedded", config=config, model=model)
    theirs = prepare_spark(spark_events, tmp_path / "spark", config=config, model=model)
    assert contents(ours) == contents(theirs)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of some rows, so that a client's events lie in several."""
    monkeypatch.setattr(source, "PART_ROWS", 150)


def test_files_in_many_parts_give_the_same_sequences(tmp_path: Path, small_parts: None) -> None:
    events, folder = events_with_ties(), tmp_path / "events"
    folder.mkdir()
    pq.write_table(events.slice(0, 150), folder / "b.parquet", row_group_size=40)
    pq.write_table(events.slice(150).drop_columns("city"), folder / "c.parquet", row_group_size=40)
    assert_same(folder, folder, tmp_path)


def test_csv_gives_the_same_sequences(tmp_path: Path) -> None:
    pa.csv.write_csv(card_events(12), tmp_path / "events.csv")
    assert_same(tmp_path / "events.csv", tmp_path / "events.csv", tmp_path)


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M"])
def test_csv_with_times_as_text_gives_the_same_sequences(form: str, tmp_path: Path) -> None:
    events = card_events(12)
    texts = pa.array(events["event_time"].to_pandas().dt.strftime(form), pa.string())
    (tmp_path / "events").mkdir()
    for name, part in (("a.csv", slice(0, 60)), ("b.csv", slice(60, None))):
        rows = list(range(len(events)))[part]
        pa.csv.write_csv(
            events.set_column(1, "event_time", texts).take(rows), tmp_path / "events" / name
        )
    assert_same(tmp_path / "events", tmp_path / "events", tmp_path)
    found = open_prepared(tmp_path / "spark").schema
    assert (found.time_format, found.left_out) == (form if "." in form else None, {})


def test_list_columns_give_the_same_sequences_and_clients_without_events_stay(
    tmp_path: Path,
) -> None:
    table = nested(card_events(12), "client_id")
    empty = pa.table(
        {
            name: pa.array([9999] if name == "client_id" else [[]], table.field(name).type)
            for name in table.column_names
        }
    )
    pq.write_table(
        pa.concat_tables([table.slice(0, 5), empty, table.slice(5)]), tmp_path / "events.parquet"
    )
    assert_same(tmp_path / "events.parquet", tmp_path / "events.parquet", tmp_path)


def test_a_dataframe_gives_the_same_sequences(tmp_path: Path, spark: Any) -> None:
    events = card_events(20)
    ours = contents(prepare(events, tmp_path / "embedded", config=CONFIG))
    frame = spark.createDataFrame(events)
    theirs = contents(prepare_spark(frame, tmp_path / "spark", config=CONFIG))
    # a DataFrame of Spark does not say whether its times stated a zone
    ours["schema"] = ours["schema"].model_copy(update={"stated_zone": None})
    assert ours == theirs


def test_ids_keep_their_type_also_where_spark_has_none(tmp_path: Path, model: Model) -> None:
    events = card_events(6)
    events = events.set_column(0, "client_id", events.column("client_id").cast(pa.uint64()))
    pq.write_table(events, tmp_path / "events.parquet")
    embed_to_parquet(model, tmp_path / "events.parquet", tmp_path / "embedded.parquet")
    embed_spark_to_parquet(model, tmp_path / "events.parquet", tmp_path / "spark.parquet")
    ours, theirs = (
        pq.read_table(tmp_path / "embedded.parquet"),
        pq.read_table(tmp_path / "spark.parquet"),
    )
    assert theirs.schema == ours.schema
    assert theirs.column(0).to_pylist() == ours.column(0).to_pylist()


def test_embeddings_are_the_same(
    tmp_path: Path, model: Model, spark: Any, small_parts: None
) -> None:
    events = card_events(40, seed=2)
    pq.write_table(events, tmp_path / "events.parquet")
    embed_to_parquet(model, tmp_path / "events.parquet", tmp_path / "embedded.parquet")
    counts = embed_spark_to_parquet(model, tmp_path / "events.parquet", tmp_path / "spark.parquet")
    ours, theirs = (
        pq.read_table(tmp_path / f"{engine}.parquet") for engine in ("embedded", "spark")
    )
    assert theirs.schema == ours.schema
    assert counts == (ours.num_rows, ours.num_columns - 1)
    assert theirs.column(0).to_pylist() == ours.column(0).to_pylist()
    np.testing.assert_allclose(theirs.to_pandas(), ours.to_pandas(), atol=1e-5)
    frame = (
        embed_spark(model, spark.createDataFrame(events))
        .toArrow()
        .to_pandas()
        .set_index("client_id")
    )
    np.testing.assert_allclose(
        frame.loc[ours.column(0).to_pylist()], ours.to_pandas().iloc[:, 1:], atol=1e-5
    )


def test_a_models_vocabulary_is_used_as_it_is(tmp_path: Path, model: Model) -> None:
    pq.write_table(card_events(8, seed=9), tmp_path / "events.parquet")
    assert_same(tmp_path / "events.parquet", tmp_path / "events.parquet", tmp_path, model=model)


@pytest.mark.parametrize(
    "fault", ["null client", "null time", "no such time", "only nulls", "twice", "uneven"]
)
def test_bad_input_is_the_same_line(fault: str, tmp_path: Path) -> None:
    events = card_events(5)
    if fault in ("twice", "uneven"):
        lists = nested(events, "client_id")
        rows = lists.to_pylist()
        rows[1] |= {"client_id": rows[0]["client_id"]} if fault == "twice" else {"mcc": [1]}
        events = pa.Table.from_pylist(rows, lists.schema)
    elif fault == "only nulls":
        events = events.set_column(3, "city", pa.nulls(len(events), pa.string()))
    else:
        place = 0 if fault == "null client" else 1
        values = events.column(place).cast(pa.string()).to_pylist()
        values[3] = "soon" if fault == "no such time" else None
        events = events.set_column(place, events.column_names[place], pa.array(values))
    path, config = (
        tmp_path / "events.parquet",
        tiny_config(schema={"categorical": ["city"], "time": "event_time"}),
    )
    pq.write_table(events, path)
    lines = []
    for engine in (prepare, prepare_spark):
        with pytest.raises(SeqmelError) as raised:
            engine(path, tmp_path / "out", config=config)
        lines.append(f"{type(raised.value).__name__}: {raised.value}")
    assert lines[0] == lines[1]
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_damaged_part_is_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(card_events(30), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[60:600] = b"\xff" * 540
    path.write_bytes(content)
    config = tiny_config(
        schema={"categorical": ["city"], "numeric": [], "time": "event_time", "client": "client_id"}
    )
    with pytest.raises(SeqmelError, match=r"Cannot read .*events\.parquet") as raised:
        prepare_spark(path, tmp_path / "out", config=config)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_command_line_knows_the_engine(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from seqmel.cli.main import app

    pq.write_table(card_events(8), tmp_path / "events.parquet")
    command = ["prepare", str(tmp_path / "events.parquet"), "--engine"]
    result = CliRunner().invoke(app, [*command, "spark", "-o", str(tmp_path / "spark")])
    assert result.exit_code == 0
    assert prepare(tmp_path / "events.parquet", tmp_path / "embedded").vocabulary.fingerprint() in {
        open_prepared(tmp_path / "spark").vocabulary.fingerprint()
    }
    with pytest.raises(ConfigError, match="duckdb, spark"):
        CliRunner().invoke(
            app, [*command, "sparkle", "-o", str(tmp_path / "x")], catch_exceptions=False
        )


@pytest.mark.skipif(not REAL.exists(), reason="the data set online_retail is not here")
def test_on_real_events_the_vocabulary_and_sequences_are_the_same(tmp_path: Path) -> None:
    events = pq.read_table(REAL).slice(0, 60_000)
    pq.write_table(events, tmp_path / "events.parquet", row_group_size=10_000)
    assert_same(tmp_path / "events.parquet", tmp_path / "events.parquet", tmp_path, config=Config())


def test_what_a_worker_lacks_is_in_the_line() -> None:
    from pyspark.errors import PythonException

    from seqmel.inference.spark.session import spark_errors

    trace = (
        "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named "
        "'seqmel'\n"
    )
    with pytest.raises(InputError) as caught, spark_errors("x"):
        raise PythonException("An exception was thrown from the Python worker:\n" + trace)
    assert str(caught.value).endswith(
        "from the Python worker: ModuleNotFoundError: No module named 'seqmel'"
    )
