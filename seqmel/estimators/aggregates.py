"""Hand-crafted aggregates as a scikit-learn transformer: the baseline with the same interface as the embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmel.data.fitting.schema_inference import infer_schema
from seqmel.data.schema import TimeUnit
from seqmel.data.sources.reading import Events, open_events
from seqmel.data.vocabulary import CategoryCodes
from seqmel.estimators.base import SequenceTransformer
from seqmel.estimators.options import schema_of
from seqmel.estimators.rows import ClientRows
from seqmel.evaluation.aggregates import AggregatePlan

__all__ = ["AggregateFeatures"]


class AggregateFeatures(SequenceTransformer):
    """Hand-crafted features of each client's events: the baseline that embeddings are compared with.

    Counts, statistics, shares, gaps and times; with `order`, also what depends on the order of the events: the first and
    last three, slopes, late against early events, sums that decay, transitions, runs, days since each kind.

    Names are letters, digits and underscores, so that LightGBM, XGBoost, CatBoost, Parquet and SQL all take them;
    `feature_descriptions_` says what they mean. Statistics that are not defined, such as the mean of no number, are NaN:
    gradient boosting takes them as they are; for other models put a `SimpleImputer(keep_empty_features=True)` between.

    Args:
        most_categories: how many values of a categorical column at most get columns of their own.
        order: whether to add what depends on the order of the events.
        most_order_columns: how many columns that may be; with more, fewer values and transitions take part.
        events: where to look up client ids, for an X of client ids; a path or table is read anew by each fit and
            transform, `EventSequences` are not.
        client, time, time_unit, time_format, categorical, numeric, numeric_by, ignore: what the columns are, as in the section
            `schema` of a config; whatever is not said is inferred.

    Attributes:
        plan_: the fitted `AggregatePlan`.
        feature_descriptions_: name of each column -> what it means.
        schema_: which column is what.

    Examples:
        >>> import pandas as pd
        >>> days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-09"])
        >>> events = pd.DataFrame({"client": [7, 7, 7], "time": days, "amount": [1.0, 2.0, 6.0]})
        >>> features = AggregateFeatures(events=events).fit([7])
        >>> found = features.transform([7])[["amount_mean", "amount_last1", "amount_last_minus_first"]]
        >>> found.to_numpy().tolist()
        [[3.0, 6.0, 5.0]]
        >>> features.feature_descriptions_["amount_last_minus_first"]
        'last minus first known value of amount'
    """

    _fitted = "plan_"

    def __init__(
        self,
        *,
        most_categories: int = 50,
        order: bool = True,
        most_order_columns: int = 2_000,
        events: Events | None = None,
        client: str | None = None,
        time: str | None = None,
        time_unit: TimeUnit | None = None,
        time_format: str | None = None,
        categorical: Sequence[str] | None = None,
        numeric: Sequence[str] | None = None,
        numeric_by: dict[str, str] | None = None,
        ignore: Sequence[str] = (),
    ) -> None:
        self.most_categories = most_categories
        self.order = order
        self.most_order_columns = most_order_columns
        self.events = events
        self.client = client
        self.time = time
        self.time_unit = time_unit
        self.time_format = time_format
        self.categorical = categorical
        self.numeric = numeric
        self.numeric_by = numeric_by
        self.ignore = ignore

    def fit(self, X: Any, y: Any = None) -> AggregateFeatures:  # noqa: N803
        """Choose the columns by the frequency of the categories; labels are not looked at.

        Args:
            X: see `transform`.
            y: ignored.

        Raises:
            InputError, SchemaError: X or its columns cannot be used.
            ConfigError: a parameter out of range.
        """
        options = schema_of(self.get_params(deep=False), source=type(self).__name__)
        rows = self._rows(X, learning=True)
        source = open_events(rows.to_learn_from(), client=rows.client, categories=options.categories)
        named = {"time": rows.time or options.time, "time_format": rows.time_format or options.time_format}
        options = options.model_copy(update={"client": rows.client} | named)
        plan = AggregatePlan.fit(
            source,
            infer_schema(source, options),
            most_categories=self.most_categories,
            order=self.order,
            most_order_columns=self.most_order_columns,
        )
        source.connection.close()
        self.plan_, self.schema_, self.feature_descriptions_ = plan, plan.schema, plan.descriptions
        self._remember_columns(X)
        return self

    def _features(self, rows: ClientRows) -> npt.NDArray[np.float32]:
        client = self.schema_.client
        source = open_events(rows.to_transform(client), client=client, categories=_known(self.plan_))
        found = self.plan_.compute(source).to_numpy()
        source.connection.close()
        return found

    def _names(self) -> list[str]:
        return self.plan_.columns


def _known(plan: AggregatePlan) -> dict[str, CategoryCodes]:
    """The categories that have columns, so that CSV keeps their text."""
    coded = plan.order.values if plan.order else plan.values
    known = {name: tuple(v for v in values if v is not None) for name, values in coded.items()}
    return {name: CategoryCodes(values=values, null=False) for name, values in known.items()}
