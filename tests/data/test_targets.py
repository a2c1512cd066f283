"""Targets keep the type of their classes, encode labels, and decode predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqmel.core.errors import InputError, SchemaError
from seqmel.data.tables.targets import Target, Targets, check_names


@pytest.mark.parametrize(
    "values",
    [["b", "a", "b"], [True, False, True], [2, 0, 2], [1.5, 0.0, 1.5]],
    ids=["text", "bool", "int", "float"],
)
def test_classes_keep_their_kind_through_json(values: list[Any]) -> None:
    target = Target.of(pd.Series(values, name="t"))
    again = Targets.model_validate_json(Targets(targets=(target,)).model_dump_json()).targets[0]
    assert again == target
    assert [type(value) for value in again.classes] == [type(values[0])] * 2
    assert target.encode(pd.Series(values)).tolist() == [1, 0, 1]
    assert target.predicted(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist() == [values[0], values[1]]


def test_a_quantity_is_standardised_and_comes_back_in_its_own_unit() -> None:
    y = pd.Series(np.arange(100) * 3.0 + 50, name="age")
    target = Target.of(y)
    coded = target.encode(y)
    assert (target.task, target.columns, target.size) == ("regression", ("age",), 1)
    assert (coded.mean(), coded.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    np.testing.assert_allclose(target.predicted(coded[:, None].astype(float)), y, rtol=1e-6)


def test_probabilities_are_softmax_and_colder_ones_are_surer() -> None:
    target = Target(name="g", classes=("F", "M"))
    outputs = np.array([[0.0, 1.0], [1000.0, 0.0]])
    expected = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(
        target.probabilities(outputs), [[1 - expected, expected], [1.0, 0.0]]
    )
    hot = target.model_copy(update={"temperature": 2.0}).probabilities(outputs)
    assert 0.5 < hot[0, 1] < expected
    assert target.columns == ("g=F", "g=M", "g")


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([1, 1, 1], "auto", "one class only, 1, among 3 clients"),
        (["a", "b"], "regression", "is text, such as 'a'. Regression needs numbers"),
        ([4.0, 4.0], "regression", "is 4.0 for all 2 usable clients"),
        (range(2000), "classification", "2,000 different values, such as 0, 1, 2 and 1997 more"),
    ],
)
def test_what_cannot_be_learnt_is_refused(values: Any, task: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Target.of(pd.Series(values, name="t"), task)


def test_a_number_of_few_values_can_be_said_to_be_a_quantity() -> None:
    assert Target.of(pd.Series([0, 1, 2]), "regression").classes == ()


def test_columns_of_predictions_must_differ() -> None:
    one, other = Target(name="a", classes=("x", "y")), Target(name="a=x")
    check_names((one,), "client")
    for targets, client in (((one, other), "client"), ((one, one), "client"), ((one,), "a")):
        with pytest.raises(SchemaError, match="two columns named 'a"):
            check_names(targets, client)


def test_money_is_learnt_by_its_logarithm_and_never_predicted_below_zero() -> None:
    y = pd.Series(np.exp(np.random.default_rng(0).normal(5, 1.2, 2_000)), name="spent")
    target = Target.of(y, "regression")
    assert target.log
    coded = target.encode(y).astype(np.float64)
    np.testing.assert_allclose([coded.mean(), coded.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(target.predicted(coded[:, None]), y, rtol=1e-4)
    assert (target.predicted(np.array([[-50.0], [-5.0]])) == 0).all()
    assert np.isfinite(target.predicted(np.array([[1e9]]))).all()
    assert (
        Targets.model_validate_json(Targets(targets=(target,)).model_dump_json()).targets[0]
        == target
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.normal(50, 10, 2_000),
        lambda r: r.exponential(9, 2_000),
        lambda r: r.standard_t(2, 2_000),
    ],
    ids=["normal", "exponential", "heavy on both sides"],
)
def test_other_quantities_are_learnt_as_they_are(draw: Any) -> None:
    target = Target.of(pd.Series(draw(np.random.default_rng(0)), name="y"), "regression")
    assert (target.log, target.factor) == (False, 1.0)


COUNTS = pd.Series([0.0, 0.0, 1.0, 3.0, 6.0], name="visits")


def test_with_a_log_link_the_output_zero_is_the_mean_and_no_prediction_is_negative() -> None:
    target = Target.of(COUNTS, "regression", loss="poisson")
    np.testing.assert_allclose(target.encode(COUNTS), COUNTS / 2)
    np.testing.assert_allclose(target.quantities(target.encode(COUNTS)), COUNTS)
    outputs = np.array([[0.0], [np.log(3)], [-1e9], [1e9]])
    found = target.predicted(outputs)
    np.testing.assert_allclose(found[:3], [2, 6, 0])
    assert np.isfinite(found[3])


def test_a_quantile_is_predicted_in_the_unit_of_the_labels() -> None:
    target = Target.of(COUNTS, "regression", loss="quantile", quantile=0.9)
    assert target.quantile == 0.9
    coded = target.encode(COUNTS)[:, None].astype(float)
    np.testing.assert_allclose(target.predicted(coded), COUNTS, atol=1e-6)


@pytest.mark.parametrize("loss", ["log", "poisson", "tweedie"])
def test_negative_quantities_are_refused_where_the_loss_has_no_place_for_them(loss: Any) -> None:
    with pytest.raises(InputError, match=f"negative values, such as -1; the loss {loss} is for"):
        Target.of(pd.Series([-1.0, 2.0, 3.0], name="t"), "regression", loss=loss)
