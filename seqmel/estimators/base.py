"""What all estimators on event sequences share: their X, their names, their tags, and what is asked before a fit."""

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
from seqmel.model import Model

__all__ = ["NotFittedModelError", "Pretrained", "SequenceEstimator", "SequenceTransformer", "checked_pretrained"]


Estimator = TypeVar("Estimator", bound="SequenceEstimator")


class NotFittedModelError(ModelError, NotFittedError):  # type: ignore[misc]
    """An estimator that was asked for something before it was fitted; scikit-learn's `NotFittedError` too."""


class SequenceEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator whose X is one sequence of events a row; see `client_rows` for what X may be.

    A subclass has the parameters `events`, `client` and `time`, and sets the attribute named by `_fitted` in `fit`.
    """

    _fitted: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters; `deep` adds the options of the parts, such as `encoder__hidden_size`."""
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
        """Change parameters; `encoder__hidden_size=64` changes one option of a part, where there are any, and leaves its others.

        Raises:
            ConfigError: no such parameter. Values are checked in `fit`.
        """
        for name, value in changed(self.get_params(deep=False), params, source=type(self).__name__).items():
            setattr(self, name, value)
        return self

    def _rows(self, X: Any, *, learning: bool = False) -> ClientRows:  # noqa: N803
        known = getattr(self, "schema_", None) if not learning else None
        said = known.time_format if known is not None else getattr(self, "time_format", None)
        return client_rows(
            X, events=self.events, client=self.client, time=self.time, time_format=said, learning=learning
        )

    def _remember_columns(self, X: Any) -> None:  # noqa: N803
        """What scikit-learn wants to know of the X that was fitted on, where X has named columns."""
        names = getattr(X, "columns", None)
        for attribute in ("feature_names_in_", "n_features_in_"):
            if hasattr(self, attribute):
                delattr(self, attribute)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(list(names), dtype=object)
            self.n_features_in_ = len(names)

    def _check_fitted(self) -> None:
        if not hasattr(self, self._fitted):
            raise NotFittedModelError(f"This {type(self).__name__} is not fitted yet. Call fit first.")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, self._fitted)

    def __sklearn_tags__(self) -> Any:
        """X is no matrix of numbers, so scikit-learn's checks that fit on random numbers do not apply."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = self.events is not None  # an array of client ids
        tags.input_tags.string = tags.input_tags.categorical = self.events is not None
        tags.input_tags.allow_nan = True  # among the values of the events
        tags.no_validation = True
        return tags


class SequenceTransformer(TransformerMixin, SequenceEstimator):  # type: ignore[misc]
    """A `SequenceEstimator` that turns each sequence into float32 columns."""

    def _features(self, rows: ClientRows) -> npt.NDArray[np.float32]:
        """(rows, features), row by row; implemented by the subclass."""
        raise NotImplementedError

    def _names(self) -> list[str]:
        """The names of the features; implemented by the subclass."""
        raise NotImplementedError

    def transform(self, X: Any) -> pd.DataFrame:  # noqa: N803
        """One row of float32 columns for each row of X; nothing is fitted again.

        Args:
            X: EventSequences; or a table with one row a client and list columns; or client ids, where `events` is set. A
                client that comes twice gets two rows, and an id without events the row of an empty sequence.

        Returns:
            A DataFrame indexed by client id; for a pandas X by the index of X, so that it can stand beside other columns
            of X. `set_output(transform="polars")` gives a polars DataFrame.

        Raises:
            InputError, SchemaError: X is none of these, or lacks a column that was there in `fit`.
            ModelError: not fitted yet; it is scikit-learn's `NotFittedError` too.
        """
        self._check_fitted()
        rows = self._rows(X)
        frame: pd.DataFrame = pd.DataFrame(self._features(rows), index=rows.index, columns=self._names(), copy=False)
        return frame

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """The names of the columns that `transform` gives; those of the input do not matter.

        Raises:
            ModelError: not fitted yet.
        """
        self._check_fitted()
        return np.array(self._names(), dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Whatever goes in, float32 comes out."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


Pretrained: TypeAlias = str | Path | Model | SequenceEstimator
"""What an estimator may go on from: a model folder, a `Model`, or a fitted estimator that has one."""


def checked_pretrained(given: Any) -> str | Path | Model:
    """The folder or the `Model`; of a fitted estimator its model, since scikit-learn's clones of it have none.

    Raises:
        ModelError: an estimator that is not fitted; it is scikit-learn's `NotFittedError` too.
        ConfigError: something else.
    """
    if isinstance(given, (str, Path, Model)):
        return given
    if not isinstance(given, SequenceEstimator) or given._fitted != "model_":
        raise ConfigError(
            f"Cannot go on from a {type(given).__name__}. Expected a model folder, a Model, or a fitted SequenceEmbedder."
        )
    if not hasattr(given, given._fitted):
        raise NotFittedModelError(
            f"The {type(given).__name__} to go on from is not fitted, or was cloned, which leaves its model behind."
            " Fit it, and give its model: pretrained=embedder.model_."
        )
    model: Model = given.model_
    return model
