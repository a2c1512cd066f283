"""A column of which the model knows no value is said, also from Python."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from small import SCHEMA, card_events, fitted, tiny_config

from seqmel.core.progress import EventsWarning
from seqmel.inference.as_of import embed_as_of
from seqmel.inference.embed import embed, embed_to_parquet
from seqmel.inference.update import update_embeddings
from seqmel.model import Model
from seqmel.nn.encoder import SequenceEncoder

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
