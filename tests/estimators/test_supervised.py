"""Classifier and regressor learn from clients, predict row by row, and are the commands' model."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from small import card_events

from seqmel import SequenceClassifier, SequenceEmbedder, SequenceRegressor, load_model
from seqmel.core.errors import ConfigError, InputError, ModelError, OutputError
from seqmel.estimators.sequences import EventSequences
from seqmel.inference.predict import predict

SHAPE = {"event_encoder": {"hidden_size": 16}, "preparation": {"min_count": 2, "threads": 1}}
TINY: dict[str, Any] = {
    "config": SHAPE,
    "epochs": 1,
    "batch_size": 8,
    "device": "cpu",
    "precision": "32-true",
    "random_state": 0,
}


@pytest.fixture(scope="module")
def habit(train: EventSequences) -> pd.Series:
    """Two classes that the events tell: which of four categories a client has most of."""
    return pd.Series(
        np.where((train.client_ids - 100) // 7 % 4 < 2, "few", "many"),
        index=train.client_ids,
        name="habit",
    )


@pytest.fixture(scope="module")
def classifier(train: EventSequences, habit: pd.Series) -> SequenceClassifier:
    return SequenceClassifier(**TINY).fit(train, habit)


def test_a_classifier_learns_what_the_events_tell(
    classifier: SequenceClassifier, train: EventSequences, habit: pd.Series
) -> None:
    assert classifier.classes_.tolist() == ["few", "many"]
    shares = classifier.predict_proba(train)
    assert shares.shape == (24, 2)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (classifier.predict(train) == classifier.classes_[shares.argmax(1)]).all()
    assert classifier.score(train, habit) > 0.9


def test_rows_are_predicted_one_by_one_in_the_order_of_x(
    classifier: SequenceClassifier, train: EventSequences
) -> None:
    order = np.array([5, 0, 5, 23])
    shares = classifier.predict_proba(train)
    np.testing.assert_allclose(classifier.predict_proba(train[order]), shares[order], atol=1e-5)


def test_it_is_the_model_of_the_commands(
    classifier: SequenceClassifier, train: EventSequences, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "model")
    with pytest.raises(
        OutputError, match=r"exists\. Name another output, or pass overwrite=True\."
    ):
        classifier.save(tmp_path / "model")
    (table,) = predict(load_model(tmp_path / "model"), train, device="cpu")
    assert table.column_names == ["client_id", "habit=few", "habit=many", "habit"]
    np.testing.assert_allclose(
        table["habit=many"].to_numpy(), classifier.predict_proba(train)[:, 1], atol=1e-6
    )
    again = pickle.loads(pickle.dumps(classifier))
    assert (again.predict_proba(train) == classifier.predict_proba(train)).all()


def test_a_pretrained_encoder_stays_as_it_is_with_the_head_alone(
    train: EventSequences, habit: pd.Series
) -> None:
    embedder = SequenceEmbedder(
        event_encoder=SHAPE["event_encoder"],
        preparation=SHAPE["preparation"],
        epochs=1,
        batch_size=8,
        device="cpu",
        precision="32-true",
        random_state=0,
    ).fit(train)
    options = {name: value for name, value in TINY.items() if name != "config"}
    tuned = SequenceClassifier.from_pretrained(embedder.model_, unfreeze="head", **options).fit(
        train, habit
    )
    from_embedder = SequenceClassifier.from_pretrained(embedder, unfreeze="head", **options)
    assert (
        clone(from_embedder).fit(train, habit).predict_proba(train) == tuned.predict_proba(train)
    ).all()
    before, after = embedder.model_.encoder.state_dict(), tuned.model_.encoder.state_dict()
    assert all((before[name] == after[name]).all() for name in before)
    assert clone(tuned).pretrained is not None
    assert not hasattr(clone(tuned), "model_")


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_a_parameter_that_does_not_exist_is_refused_with_the_nearest(
    kind: type[SequenceClassifier], model_folder: Path
) -> None:
    message = rf"{kind.__name__} has no parameter 'epoch'\. Did you mean 'epochs'\?"
    with pytest.raises(ConfigError, match=message):
        kind.from_pretrained(model_folder, epoch=3)
    with pytest.raises(ConfigError, match=message):
        kind().set_params(epoch=3)
    with pytest.raises(ConfigError, match="has no parameter 'views__count'"):
        kind().set_params(views__count=8)
    assert kind().set_params(encoder__hidden_size=8).encoder["hidden_size"] == 8
    assert kind.from_pretrained(model_folder, epochs=3).epochs == 3


def test_labels_of_a_table_of_events_are_matched_by_client_id(
    train: EventSequences, habit: pd.Series
) -> None:
    flat = card_events(24).to_pandas()
    fitted = SequenceClassifier(**TINY).fit(flat, habit[::-1])
    expected = SequenceClassifier(**TINY).fit(train, habit)
    assert (fitted.predict_proba(flat) == expected.predict_proba(train)).all()
    assert fitted.score(flat, habit[::-1]) == expected.score(train, habit)
    with pytest.raises(InputError, match="X has one row per event, so y cannot be matched"):
        fitted.score(flat, habit.to_numpy())
    with pytest.raises(InputError, match="so sample_weight cannot be matched"):
        clone(fitted).fit(flat, habit, sample_weight=np.ones(24))


def test_several_targets_with_missing_labels(train: EventSequences, habit: pd.Series) -> None:
    y = pd.DataFrame({"habit": habit, "odd": np.arange(24) % 2}, dtype=object)
    y.iloc[3, 0] = None
    fitted = SequenceClassifier(**TINY).fit(train, y)
    assert [c.tolist() for c in fitted.classes_] == [["few", "many"], [0, 1]]
    assert fitted.predict(train).shape == (24, 2)
    assert [p.shape for p in fitted.predict_proba(train)] == [(24, 2), (24, 2)]


def test_targets_of_mixed_types_keep_them_and_are_scored(
    train: EventSequences, habit: pd.Series
) -> None:
    y = pd.DataFrame({"habit": habit, "odd": np.arange(24) % 2 == 1})
    fitted = SequenceClassifier(**TINY).fit(train, y)
    found = fitted.predict(train)
    assert [type(value) for value in found[0]] == [str, bool]
    right = (found == y.to_numpy()).mean(axis=0)
    assert right[0] > 0.9 > right[1]
    for given in (y, y.to_numpy(), y[["odd", "habit"]]):
        assert fitted.score(train, given) == pytest.approx(right.mean())
    y.iloc[:6, 0] = None
    assert fitted.score(train, y) == pytest.approx(
        ((found == y.to_numpy())[6:, 0].mean() + right[1]) / 2
    )
    half = np.where(np.arange(24) < 12, found[:, 1], ~found[:, 1].astype(bool))
    wrong_at_last = pd.DataFrame({"habit": found[:, 0], "odd": half})
    assert fitted.score(
        train, wrong_at_last, np.where(np.arange(24) < 12, 3.0, 1.0)
    ) == pytest.approx((1 + 0.75) / 2)
    with pytest.raises(InputError, match="y has 1 target and fit had 2"):
        fitted.score(train, habit)
    with pytest.raises(InputError, match="y has 3 rows and X has 24"):
        fitted.score(train, y[:3])
    with pytest.raises(
        InputError, match=r"'target_0' has labels such as False; predicted are such as '(few|many)'"
    ):
        fitted.score(train, y.to_numpy()[:, [1, 0]])
    with pytest.raises(InputError, match="'habit' has no label to compare with"):
        fitted.score(train, y.assign(habit=None))


def test_targets_of_one_type_are_predicted_in_it(train: EventSequences, habit: pd.Series) -> None:
    numbers = np.c_[np.arange(24) % 2, np.arange(24) % 3]
    fitted = SequenceClassifier(**TINY).fit(train, numbers)
    assert fitted.predict(train).dtype == np.int64
    assert fitted.score(train, fitted.predict(train)) == 1
    single = SequenceClassifier(**TINY).fit(train, habit.to_frame())
    assert single.score(train, habit) == single.score(train, habit.to_frame()) > 0.9


@pytest.mark.parametrize("form", ["series", "frame", "ids"])
def test_labels_by_client_id_are_matched_whatever_their_order(
    form: str, train: EventSequences, habit: pd.Series, classifier: SequenceClassifier
) -> None:
    mixed = habit.iloc[np.random.default_rng(0).permutation(24)]
    weights = pd.Series(np.where(habit == "few", 1.0, 2.0), index=habit.index)
    y = mixed.to_frame() if form == "frame" else mixed
    options, x = (
        (TINY | {"events": train}, train.client_ids.to_numpy()) if form == "ids" else (TINY, train)
    )
    fitted = SequenceClassifier(**options).fit(x, y, sample_weight=weights.loc[mixed.index])
    wanted = SequenceClassifier(**TINY).fit(train, habit, sample_weight=weights.to_numpy())
    found = fitted.predict_proba(x)
    np.testing.assert_array_equal(
        found[0] if form == "frame" else found, wanted.predict_proba(train)
    )
    assert fitted.score(x, y) == wanted.score(train, habit) > 0.9


def test_labels_by_another_index_go_by_position(train: EventSequences, habit: pd.Series) -> None:
    numbered = habit.set_axis(np.arange(24)[::-1])
    found = [
        SequenceClassifier(**TINY).fit(train, y).predict_proba(train)
        for y in (habit.to_numpy(), numbered)
    ]
    np.testing.assert_array_equal(*found)
    table = train.to_pandas().reset_index().set_index(train.client_ids.to_numpy()[::-1])
    by_row = SequenceClassifier(**TINY).fit(table, habit.set_axis(table.index)).predict_proba(train)
    np.testing.assert_array_equal(by_row, found[0])


def test_labels_that_may_be_by_id_or_by_row_are_refused(
    train: EventSequences, habit: pd.Series
) -> None:
    order = np.random.default_rng(0).permutation(24)
    table = train.to_arrow().set_column(0, "client_id", pa.array(order))
    renumbered = EventSequences(table, train.client, train.time)
    y = habit.set_axis(order).sort_index()
    with pytest.raises(
        InputError, match=r"index of y holds 0 to 23 in another order.*Name the index 'client_id'"
    ):
        SequenceClassifier(**TINY).fit(renumbered, y)
    named = SequenceClassifier(**TINY).fit(renumbered, y.rename_axis("client_id"))
    assert named.score(renumbered, habit.to_numpy()) > 0.9


def test_a_regressor_predicts_in_the_unit_of_its_labels(train: EventSequences) -> None:
    y = train.lengths.astype(float) * 1000 + 5
    fitted = SequenceRegressor(**TINY).fit(train, y)
    assert fitted.predict(train).shape == (24,)
    assert fitted.score(train, y) > 0.5


@pytest.mark.parametrize("lacking", [np.inf, -np.inf, None])
@pytest.mark.filterwarnings("error")
def test_a_quantity_that_is_infinite_is_left_out_as_a_missing_one(
    lacking: float | None, train: EventSequences
) -> None:
    y: list[float | None] = (train.lengths * 1000.0).tolist()
    wanted = SequenceRegressor(**TINY).fit(train, [np.nan, *y[1:]])
    fitted = SequenceRegressor(**TINY).fit(train, [lacking, *y[1:]])
    np.testing.assert_array_equal(fitted.predict(train), wanted.predict(train))
    assert fitted.score(train, [lacking, *y[1:]]) == pytest.approx(wanted.score(train[1:], y[1:]))


def test_decimals_are_numbers(train: EventSequences) -> None:
    y = [Decimal(int(n)) / 8 for n in train.lengths]
    fitted, wanted = (
        SequenceRegressor(**TINY).fit(train, given) for given in (y, train.lengths / 8)
    )
    np.testing.assert_array_equal(fitted.predict(train), wanted.predict(train))
    assert fitted.score(train, [None, *y[1:]]) == pytest.approx(
        wanted.score(train[1:], train.lengths[1:] / 8)
    )
    with pytest.raises(InputError, match="holds fractions"):
        SequenceClassifier(**TINY).fit(train, y)


def test_weights_of_zero_leave_rows_out(train: EventSequences, habit: pd.Series) -> None:
    wrong = habit.copy()
    wrong.iloc[:6] = "other"
    fitted = SequenceClassifier(**TINY).fit(
        train, wrong, sample_weight=np.r_[np.zeros(6), np.ones(18)]
    )
    assert fitted.classes_.tolist() == ["few", "many"]


def test_cross_validation_cuts_clients(train: EventSequences, habit: pd.Series) -> None:
    assert cross_val_score(
        SequenceClassifier(**TINY), train, train.align(habit), cv=2, error_score="raise"
    ).shape == (2,)


def test_what_is_wrong_is_said_in_a_line(train: EventSequences, habit: pd.Series) -> None:
    with pytest.raises(InputError, match="y has 3 rows and X has 24"):
        SequenceClassifier(**TINY).fit(train, [0, 1, 0])
    with pytest.raises(InputError, match="one class only"):
        SequenceClassifier(**TINY).fit(train, [0] * 24)
    with pytest.raises(ConfigError, match="sample_weight has shape"):
        SequenceClassifier(**TINY).fit(train, habit, sample_weight=[1.0])
    with pytest.raises(ConfigError, match="unfreeze"):
        SequenceClassifier(**TINY | {"unfreeze": "al"}).fit(train, habit)
    with pytest.raises(NotFittedError):
        SequenceClassifier().predict(train)


def test_a_saved_estimator_is_loaded_as_it_was_and_learns_on(
    classifier: SequenceClassifier, train: EventSequences, habit: pd.Series, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "model")
    loaded = SequenceClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(train), classifier.predict_proba(train))
    options = classifier.get_params()
    same = ("epochs", "batch_size", "random_state", "class_weight", "calibrate")
    assert {name: loaded.get_params()[name] for name in same} == {
        name: options[name] for name in same
    }
    assert clone(loaded).set_params(unfreeze="head").fit(train, habit).score(train, habit) > 0.9


def test_a_model_of_another_kind_is_not_loaded(
    classifier: SequenceClassifier, fitted: SequenceEmbedder, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "classes")
    with pytest.raises(
        ModelError, match="no model for SequenceRegressor: its targets of another kind are: habit"
    ):
        SequenceRegressor.load(tmp_path / "classes")
    fitted.save(tmp_path / "vectors")
    with pytest.raises(ModelError, match="it predicts nothing"):
        SequenceClassifier.load(tmp_path / "vectors")


def test_weights_by_class_are_weights_of_the_rows(train: EventSequences, habit: pd.Series) -> None:
    half = np.where(np.arange(24) < 12, 1.0, 0.5)
    by_class = SequenceClassifier(**TINY, class_weight={"many": 5.0}).fit(
        train, habit, sample_weight=half
    )
    by_row = SequenceClassifier(**TINY).fit(
        train, habit, sample_weight=half * np.where(habit == "many", 5.0, 1.0)
    )
    np.testing.assert_array_equal(by_class.predict_proba(train), by_row.predict_proba(train))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mny": 2.0}, "'mny', which is not a class of y. Its classes: 'few', 'many'"),
        ({"few": -1.0}, "Expected numbers from 0"),
    ],
)
def test_wrong_weights_by_class_are_refused(
    weights: dict[str, float], message: str, train: EventSequences, habit: pd.Series
) -> None:
    with pytest.raises(ConfigError, match=message):
        SequenceClassifier(**TINY, class_weight=weights).fit(train, habit)
    with pytest.raises(ConfigError, match="for one target"):
        SequenceClassifier(**TINY, class_weight={"few": 2.0}).fit(
            train, pd.DataFrame({"a": habit, "b": habit})
        )


def test_a_classifier_refuses_quantities(train: EventSequences) -> None:
    with pytest.raises(
        InputError, match=r"holds fractions, such as 0\.5: a quantity\. SequenceRegressor"
    ):
        SequenceClassifier(**TINY).fit(train, np.arange(24) + 0.5)
