"""Classifier and regressor from scratch take the options of the embedder."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from small import card_events, tiny_config

import seqmel
from seqmel.core.errors import ConfigError

EVENTS = seqmel.EventSequences.read(card_events())
Y = pd.Series([f"h{i % 2}" for i in range(24)], index=EVENTS.client_ids, name="habit")
TINY: dict[str, Any] = {
    "epochs": 1, "batch_size": 8, "device": "cpu", "precision": "32-true", "random_state": 0,
    "preparation": {"min_count": 2, "threads": 1},
}  # fmt: skip
NETWORK: dict[str, Any] = {
    "encoder": {"name": "gru", "hidden_size": 8}, "embedding_dim": 6, "pooling": "last",
    "event_encoder": {"hidden_size": 8}, "recency_features": False, "ignore": ["reading"],
}  # fmt: skip


def test_the_options_of_the_embedder_shape_a_classifier_from_scratch() -> None:
    fitted = seqmel.SequenceClassifier(**TINY, **NETWORK).fit(EVENTS, Y)
    encoder = fitted.model_.config.encoder
    assert (encoder.name, encoder.hidden_size, fitted.model_.encoder.output_size) == ("gru", 8, 6)
    assert "reading" not in fitted.model_.schema.numeric
    sections = {
        name: NETWORK[name] for name in ("encoder", "embedding_dim", "pooling", "recency_features")
    }
    config = sections | {
        "event_encoder": NETWORK["event_encoder"],
        "schema": {"ignore": ["reading"]},
    }
    by_config = seqmel.SequenceClassifier(**TINY, config=config).fit(EVENTS, Y)
    np.testing.assert_array_equal(fitted.predict_proba(EVENTS), by_config.predict_proba(EVENTS))


def test_parameters_of_one_name_have_one_default_in_all_estimators() -> None:
    usual = inspect.signature(seqmel.SequenceEmbedder).parameters
    for kind in (seqmel.SequenceClassifier, seqmel.SequenceRegressor):
        own = inspect.signature(kind).parameters
        shared = (set(own) & set(usual)) - {"validation_fraction", "patience"}  # of another split
        assert {"encoder", "embedding_dim", "pooling", "event_encoder", "categorical"} <= shared
        assert {name: own[name].default for name in shared} == {
            name: usual[name].default for name in shared
        }


def test_options_of_a_part_are_parameters_of_a_classifier_too() -> None:
    classifier = seqmel.SequenceClassifier(encoder="gru").set_params(encoder__hidden_size=8)
    assert classifier.encoder == {"name": "gru", "hidden_size": 8}
    assert clone(classifier).get_params()["encoder__hidden_size"] == 8


def test_a_pretrained_model_keeps_its_network_and_refuses_another() -> None:
    model = seqmel.train(EVENTS, config=tiny_config(training={"epochs": 0}))
    fitted = seqmel.SequenceClassifier(pretrained=model, **TINY | {"preparation": None}).fit(
        EVENTS, Y
    )
    assert fitted.model_.config.encoder == model.config.encoder
    other = seqmel.SequenceClassifier(
        pretrained=model, encoder="lstm", **TINY | {"preparation": None}
    )
    with pytest.raises(
        ConfigError,
        match="encoder cannot be changed by fine-tuning: the model has gru, the options say",
    ):
        other.fit(EVENTS, Y)
