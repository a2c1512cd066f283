"""A warm start takes over what two models have in common, and begins the rest anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small import card_events, tiny_config

import seqmel
from seqmel.api.model import Model
from seqmel.config import Config
from seqmel.core.errors import ConfigError, InputError, ModelError
from seqmel.data.kinds.number import KNOTS
from seqmel.training.warm_start import warm_start

EVENTS = card_events()
CURVE = len(KNOTS) + 1


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = tiny_config(schema={"numeric_by": {"reading": "mcc"}})
    model = seqmel.train(EVENTS, config=config)
    return model.save(tmp_path_factory.mktemp("warm") / "before")


def other_events() -> pd.DataFrame:
    """Events with another merchant code, one column less and one more."""
    table = EVENTS.to_pandas().drop(columns="city")
    table["mcc"] = table["mcc"].replace(5812, 5000)
    table["channel"] = np.where(np.arange(len(table)) % 3 == 0, "web", "shop")
    return table


def row(model: Model, column: str, value: str) -> torch.Tensor:
    code = 2 + model.vocabulary.categorical[column].values.index(value)
    return model.encoder.events.table[model.encoder.events.begins[column] + code]


@pytest.fixture(scope="module")
def untrained(before: Model) -> tuple[Model, Model]:
    """New models of `other_events` without an epoch, with a warm start and without."""
    config = tiny_config(schema={"numeric_by": {"reading": "mcc"}}, training={"epochs": 0})
    new = [seqmel.train(other_events(), config=config, progress=False)]
    new.append(seqmel.train(other_events(), config=config, init_from=str(before.folder)))
    return new[1], new[0]


def test_rows_of_common_values_are_taken_over_and_others_are_new(
    before: Model, untrained: tuple[Model, Model]
) -> None:
    warm, cold = untrained
    assert torch.equal(row(warm, "mcc", "5411"), row(before, "mcc", "5411"))
    for column, value in (("mcc", "5000"), ("channel", "web")):
        assert torch.equal(row(warm, column, value), row(cold, column, value))
    assert not torch.equal(row(cold, "mcc", "5411"), row(before, "mcc", "5411"))


def test_curves_of_numbers_follow_the_category_they_are_scaled_within(
    before: Model, untrained: tuple[Model, Model]
) -> None:
    warm, _ = untrained

    def curve(model: Model, column: str, code: int) -> torch.Tensor:
        begin = model.encoder.events.begins[column] + code * CURVE
        return model.encoder.events.table[begin : begin + CURVE]

    assert torch.equal(curve(warm, "amount", 0), curve(before, "amount", 0))
    codes = {
        name: {v: 2 + i for i, v in enumerate(model.vocabulary.categorical["mcc"].values)}
        for name, model in (("warm", warm), ("before", before))
    }
    for value in ("5411", "4111"):
        there, here = codes["before"][value], codes["warm"][value]
        assert torch.equal(curve(warm, "reading", here), curve(before, "reading", there))
    of_new = curve(warm, "reading", codes["warm"]["5000"])
    assert torch.equal(of_new, curve(before, "reading", 1))


def test_layers_and_time_are_taken_over(before: Model, untrained: tuple[Model, Model]) -> None:
    warm, _ = untrained
    then = before.encoder.state_dict()
    same = {
        name: torch.equal(weights, then[name])
        for name, weights in warm.encoder.state_dict().items()
        if name.startswith(("sequence.", "events.network.", "events.from_time."))
    }
    assert len(same) > 5
    assert all(same.values()), same


def test_a_model_continued_on_its_own_events_gives_its_own_vectors(before: Model) -> None:
    config = tiny_config(schema={"numeric_by": {"reading": "mcc"}}, training={"epochs": 0})
    same = seqmel.train(EVENTS, config=config, init_from=str(before.folder))
    expected = before.encoder.events.state_dict()
    for name, weights in same.encoder.events.state_dict().items():
        assert torch.equal(weights, expected[name]), name


def test_a_line_says_what_was_matched(before: Model, untrained: tuple[Model, Model]) -> None:
    warm, _ = untrained
    words = warm_start(warm.encoder, warm.vocabulary, before)
    assert "mcc (5 of 6 values), amount (numbers), reading (numbers within mcc); time (" in words
    assert words.endswith("sequence encoder, pooling by category; new: channel")


def test_what_cannot_be_taken_over_is_one_line(before: Model, tmp_path: Path) -> None:
    names = {name: name + "2" for name in ("mcc", "amount", "reading")}
    renamed = other_events().rename(columns=names)
    folder = str(before.folder)
    with pytest.raises(InputError, match="Nothing can be taken over") as raised:
        seqmel.train(renamed, config=tiny_config(), init_from=folder)
    assert "\n" not in str(raised.value)
    wider = tiny_config(event_encoder={"hidden_size": 8})
    with pytest.raises(ConfigError, match=r"Set event_encoder\.hidden_size=16"):
        seqmel.train(EVENTS, config=wider, init_from=folder)
    with pytest.raises(ModelError):
        seqmel.train(EVENTS, tmp_path / "model", config=tiny_config(), init_from="nowhere")
    assert not list(tmp_path.iterdir())


def test_a_saved_model_and_a_path_stand_for_a_folder(before: Model) -> None:
    for given in (before, before.folder):
        config = Config.from_dict({"training": {"init_from": given}})
        assert config.training.init_from == str(before.folder)
    with pytest.raises(ModelError, match="in memory only"):
        Config.from_dict({"training": {"init_from": dataclasses.replace(before, folder=None)}})


def test_a_folder_is_loaded_by_its_path(before: Model) -> None:
    assert before.folder is not None
    assert seqmel.from_pretrained(before.folder).fingerprint() == before.fingerprint()
    with pytest.raises(ConfigError, match="A model cannot be 5"):
        seqmel.from_pretrained(5)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no_model"):
        seqmel.from_pretrained("no_model")
