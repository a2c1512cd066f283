"""scikit-learn's own checks of an estimator.

They fit on matrices of random numbers, which are no sequences: the estimators say so by the tag
`two_d_array`, and scikit-learn then runs only what needs no X. To run the others as well,
`OnMatrix` reads a matrix as sequences: a row is a client, and each of its numbers is an event.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import validate_data

from seqmel.core.errors import TrainingError
from seqmel.estimators.aggregates import AggregateFeatures
from seqmel.estimators.embedder import SequenceEmbedder
from seqmel.estimators.rows import ClientRows

TINY: dict[str, Any] = {
    "event_encoder": {"hidden_size": 8, "layers": 1},
    "pooling": "mean",
    "epochs": 1,
    "batch_size": 32,
    "validation_fraction": 0.0,
    "preparation": {"threads": 1},
    "device": "cpu",
    "precision": "32-true",
    "random_state": 0,
}
"""Options of an embedder that is trained a hundred times here."""


class _OnMatrix:
    """Read a matrix of numbers as one sequence a row."""

    def _rows(self: Any, X: Any, *, learning: bool = False) -> ClientRows:  # noqa: N803
        matrix = validate_data(self, X, reset=learning, dtype="numeric")
        clients, events = matrix.shape
        table = pa.table(
            {
                "client": pa.array(np.arange(clients)),
                "day": pa.array([list(range(events))] * clients, pa.list_(pa.int64())),
                "value": pa.array(
                    [row.tolist() for row in np.asarray(matrix, float)], pa.list_(pa.float64())
                ),
            }
        )
        return ClientRows(table, "client", "day", pd.RangeIndex(clients), resampled=False)

    def _remember_columns(self, X: Any) -> None:  # noqa: N803
        pass

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        tags.input_tags.allow_nan = False
        tags.no_validation = False
        return tags


class EmbedderOnMatrix(_OnMatrix, SequenceEmbedder):
    """See the module's text."""


class AggregatesOnMatrix(_OnMatrix, AggregateFeatures):
    """See the module's text."""


FAILING: dict[type, dict[str, str]] = {
    EmbedderOnMatrix: {
        "check_fit2d_1sample": (
            "contrastive learning compares clients: it needs two, and says so in a TrainingError"
        ),
        "check_fit2d_1feature": (
            "a sequence of one event has no two parts to compare: a TrainingError says so"
        ),
    },
    AggregatesOnMatrix: {},
}
"""Checks that cannot pass, and why."""


def checks(estimator: BaseEstimator) -> list[Any]:
    """(estimator, check) pairs with readable ids."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = list(estimator_checks_generator(estimator))
    return [
        pytest.param(*pair, id=f"{type(estimator).__name__}-{name_of(pair[1])}") for pair in pairs
    ]


def name_of(check: Any) -> str:
    return name_of(check.func) if isinstance(check, partial) else str(check.__name__)


@pytest.mark.parametrize(
    ("estimator", "check"), [*checks(SequenceEmbedder(**TINY)), *checks(AggregateFeatures())]
)
def test_the_checks_that_need_no_x_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [*checks(EmbedderOnMatrix(**TINY)), *checks(AggregatesOnMatrix(numeric=["value"]))],
)
def test_all_checks_pass_on_a_matrix_read_as_sequences(estimator: Any, check: Any) -> None:
    reason = FAILING[type(estimator)].get(name_of(check))
    if reason is None:
        check(estimator)
        return
    with pytest.raises(TrainingError):
        check(estimator)


@pytest.mark.parametrize("estimator", [SequenceEmbedder(), AggregateFeatures()])
def test_the_tags_say_what_x_is(estimator: Any) -> None:
    tags = get_tags(estimator)
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.one_d_array
    assert not tags.target_tags.required
    assert tags.requires_fit
    assert get_tags(estimator.set_params(events="events.parquet")).input_tags.one_d_array
