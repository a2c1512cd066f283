"""Base classes of the estimators on event sequences: parameters, feature names, tags and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from seqmel.core.errors import ConfigError, ModelError
from seqmel.estimators.options import PARTS, changed, options_of_part
from seqmel.estimators.rows import ClientRows, client_rows
from seqmel.model import TrainedModel

__all__ = [
    "NotFittedModelError",
    "Pretrained",
    "SequenceEstimator",
    "SequenceTransformer",
    "checked_pretrained",
]


Estimator = TypeVar("Estimator", bound="SequenceEstimator")


class NotFittedModelError(ModelError, NotFittedError):  # type: ignore[misc]
    """Raised when an estimator is used before `fit`. It is also scikit-learn's `NotFittedError`."""


class SequenceEstimator(BaseEstimator):  # type: ignore[misc]
    """Base class of estimators with one event sequence per row of X.

    X is `EventSequences`, a table of events (one row per event, or one row per client and list
    columns), or client ids that are looked up in the parameter `events`. A subclass has the
    parameters `events`, `client` and `time`, and its `fit` sets the attribute that `_fitted` names.
    """

    _fitted: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters.

        Args:
            deep: whether to add the options of the parts, such as `encoder__hidden_size`.

        Returns:
            Name -> value.
        """
        parameters: dict[str, Any] = super().get_params(deep=False)
        if not deep:
            return parameters
        nested = {
            f"{part}__{option}": value
            for part in PARTS
            if part in parameters
            for option, value in options_of_part(part, parameters[part]).items()
        }
        return parameters | nested

    def set_params(self: Estimator, **params: Any) -> Estimator:
        """Change parameters.

        Args:
            **params: new values by name. `encoder__hidden_size=64` changes one option of a part and
                keeps its other options. `fit` checks the values.

        Returns:
            The estimator.

        Raises:
            ConfigError: no such parameter, or a part without options.
        """
        for name, value in changed(
            self.get_params(deep=False), params, source=type(self).__name__
        ).items():
            setattr(self, name, value)
        return self

    def _rows(self, X: Any, *, learning: bool = False) -> ClientRows:  # noqa: N803
        known = getattr(self, "schema_", None) if not learning else None
        said = known.time_format if known is not None else getattr(self, "time_format", None)
        return client_rows(
            X,
            events=self.events,
            client=self.client,
            time=self.time,
            time_format=said,
            learning=learning,
        )

    def _remember_columns(self, X: Any) -> None:  # noqa: N803
        """Set scikit-learn's attributes for the columns of X, if X has named columns."""
        names = getattr(X, "columns", None)
        for attribute in ("feature_names_in_", "n_features_in_"):
            if hasattr(self, attribute):
                delattr(self, attribute)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(list(names), dtype=object)
            self.n_features_in_ = len(names)

    def _check_fitted(self) -> None:
        if not hasattr(self, self._fitted):
            raise NotFittedModelError(
                f"This {type(self).__name__} is not fitted yet. Call fit first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, self._fitted)

    def __sklearn_tags__(self) -> Any:
        """Tags for scikit-learn.

        X is not a numeric matrix, so checks that fit on random numbers do not apply.
        """
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = self.events is not None  # an array of client ids
        tags.input_tags.string = tags.input_tags.categorical = self.events is not None
        tags.input_tags.allow_nan = True  # among the values of the events
        tags.no_validation = True
        return tags


class SequenceTransformer(TransformerMixin, SequenceEstimator):  # type: ignore[misc]
    """Base class of transformers: each sequence becomes one row of float32 features."""

    def _features(self, rows: ClientRows) -> npt.NDArray[np.float32]:
        """Return the (rows, features) values. Subclasses implement it."""
        raise NotImplementedError

    def _names(self) -> list[str]:
        """Return the names of the features. Subclasses implement it."""
        raise NotImplementedError

    def transform(self, X: Any) -> pd.DataFrame:  # noqa: N803
        """Compute one row of float32 features per row of X.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set. A client
                that occurs twice gets two rows. An id without events gets the features of an empty
                sequence.

        Returns:
            A (rows, features) DataFrame. Its index is that of a pandas X, so that the features can
            be joined with other columns of X; else it is the client id. If X has one row per event,
            the rows are its clients, in order of first appearance.
            `set_output(transform="polars")` gives a polars DataFrame.

        Raises:
            InputError, SchemaError: X is none of these, or lacks a column that `fit` had.
            ModelError: not fitted yet. It is also scikit-learn's `NotFittedError`.
        """
        self._check_fitted()
        rows = self._rows(X)
        frame: pd.DataFrame = pd.DataFrame(
            self._features(rows), index=rows.index, columns=self._names(), copy=False
        )
        return frame

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Return the names of the columns of `transform`.

        Args:
            input_features: ignored.

        Returns:
            (features,) names.

        Raises:
            ModelError: not fitted yet.
        """
        self._check_fitted()
        return np.array(self._names(), dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Tags for scikit-learn: the output is float32 for any input."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


Pretrained: TypeAlias = str | Path | TrainedModel | SequenceEstimator
"""A model to start from: a model folder, a `Model`, or a fitted estimator with a model."""


def checked_pretrained(given: Any) -> str | Path | TrainedModel:
    """Return a model folder or `Model` unchanged, and the model of a fitted estimator.

    An estimator is replaced by its model because scikit-learn's clones of it are not fitted.

    Args:
        given: a model folder, a `Model`, or a fitted estimator with a model.

    Returns:
        The folder or the model.

    Raises:
        ModelError: the estimator is not fitted. It is also scikit-learn's `NotFittedError`.
        ConfigError: `given` is none of these.
    """
    if isinstance(given, (str, Path, TrainedModel)):
        return given
    if not isinstance(given, SequenceEstimator) or given._fitted != "model_":
        raise ConfigError(
            f"Cannot continue from a {type(given).__name__}. Expected a model folder, a Model, or "
            "a fitted SequenceEmbedder."
        )
    if not hasattr(given, given._fitted):
        raise NotFittedModelError(
            f"The {type(given).__name__} to continue from is not fitted, or was cloned, which "
            "leaves its model behind. Fit it, and give its model: pretrained=embedder.model_."
        )
    model: TrainedModel = given.model_
    return model
