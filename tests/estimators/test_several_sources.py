"""Estimators on several event tables: X names tables, or holds client ids of `events`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from small import two_tables

import seqmel
from seqmel.estimators.aggregates import AggregateFeatures
from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.estimators.supervised import SequenceClassifier

OPTIONS: dict[str, Any] = {
    "event_encoder": {"hidden_size": 16},
    "epochs": 1,
    "batch_size": 8,
    "preparation": {"min_count": 2, "threads": 1},
    "device": "cpu",
    "precision": "32-true",
    "random_state": 0,
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return two_tables()


@pytest.fixture(scope="module")
def embedder(tables: dict[str, Any]) -> SequenceEmbedder:
    return SequenceEmbedder(**OPTIONS).fit(tables)


def test_the_embedder_is_the_model_that_train_makes(
    embedder: SequenceEmbedder, tables: dict[str, Any]
) -> None:
    model = seqmel.train(tables, config=embedder.config(), progress=False)
    assert model.fingerprint() == embedder.model_.fingerprint()
    vectors = embedder.transform(tables)
    expected = model.embed(tables, progress=False)
    assert set(vectors.index) == set(expected.index)
    np.testing.assert_array_equal(vectors, expected.loc[vectors.index])


def test_client_ids_are_looked_up_in_every_table(
    embedder: SequenceEmbedder, tables: dict[str, Any]
) -> None:
    expected = embedder.transform(tables)
    looking = copy.deepcopy(embedder).set_params(events=tables)
    ids = expected.index.to_numpy()[[3, 0, 3]]
    found = looking.transform(ids)
    assert found.index.tolist() == ids.tolist()
    np.testing.assert_array_equal(found, expected.loc[ids])


def test_a_client_without_events_in_any_table_has_the_vector_of_an_empty_sequence(
    embedder: SequenceEmbedder, tables: dict[str, Any]
) -> None:
    looking = copy.deepcopy(embedder).set_params(events=tables)
    known = looking.transform(np.array([tables["cards"].iloc[0, 0]])).to_numpy()
    found = looking.transform(np.array([-1, tables["cards"].iloc[0, 0], -2])).to_numpy()
    np.testing.assert_array_equal(found[[1]], known)
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_folds_split_clients_across_all_tables(
    embedder: SequenceEmbedder, tables: dict[str, Any]
) -> None:
    ids = embedder.transform(tables).index.to_numpy()
    y = np.arange(len(ids)) % 2
    whole = make_pipeline(SequenceEmbedder(events=tables, **OPTIONS), LogisticRegression(C=1e-4))
    assert cross_val_score(whole, ids, y, cv=2, error_score="raise").shape == (2,)


def test_aggregates_are_those_of_each_table(tables: dict[str, Any]) -> None:
    found = AggregateFeatures().fit_transform(tables)
    again = AggregateFeatures(events=tables).fit(found.index.to_numpy())
    pd.testing.assert_frame_equal(again.transform(found.index.to_numpy()[:4]), found.iloc[:4])
    clicks = tables["clicks"].groupby("user").size().reindex(found.index, fill_value=0)
    assert found["count_source_clicks"].tolist() == clicks.tolist()
    assert 0 < (clicks == 0).sum() < len(clicks)


def test_a_classifier_predicts_from_all_tables(tables: dict[str, Any]) -> None:
    clients = SequenceEmbedder(**OPTIONS).fit(tables).transform(tables).index
    y = pd.Series(np.arange(len(clients)) % 2, index=clients)
    made = SequenceClassifier(**OPTIONS).fit(tables, y)
    whole = made.predict_proba(tables)
    few = copy.deepcopy(made).set_params(events=tables).predict_proba(clients.to_numpy()[[2, 1]])
    np.testing.assert_allclose(few, whole[[2, 1]], atol=1e-6)
    without = made.predict_proba({**tables, "clicks": tables["clicks"].iloc[:1]})
    assert not np.allclose(without[: len(whole)], whole, atol=1e-6)
