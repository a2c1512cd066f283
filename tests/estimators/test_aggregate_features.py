"""The baseline has the embedder's interface and the plan's columns."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small import card_events

from seqmel.core.errors import ConfigError, SchemaError
from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.sources.reading import open_events
from seqmel.estimators.aggregates import AggregateFeatures
from seqmel.estimators.sequences import EventSequences
from seqmel.evaluation.aggregates import AggregatePlan

EVENTS = card_events(24)


def test_the_columns_and_values_are_those_of_the_plan(train: EventSequences) -> None:
    source = open_events(EVENTS)
    wanted = AggregatePlan.fit(source, infer_schema(source), most_categories=3, order=True).compute(
        source
    )
    features = AggregateFeatures(most_categories=3).fit(train)
    pd.testing.assert_frame_equal(features.transform(train), wanted)
    assert features.get_feature_names_out().tolist() == wanted.columns.tolist()
    assert features.schema_ == features.plan_.schema


def test_other_clients_get_the_columns_of_those_fitted_on(train: EventSequences) -> None:
    features = AggregateFeatures().fit(train[:5])
    whole = features.transform(train)
    assert whole.columns.equals(features.transform(train[:5]).columns)
    pd.testing.assert_frame_equal(features.transform(train[[7, 7]]), whole.iloc[[7, 7]])


@pytest.mark.parametrize("kind", ["table of lists", "ids"])
def test_x_may_be_what_the_embedder_takes(kind: str, train: EventSequences) -> None:
    wanted = AggregateFeatures().fit_transform(train)
    if kind == "ids":
        ids = pd.DataFrame({"client_id": [*train.client_ids, 1]})
        found = AggregateFeatures(events=train).fit_transform(ids)
        assert found.iloc[-1]["events"] == 0
        assert found.index.equals(ids.index)
        found = found.iloc[:-1]
    else:
        found = AggregateFeatures().fit_transform(train.to_pandas())
    np.testing.assert_array_equal(found.to_numpy(), wanted.to_numpy())
    assert found.columns.equals(wanted.columns)


def test_lightgbm_takes_the_table_and_the_descriptions_say_what_is_in_it(
    train: EventSequences,
) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    features = AggregateFeatures().fit(train)
    table = features.transform(train)
    labels = np.arange(len(table)) % 2
    model = lightgbm.LGBMClassifier(n_estimators=1, min_child_samples=1, verbosity=-1).fit(
        table, labels
    )
    assert model.feature_name_ == table.columns.tolist() == list(features.feature_descriptions_)
    assert features.feature_descriptions_["mcc_last1"].startswith("code of mcc at the last event")
    plain = AggregateFeatures(order=False).fit_transform(train)
    pd.testing.assert_frame_equal(table[plain.columns], plain)


def test_columns_may_be_named(train: EventSequences) -> None:
    features = AggregateFeatures(categorical=["city"], numeric=["mcc"], numeric_by={}).fit(train)
    assert (features.schema_.categorical, features.schema_.numeric) == (("city",), ("mcc",))
    with pytest.raises(SchemaError, match="No column 'town'"):
        AggregateFeatures(categorical=["town"]).fit(train)


def test_wrong_use_is_refused_in_words(train: EventSequences) -> None:
    with pytest.raises(ConfigError, match="most_categories is 0"):
        AggregateFeatures(most_categories=0).fit(train)
    with pytest.raises(ConfigError, match="AggregateFeatures"):
        AggregateFeatures(time_unit="week").fit(train)  # type: ignore[arg-type]
    with pytest.raises(NotFittedError, match="This AggregateFeatures is not fitted yet"):
        AggregateFeatures().transform(train)


def test_a_pickle_gives_equal_columns_and_a_clone_is_not_fitted(train: EventSequences) -> None:
    features = AggregateFeatures(most_categories=2).fit(train)
    again = pickle.loads(pickle.dumps(features))
    pd.testing.assert_frame_equal(again.transform(train), features.transform(train))
    assert clone(features).get_params() == features.get_params()
    assert not hasattr(clone(features), "plan_")
