"""Column names of users never collide with internal ones: the sequences stay the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from small import nested, tiny_config

from seqmel.core.errors import SchemaError
from seqmel.data.encoding.event_encoding import encode
from seqmel.data.fitting.description import describe_source
from seqmel.data.fitting.vocabulary_fitting import fit_vocabulary
from seqmel.data.schema import EventSchema
from seqmel.data.sources.reading import open_events
from seqmel.data.tables.vector_files import VectorLayout
from seqmel.evaluation.aggregates import AggregatePlan
from seqmel.inference.update import update_embeddings
from seqmel.training.run import train

NAMES = (
    "t",
    "x",
    "x0",
    "c0",
    "v",
    "a",
    "b",
    "c",
    "r",
    "n",
    "k",
    "key",
    "code",
    "client",
    "first",
    "place",
    "value",
    "text",
    "seen",
    "gap",
    "counted",
    "rowid",
    "file_row_number",
    "file_index",
    "filename",
    "events",
    "raw",
    "nested",
    "texts",
    "sample",
    "clients",
    "codes_0",
    "scales_0",
    "client_index",
    "time",
    "made",
    "select",
    "embedding",
    'a "b", c',
    "keyed",
)
"""What SQL, DuckDB, Arrow or seqmel call something by."""


def some_events() -> pa.Table:
    """Many events at one moment, so that their order in the file counts."""
    random = np.random.default_rng(0)
    n = 120
    return pa.table(
        {
            "who": random.integers(0, 9, n) + 10,
            "when": pa.array(np.datetime64("2024-01-01") + random.integers(0, 5, n)).cast(
                pa.timestamp("us")
            ),
            "what": pa.array([f"m{i}" for i in random.integers(0, 4, n)]),
            "much": np.exp(random.normal(0, 2, n)).round(3),
            "other": np.arange(n)[::-1],
        }
    )


def sequences(given: Any, renamed: dict[str, str], *, by_row: bool) -> list[list[Any]]:
    """Return the encoded sequences by column; `by_row` forces the path through DuckDB."""
    name = {column: renamed.get(column, column) for column in ("who", "when", "what", "much")}
    schema = EventSchema(
        client=name["who"], time=name["when"], categorical=(name["what"],), numeric=(name["much"],),
        numeric_by={name["much"]: name["what"]},
    )  # fmt: skip
    source = open_events(given, client=schema.client)
    source = replace(source, whole=None) if by_row else source
    vocabulary = fit_vocabulary(source, schema, min_count=1)
    table = pa.Table.from_batches(encode(source, schema, vocabulary))
    described = describe_source(source, schema)
    aggregates = AggregatePlan.fit(source, schema).compute(source)
    columns = [str(table.column(i).to_pylist()) for i in range(table.num_columns)]
    return [
        *columns,
        [described["events"], described["from_us"], described["gap_seconds"]],
        aggregates.round(4).to_numpy().tolist(),
    ]


ROLES = ("who", "when", "what", "much", "other")
KINDS = ("parquet", "parquet by row", "csv", "frame", "nested")


def given(renamed: dict[str, str], kind: str, folder: Path) -> Any:
    """The events under other names, as a file or a table."""
    table = some_events().rename_columns(renamed)
    if kind == "nested":
        return nested(table, renamed.get("who", "who"))
    if kind == "frame":
        return table
    path = folder / ("events.csv" if kind == "csv" else "events.parquet")
    pyarrow.csv.write_csv(table, path) if kind == "csv" else pq.write_table(table, path)
    return path


@pytest.mark.parametrize("turn", range(5))
def test_no_name_of_a_column_changes_a_sequence(turn: int, tmp_path: Path) -> None:
    """Each name stands for each of the roles once, each time in events of another kind."""
    kind = KINDS[turn]
    by_row = kind in ("parquet by row", "nested")
    expected = str(sequences(given({}, kind, tmp_path), {}, by_row=by_row))
    for names in zip(*(NAMES[i::5] for i in range(5)), strict=True):
        renamed = dict(zip((*ROLES[turn:], *ROLES[:turn]), names, strict=True))
        assert str(sequences(given(renamed, kind, tmp_path), renamed, by_row=by_row)) == expected, (
            renamed
        )


def test_a_column_of_the_file_counts_where_a_folder_has_the_same_key(tmp_path: Path) -> None:
    for i, day in enumerate(("1", "2")):
        folder = tmp_path / "events" / f"what={day}"
        folder.mkdir(parents=True)
        pq.write_table(some_events().slice(60 * i, 60), folder / "part.parquet")
    source = open_events(tmp_path / "events", client="who")
    assert source.left_out == {}
    assert source.rows("SELECT what FROM events ORDER BY __row") == [
        (x,) for x in some_events()["what"].to_pylist()
    ]


def test_folders_that_repeat_some_columns_of_the_file_and_add_others_are_refused(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "events" / "what=1" / "region=north"
    folder.mkdir(parents=True)
    pq.write_table(some_events(), folder / "part.parquet")
    with pytest.raises(
        SchemaError,
        match="have the keys what, which are columns of the files too, and region, which are not",
    ):
        open_events(tmp_path / "events")


def test_a_client_column_named_like_a_number_of_the_vector_is_refused_and_keeps_its_ids() -> None:
    keys = pa.table({"emb_0001": [1, 2]})
    with pytest.raises(
        SchemaError, match="'emb_0001' of the events has the name of a column of the vectors"
    ):
        VectorLayout().table(keys, np.zeros((2, 3), np.float32))
    assert VectorLayout(layout="list").table(keys, np.zeros((2, 3), np.float32))[
        "emb_0001"
    ].to_pylist() == [1, 2]


@pytest.mark.parametrize("name", ["events", "first_time", "state_h"])
def test_a_state_keeps_clients_of_a_column_named_like_its_own(name: str, tmp_path: Path) -> None:
    events = some_events().drop_columns("other").rename_columns({"who": name})
    schema = {"client": name, "time": "when"}
    train(events, tmp_path / "model", config=tiny_config(schema=schema))
    first = events.filter(pa.compute.less(events["when"], pa.scalar(pd.Timestamp("2024-01-03"))))
    later = events.filter(
        pa.compute.greater_equal(events["when"], pa.scalar(pd.Timestamp("2024-01-03")))
    )
    update_embeddings(tmp_path / "model", first, tmp_path / "state", tmp_path / "a.parquet")
    done = update_embeddings(tmp_path / "model", later, tmp_path / "state", tmp_path / "b.parquet")
    assert (done.new, done.known) == (0, 9)
