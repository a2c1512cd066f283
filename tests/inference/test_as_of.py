"""As-of embeddings hold what was known before the time, in the order of the requested rows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from small import SCHEMA, batches, card_events, fitted, tiny_config
from typer.testing import CliRunner

from seqmel.core.errors import InputError, OutputError, SchemaError
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.prepared import write_prepared
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed, embed_to_parquet
from seqmel.model import Model, save_model
from seqmel.nn.encoder import SequenceEncoder

EVENTS = card_events(12)
VOCABULARY = fitted(EVENTS, SCHEMA, min_count=2)
CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module", params=["gru", "transformer", "none"])
def model(request: pytest.FixtureRequest) -> Model:
    encoder = {"name": request.param} | ({"hidden_size": 16} if request.param != "none" else {})
    config = tiny_config(encoder=encoder, pooling=["last", "mean", "max", "std"])
    torch.manual_seed(0)
    return Model(config, SCHEMA, VOCABULARY, SequenceEncoder(config, VOCABULARY).eval(), {})


def some_moments(rows: int = 40) -> pa.Table:
    """Return clients and times of random events in random order; one client has no events."""
    random = np.random.default_rng(1)
    table = EVENTS.select(["client_id", "event_time"]).take(random.integers(0, len(EVENTS), rows))
    stranger = pa.table(
        {"client_id": pa.array([5], pa.int32()), "event_time": table["event_time"][:1]}
    )
    return pa.concat_tables([table, stranger])


def vectors(table: pa.Table) -> np.ndarray[Any, Any]:
    return np.stack(
        [table[n].to_numpy() for n in table.column_names if n.startswith("emb_")], axis=1
    )


@pytest.mark.parametrize(
    "moment",
    [
        pd.Timestamp("1970-06-01"),
        pd.Timestamp("1970-06-01 03:00", tz="Europe/Moscow"),
        dt.datetime(1970, 6, 1),
        dt.date(1970, 6, 1),
        np.datetime64("1970-06-01"),
        np.datetime64("1970-06-01", "ns"),
    ],
    ids=str,
)
def test_a_moment_of_any_type_is_the_moment_that_its_text_says(
    model: Model, moment: Any, tmp_path: Path
) -> None:
    embed_as_of(model, EVENTS, "1970-06-01", tmp_path / "text.parquet")
    embed_as_of(model, EVENTS, moment, tmp_path / "typed.parquet")
    assert pq.read_table(tmp_path / "typed.parquet").equals(
        pq.read_table(tmp_path / "text.parquet")
    )


def test_ids_that_are_text_find_those_that_are_numbers(model: Model, tmp_path: Path) -> None:
    rows = some_moments()
    embed_as_of(model, EVENTS, rows, tmp_path / "numbers.parquet")
    text = rows.set_column(0, "client_id", rows["client_id"].cast(pa.string()))
    embed_as_of(model, EVENTS, text, tmp_path / "text.parquet")
    found, expected = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("text", "numbers"))
    np.testing.assert_array_equal(vectors(found), vectors(expected))
    assert found["client_id"].type == pa.string()


def ago(moment: Any, before: list[Any]) -> list[float]:
    """The last two numbers of a vector: first and last event, in days before the moment."""
    if not before:
        return [0.0, 0.0]
    days = [(moment - when) / dt.timedelta(days=1) for when in (min(before), max(before))]
    return [float(np.sign(d) * np.log1p(abs(d))) for d in days]


def alone(model: Model, client: int, moment: Any) -> np.ndarray[Any, Any]:
    """Return the plain embedding of a table with only the client's events before the time."""
    mine = EVENTS.filter(
        pc.and_(pc.equal(EVENTS["client_id"], client), pc.less(EVENTS["event_time"], moment))
    )
    if not len(mine):
        return np.asarray(vectors_of_nothing(model))
    ((_, found),) = embed(model, mine, device="cpu")
    return np.asarray([*found.numpy()[0][:-2], *ago(moment, mine["event_time"].to_pylist())])


def vectors_of_nothing(model: Model) -> Any:
    nothing = {"event_time": pa.array([[]], pa.list_(pa.timestamp("us")))}
    nothing |= {
        "mcc": pa.array([[]], pa.list_(pa.int64())),
        "city": pa.array([[]], pa.list_(pa.string())),
    }
    nothing |= {n: pa.array([[]], pa.list_(pa.float64())) for n in ("amount", "reading")}
    ((_, found),) = embed(model, pa.table({"client_id": [1]} | nothing), device="cpu")
    return found.numpy()[0]


def test_each_row_is_the_embedding_of_the_events_before_its_moment(
    model: Model, tmp_path: Path
) -> None:
    asked = some_moments()
    rows, size = embed_as_of(model, EVENTS, asked, tmp_path / "out.parquet", device="cpu")
    found = pq.read_table(tmp_path / "out.parquet")
    assert (rows, size) == (41, model.encoder.output_size)
    assert found["client_id"].to_pylist() == asked["client_id"].to_pylist()
    assert found["event_time"].to_pylist() == asked["event_time"].to_pylist()
    for row, vector in zip(asked.to_pylist(), vectors(found), strict=True):
        np.testing.assert_allclose(
            vector, alone(model, row["client_id"], row["event_time"]), **CLOSE
        )


