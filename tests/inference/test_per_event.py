"""The row of an event is what was known of its client right after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import InProcess
from small import TINY, card_events

import seqmel
from seqmel.config.options.network import DEFAULT_POOLING
from seqmel.core.errors import ConfigError, InputError, ModelError
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.inference import per_event as home
from seqmel.inference.histories import BLOCK
from seqmel.inference.per_event import EVENT
from seqmel.nn.encoder import SequenceEncoder

EVENTS = card_events(8, most=9)
FRAME = EVENTS.to_pandas().sort_values(["client_id", "event_time"])


@pytest.fixture(scope="module")
def held(model_folder: Path) -> seqmel.Model:
    return seqmel.load(model_folder)


def moments_after(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["client_id", "event_time"]].assign(
        event_time=rows["event_time"] + pd.Timedelta("1us")
    )


def right_after(model: seqmel.Model, rows: pd.DataFrame, events: Any = EVENTS) -> pd.DataFrame:
    return model.embed(events, as_of=moments_after(rows))


@pytest.mark.parametrize("rows_at_a_time", [16_384, 5])
def test_each_event_has_the_vector_of_the_moment_right_after_it(
    held: seqmel.Model, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "CHUNK_CLIENTS", rows_at_a_time)
    found = held.embed(EVENTS, per="event")
    assert found.index.names == ["client_id", "event_time", EVENT]
    assert len(found) == len(EVENTS)
    keys = found.index.to_frame(index=False)
    np.testing.assert_allclose(found, right_after(held, keys), rtol=1e-5, atol=1e-5)
    numbers = keys.sort_values("event_time").groupby("client_id")[EVENT]
    assert all(n.tolist() == [*range(1, len(n) + 1)] for _, n in numbers)
    first_seen = pd.unique(EVENTS["client_id"].to_pandas())
    assert pd.unique(keys["client_id"]).tolist() == first_seen.tolist()


LONG = card_events(8, most=260)


@pytest.mark.parametrize("encoder", ["none", {"name": "gru", "hidden_size": 8}])
@pytest.mark.parametrize("several", [False, True])
def test_long_histories_have_the_vectors_of_their_own_events(encoder: Any, several: bool) -> None:
    frame = LONG.to_pandas()
    first = np.arange(len(frame)) % 3 > 0
    events: Any = {"cards": frame[first], "clicks": frame[~first]} if several else LONG
    config = TINY | {"encoder": encoder, "pooling": DEFAULT_POOLING}
    model = seqmel.train(events, config=config, progress=False)
    found = model.embed(events, per="event", progress=False)
    rows = found.index.to_frame(index=False)
    assert rows[EVENT].max() > 3 * BLOCK
    np.testing.assert_allclose(found, right_after(model, rows, events), rtol=1e-4, atol=1e-4)
    last = model.embed(events, per="event", only="last:3", progress=False)
    pd.testing.assert_frame_equal(last, found.loc[last.index], check_exact=True)


def test_each_moment_reads_at_most_a_block_of_events(
    held: seqmel.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    advance = SequenceEncoder.advance

    def counted(self: SequenceEncoder, batch: SequenceBatch, state: Any = None) -> Any:
        read.append(batch.events)
        return advance(self, batch, state)

    monkeypatch.setattr(SequenceEncoder, "advance", counted)
    held.embed(LONG, per="event", progress=False)
    assert 0 < sum(read) <= len(LONG) * (BLOCK / 2 + 2)


def test_only_the_last_events_of_each_client_are_asked_for(held: seqmel.Model) -> None:
    whole, last = held.embed(EVENTS, per="event"), held.embed(EVENTS, per="event", only="last:2")
    expected = whole.groupby(level=0, sort=False).tail(2)
    pd.testing.assert_frame_equal(last, expected, atol=1e-5)


def test_events_at_the_same_time_are_one_moment(held: seqmel.Model) -> None:
    days = EVENTS.to_pandas().assign(event_time=lambda x: x["event_time"].dt.floor("100D"))
    found = held.embed(days, per="event")
    assert found.index.droplevel(2).duplicated().any()
    for _, rows in found.groupby(level=[0, 1]):
        assert (rows == rows.iloc[0]).all().all()
    keys = found.index.to_frame(index=False)
    np.testing.assert_allclose(found, right_after(held, keys, days), rtol=1e-5, atol=1e-5)


def test_numeric_times_stay_numbers() -> None:
    events = FRAME.assign(event_time=np.arange(len(FRAME)) // 3)
    options: dict[str, Any] = {"event_encoder": {"hidden_size": 8}, "encoder": "none"}
    model = seqmel.train(events, schema={"time_unit": "day"}, epochs=1, batch_size=4, **options)
    found = model.embed(events, per="event").index.to_frame(index=False)
    assert found["event_time"].tolist() == events["event_time"].tolist()


def test_predictions_are_those_of_the_moment_right_after_each_event(
    held: seqmel.Model, tmp_path: Path
) -> None:
    labels = pd.DataFrame({"client_id": FRAME["client_id"].unique()})
    labels["habit"] = [f"h{i % 2}" for i in range(8)]
    tuned = held.finetune(EVENTS, labels, target="habit", epochs=1)
    found = tuned.predict(EVENTS, per="event")
    expected = tuned.predict(EVENTS, as_of=moments_after(found.index.to_frame(index=False)))
    np.testing.assert_allclose(found["habit=h0"], expected["habit=h0"], atol=1e-6)
    assert found["habit=h0"].std() > 1e-4  # else all rows were alike
    assert tuned.predict(EVENTS, tmp_path / "scores.parquet", per="event").rows == len(EVENTS)
    scores = pq.read_table(tmp_path / "scores.parquet").to_pandas()
    pd.testing.assert_frame_equal(scores.set_index(["client_id", "event_time", EVENT]), found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"per": "row"}, "per cannot be 'row'. Expected one of: client, event"),
        ({"only": "last:3"}, "only chooses events. It needs per event"),
        ({"per": "event", "only": "first:3"}, "only cannot be 'first:3'. Expected last:N"),
        ({"per": "event", "only": "last:0"}, "only cannot be 'last:0'"),
        ({"per": "event", "as_of": "2023-01-01"}, "per event cannot be combined with as_of"),
        ({"per": "event", "state": "s"}, "per event cannot be combined with state"),
        ({"per": "event", "engine": "spark"}, "per event cannot be combined with engine spark"),
    ],
)
def test_what_does_not_go_together_is_said(
    held: seqmel.Model, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as said:
        held.embed(EVENTS, **options)
    assert words in str(said.value)


def test_a_model_without_heads_and_events_without_rows_are_refused(held: seqmel.Model) -> None:
    with pytest.raises(ModelError, match="trained without labels"):
        held.predict(EVENTS, per="event")
    assert len(held.embed(EVENTS.slice(0, 0), per="event")) == 0
    with pytest.raises(InputError):
        held.embed("nowhere.parquet", per="event")


def test_the_command_writes_small_vectors_too(
    held: seqmel.Model, in_process: InProcess, model_folder: Path, tmp_path: Path
) -> None:
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    done = in_process.seqmel(
        "embed", model_folder, tmp_path / "events.parquet", "-o", tmp_path / "v.parquet",
        "--per", "event", "--only", "last:3", "--dtype", "int8",
    )  # fmt: skip
    table = pq.read_table(tmp_path / "v.parquet")
    assert f"{len(table)} events x {held.encoder.output_size} numbers" in done.stdout
    assert table.column_names[:4] == ["client_id", "event_time", EVENT, "emb_0000"]
    assert table.schema.field("emb_0000").type == pa.int8()
