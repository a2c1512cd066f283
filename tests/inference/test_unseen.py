"""A column of which the model knows no value is said, also from Python."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from in_process import InProcess
from small import SCHEMA, batches, card_events, fitted, tiny_config

from seqmel.core.progress import EventsWarning
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.sequences.repeated_events import RepeatedEvents
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed, embed_to_parquet
from seqmel.inference.update import update_embeddings
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder
from seqmel.training.run import prepare

EVENTS = card_events(20)
PLACE = EVENTS.column_names.index("mcc")
TEXT = pc.binary_join_element_wise(EVENTS["mcc"].cast(pa.string()), pa.scalar("x"), "-")
UNSEEN = EVENTS.set_column(PLACE, "mcc", TEXT)


@pytest.fixture(scope="module")
def model() -> Model:
    vocabulary = fitted(EVENTS, SCHEMA)
    config = tiny_config()
    return Model(config, SCHEMA, vocabulary, SequenceEncoder(config, vocabulary).eval(), {})


@pytest.mark.parametrize("way", ["embed", "file", "as of", "update"])
def test_a_column_whose_values_are_all_unseen_is_warned_of_whatever_way_it_is_embedded(
    way: str, model: Model, tmp_path: Path
) -> None:
    run: dict[str, Any] = {
        "embed": lambda events: list(embed(model, events)),
        "file": lambda events: embed_to_parquet(model, events, tmp_path / "v", overwrite=True),
        "as of": lambda events: embed_as_of(
            model, events, "1970-10-24", tmp_path / "v", overwrite=True
        ),
        "update": lambda events: update_embeddings(
            model,
            events,
            tmp_path / f"{len(events.column_names)}{events['mcc'].type}",
            tmp_path / "v",
            overwrite=True,
        ),
    }
    with pytest.warns(
        EventsWarning, match=r"'mcc' has values that the training did not see in 100% of the events"
    ):
        run[way](UNSEEN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run[way](EVENTS)


def test_a_number_that_is_never_there_is_warned_of(model: Model) -> None:
    place = EVENTS.column_names.index("amount")
    nothing = EVENTS.set_column(place, "amount", pa.nulls(len(EVENTS), pa.float64()))
    with pytest.warns(EventsWarning, match="'amount' has no numbers in 100% of the events"):
        list(embed(model, nothing))


def test_a_few_events_are_not_judged(model: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.isfinite(next(embed(model, UNSEEN.slice(0, 10)))[1]).all()


def test_events_that_all_occur_twice_are_said_by_embedding_training_and_describe(
    model: Model, tmp_path: Path, in_process: InProcess
) -> None:
    twice = pa.concat_tables([EVENTS, EVENTS])
    words = "100% of the events occur more than once"
    with pytest.warns(EventsWarning, match=words):
        list(embed(model, twice))
    with pytest.warns(EventsWarning, match=words):
        prepare(twice, tmp_path / "prepared")
    pq.write_table(twice, tmp_path / "twice.parquet")
    assert words in in_process.seqmel("describe", tmp_path / "twice.parquet").stdout
    pq.write_table(EVENTS, tmp_path / "once.parquet")
    assert "more than once" not in in_process.seqmel("describe", tmp_path / "once.parquet").stdout


def test_equal_events_are_those_of_one_client_with_equal_times_and_values(model: Model) -> None:
    def repeated(table: pa.Table) -> tuple[int, int]:
        coded = batches(table, SCHEMA, model.vocabulary)
        sequences = EncodedSequences.from_batches(coded, time=SCHEMA.time)
        repeats = RepeatedEvents()
        repeats.see(sequences)
        return repeats.repeated, repeats.events

    size = len(EVENTS)
    assert repeated(EVENTS)[0] < 0.1 * size
    half = pa.concat_tables([EVENTS, EVENTS.slice(0, size // 2)])
    assert repeated(half)[0] == pytest.approx(2 * (size // 2), abs=0.1 * size)
    for column, more in {"client_id": 1_000, "event_time": dt.timedelta(1), "amount": 9}.items():
        place = EVENTS.column_names.index(column)
        other = pc.add(EVENTS[column], pa.scalar(more)).cast(EVENTS[column].type)
        assert repeated(pa.concat_tables([EVENTS, EVENTS.set_column(place, column, other)]))[0] < (
            0.2 * size  # a missing amount is still missing
        ), column
