"""The estimators inside scikit-learn: cross-validation, searches, column transformers, unions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from seqmel.estimators.aggregates import AggregateFeatures
from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.estimators.sequences import EventSequences


def classifier() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01))


@pytest.fixture(scope="session")
def table(train: EventSequences, labels: pd.Series) -> pd.DataFrame:
    """Return one row per client with a static feature, in another order; one has no events."""
    return pd.DataFrame(
        {"client_id": [*labels.index[::-1], 1], "age": np.arange(25.0)}, index=np.arange(500, 525)
    )


def test_cross_validation_fits_on_the_clients_of_the_fold_alone(
    tiny: SequenceEmbedder, train: EventSequences, labels: pd.Series
) -> None:
    y = train.align(labels)
    whole = make_pipeline(tiny, classifier())
    assert cross_val_score(whole, train, y, cv=3, error_score="raise").shape == (3,)
    assert not hasattr(tiny, "model_")


def test_a_frozen_embedder_is_not_trained_again(
    fitted: SequenceEmbedder, train: Any, labels: pd.Series
) -> None:
    y = train.align(labels)
    linear = LogisticRegression(C=0.1)
    frozen = make_pipeline(FrozenEstimator(fitted), linear)
    found = cross_val_predict(frozen, train, y, cv=3, method="decision_function")
    wanted = cross_val_predict(linear, fitted.transform(train), y, cv=3, method="decision_function")
    np.testing.assert_allclose(found, wanted, atol=1e-2)  # two roads of an optimiser


def test_a_grid_search_goes_over_options_of_parts(
    tiny: SequenceEmbedder, train: Any, labels: pd.Series
) -> None:
    grid = {"embed__encoder__hidden_size": [8, 12], "embed__epochs": [np.int64(0)]}
    pipeline = Pipeline(
        [
            ("embed", tiny.set_params(pooling="last", recency_features=False)),
            ("classify", classifier()),
        ]
    )
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(train, train.align(labels))
    best = search.best_params_["embed__encoder__hidden_size"]
    embedder = search.best_estimator_.named_steps["embed"]
    assert embedder.transform(train).shape == (24, 16 + best)
    assert embedder.model_.config.encoder.hidden_size == best
    assert search.predict(train[:3]).shape == (3,)


@pytest.mark.parametrize("container", ["default", "pandas"])
def test_embeddings_stand_beside_static_features_in_a_column_transformer(
    container: str, tiny: SequenceEmbedder, train: EventSequences, table: pd.DataFrame
) -> None:
    embedder = clone(tiny).set_params(events=train)
    beside = ColumnTransformer(
        [("events", embedder, ["client_id"]), ("static", "passthrough", ["age"])]
    ).set_output(transform=container)
    found = beside.fit_transform(table)
    assert beside.named_transformers_["events"].events is train
    vectors = tiny.fit(train.select(table["client_id"][:24])).transform(train)
    numbers = found.to_numpy() if container == "pandas" else found
    assert numbers.shape == (25, vectors.shape[1] + 1)
    assert numbers[:, -1].tolist() == table["age"].tolist()
    for row, client in enumerate(table["client_id"][:24]):
        np.testing.assert_allclose(numbers[row, :-1], vectors.loc[client], atol=1e-5)
    if container == "pandas":
        assert found.index.equals(table.index)
        assert found.columns[0] == "events__emb_0000"


def test_list_columns_go_through_a_column_transformer_and_splits(
    tiny: SequenceEmbedder, train: EventSequences, labels: pd.Series
) -> None:
    frame = train.to_pandas()
    frame["age"] = np.arange(24.0)
    lists = train.columns[1:]
    beside = ColumnTransformer([("events", tiny, lists), ("static", StandardScaler(), ["age"])])
    scores = cross_val_score(
        make_pipeline(beside, classifier()), frame, train.align(labels), cv=2, error_score="raise"
    )
    assert scores.shape == (2,)


@pytest.mark.parametrize("container", ["default", "pandas", "polars"])
def test_embeddings_and_aggregates_in_a_union(
    container: str, fitted: SequenceEmbedder, train: EventSequences, labels: pd.Series
) -> None:
    union = FeatureUnion(
        [
            ("embeddings", FrozenEstimator(copy.deepcopy(fitted))),
            ("aggregates", AggregateFeatures()),
        ]
    )
    found = union.set_output(transform=container).fit_transform(train)
    vectors, aggregates = fitted.transform(train), AggregateFeatures().fit_transform(train)
    wanted = np.hstack([vectors.to_numpy(), aggregates.to_numpy()])
    np.testing.assert_array_equal(np.asarray(found), wanted)
    assert union.get_feature_names_out()[[0, -1]].tolist() == [
        "embeddings__emb_0000",
        f"aggregates__{aggregates.columns[-1]}",
    ]
    whole = make_pipeline(union, SimpleImputer(keep_empty_features=True), classifier()).fit(
        train, train.align(labels)
    )
    assert whole.predict(train[:5]).shape == (5,)


def test_clients_that_a_bootstrap_draws_twice_do_no_harm(
    train: EventSequences, labels: pd.Series
) -> None:
    aggregates = make_pipeline(
        AggregateFeatures(most_categories=2), SimpleImputer(keep_empty_features=True), classifier()
    )
    y = train.align(labels)
    drawn = np.random.default_rng(0).integers(0, 24, 24)
    assert len(set(drawn)) < 24
    assert aggregates.fit(train[drawn], y.iloc[drawn]).predict(train).shape == (24,)


def test_a_search_may_run_in_several_processes(train: EventSequences, labels: pd.Series) -> None:
    aggregates = make_pipeline(
        AggregateFeatures(), SimpleImputer(keep_empty_features=True), classifier()
    )
    grid = {"aggregatefeatures__most_categories": [1, 3]}
    search = GridSearchCV(aggregates, grid, cv=2, n_jobs=2, error_score="raise")
    assert search.fit(train, train.align(labels)).predict(train).shape == (24,)