def test_what_happens_later_changes_nothing(model: Model, tmp_path: Path) -> None:
    asked = some_moments(5)
    latest = max(asked["event_time"].to_pylist())
    past = EVENTS.filter(pc.less(EVENTS["event_time"], pa.scalar(latest)))
    for name, events in (("all", EVENTS), ("past", past)):
        embed_as_of(model, events, asked, tmp_path / f"{name}.parquet", device="cpu")
    every, known = (vectors(pq.read_table(tmp_path / f"{n}.parquet")) for n in ("all", "past"))
    np.testing.assert_allclose(every, known, **CLOSE)


def test_prepared_sequences_and_a_small_budget_give_the_same(model: Model, tmp_path: Path) -> None:
    asked = some_moments()
    write_prepared(
        tmp_path / "p", batches(EVENTS, SCHEMA, VOCABULARY), schema=SCHEMA, vocabulary=VOCABULARY
    )
    embed_as_of(model, EVENTS, asked, tmp_path / "a.parquet", device="cpu")
    embed_as_of(model, tmp_path / "p", asked, tmp_path / "b.parquet", device="cpu", layout="list")
    listed = np.array(pq.read_table(tmp_path / "b.parquet")["embedding"].to_pylist())
    np.testing.assert_allclose(listed, vectors(pq.read_table(tmp_path / "a.parquet")), **CLOSE)


def test_after_the_last_event_it_is_the_plain_embedding(model: Model, tmp_path: Path) -> None:
    embed_to_parquet(model, EVENTS, tmp_path / "plain.parquet", device="cpu")
    embed_as_of(model, EVENTS, "2031-01-01", tmp_path / "late.parquet", device="cpu")
    plain, late = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("plain", "late"))
    assert late["client_id"].to_pylist() == plain["client_id"].to_pylist()
    assert set(late["event_time"].to_pylist()) == {dt.datetime(2031, 1, 1)}
    np.testing.assert_allclose(vectors(late)[:, :-2], vectors(plain)[:, :-2], **CLOSE)


def test_an_event_at_the_moment_is_not_before_it() -> None:
    offsets = pa.array([0, 3, 3, 5], pa.int32())
    lists = {"t": pa.ListArray.from_arrays(offsets, pa.array([1, 5, 5, 2, 9]))}
    held = EncodedSequences.from_batches(
        [pa.RecordBatch.from_pydict({"c": [7, 8, 9], **lists})], time="t"
    )
    clients = torch.tensor([0, 0, 0, 2, 1, 2, 0])
    assert held.events_before(clients, torch.tensor([5, 6, 1, 10, 3, 9, 0])).tolist() == [
        1,
        3,
        0,
        2,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("moments", "error", "words"),
    [
        (
            pa.table({"client_id": [1], "when": [dt.datetime(2020, 1, 1)]}),
            SchemaError,
            "No column 'event_time' in the given Table. It has: client_id, when. Each row",
        ),
        (
            pa.table({"client_id": [1, 2], "event_time": [dt.datetime(2020, 1, 1), None]}),
            InputError,
            "1 row of the given Table has no time",
        ),
        (
            pa.table({"client_id": [-1], "event_time": [dt.datetime(2020, 1, 1)]}),
            InputError,
            "No client of",
        ),
        (pa.table({"client_id": [1], "event_time": ["soon"]}), InputError, "'soon'"),
        (
            "2020-13-45",
            InputError,
            "'2020-13-45' is neither a moment nor an existing file. Write one such as 2024-01-31",
        ),
    ],
    ids=["column", "null", "strangers", "text", "no date"],
)
def test_moments_that_cannot_be_used_are_refused_and_leave_nothing(
    moments: Any, error: type[Exception], words: str, model: Model, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        embed_as_of(model, EVENTS, moments, tmp_path / "out.parquet", device="cpu")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_kept(model: Model, tmp_path: Path) -> None:
    (tmp_path / "out.parquet").write_text("mine")
    with pytest.raises(OutputError):
        embed_as_of(model, EVENTS, some_moments(), tmp_path / "out.parquet", device="cpu")
    assert (tmp_path / "out.parquet").read_text() == "mine"


def test_the_command_takes_a_table_and_a_date(model: Model, tmp_path: Path) -> None:
    from seqmel.cli.main import app

    save_model(tmp_path / "model", model, card="", curves=None)
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    pq.write_table(some_moments(), tmp_path / "moments.parquet")
    for name, as_of, rows in (("a", tmp_path / "moments.parquet", 41), ("b", "2023-06-01", 12)):
        words = [
            "embed",
            tmp_path / "model",
            tmp_path / "events.parquet",
            "-o",
            tmp_path / name,
            "--as-of",
            as_of,
        ]
        done = CliRunner().invoke(app, [str(w) for w in words])
        assert done.exit_code == 0, done.output
        assert len(pq.read_table(tmp_path / name)) == rows
        assert f"{rows:,} clients and moments" in done.output
