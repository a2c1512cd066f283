"""Hand-crafted aggregates as a scikit-learn transformer, the baseline for embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmel.data.fitting.timeline import open_and_infer, open_for_schema
from seqmel.data.schema import TimeUnit
from seqmel.data.sources.reading import Events
from seqmel.data.vocabulary import CategoryCodes
from seqmel.estimators.base import SequenceTransformer
from seqmel.estimators.options import schema_of
from seqmel.estimators.rows import ClientRows
from seqmel.evaluation.aggregates import AggregatePlan

__all__ = ["AggregateFeatures"]


class AggregateFeatures(SequenceTransformer):
    """Hand-crafted features of each client's events: the baseline for embeddings.

    The features are counts, statistics, fractions, gaps and times. With `order` they include
    features of the event order: the first and last three events, slopes, differences between late
    and early events, decayed sums, transitions, runs, and days since each kind of event.

    Feature names consist of letters, digits and underscores, so LightGBM, XGBoost, CatBoost,
    Parquet and SQL all accept them. An undefined statistic, such as the mean of no values, is NaN.
    Gradient boosting handles NaN; for other models put `SimpleImputer(keep_empty_features=True)` in
    between.

    Args:
        most_categories: maximum number of values of a categorical column with their own features.
        order: whether to add features of the event order.
        most_order_columns: maximum number of such features. Above it, fewer values and transitions
            get features.
        events: where to look up the client ids, if X holds client ids: one table, or name -> table
            for several. A path or table is read again by each fit and transform; `EventSequences`
            are not.
        client: the column with the client id; None infers it.
        time: the column with the time; None infers it.
        time_unit: unit of numeric times; None infers it.
        time_format: format of times that are text, such as "%d.%m.%Y"; None infers it.
        time_zone: zone in which the calendar is read, such as "Europe/Paris"; None for UTC.
        categorical: the categorical columns; None infers them.
        numeric: the numeric columns; None infers them.
        numeric_by: numeric column -> categorical column by whose values it is scaled.
        kinds: column -> its kind, for others than these two, such as "hashed" or "text".
        ignore: columns to leave out.

    Attributes:
        plan_: the fitted `AggregatePlan`.
        feature_descriptions_: name of each feature -> its meaning.
        schema_: the role of each column of the events.

    Examples:
        >>> import pandas as pd
        >>> from seqmel import AggregateFeatures
        >>> days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-09"])
        >>> events = pd.DataFrame({"client": [7, 7, 7], "time": days, "amount": [1.0, 2.0, 6.0]})
        >>> features = AggregateFeatures(events=events).fit([7])
        >>> names = ["amount_mean", "amount_last1", "amount_last_minus_first"]
        >>> found = features.transform([7])[names]
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
        time_zone: str | None = None,
        categorical: Sequence[str] | None = None,
        numeric: Sequence[str] | None = None,
        numeric_by: dict[str, str] | None = None,
        kinds: dict[str, str] | None = None,
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
        self.time_zone = time_zone
        self.categorical = categorical
        self.numeric = numeric
        self.numeric_by = numeric_by
        self.kinds = kinds
        self.ignore = ignore

    def fit(self, X: Any, y: Any = None) -> AggregateFeatures:  # noqa: N803
        """Choose the features by the frequency of the categories. Labels are not used.

        Args:
            X: `EventSequences`, a table of events (one row per event, or one row per client and
                list columns), name -> table for several, or client ids if `events` is set.
            y: ignored.

        Returns:
            The fitted transformer.

        Raises:
            InputError, SchemaError: X or its columns cannot be used.
            ConfigError: a parameter is out of range.
        """
        options = schema_of(self.get_params(deep=False), source=type(self).__name__)
        rows = self._rows(X, learning=True)
        rows.check_matched(y, "y", ordered=True)
        source, schema = open_and_infer(rows.to_learn_from(), rows.named(options))
        plan = AggregatePlan.fit(
            source,
            schema,
            most_categories=self.most_categories,
            order=self.order,
            most_order_columns=self.most_order_columns,
        )
        source.connection.close()
        self.plan_ = plan
        self.schema_ = plan.schema
        self.feature_descriptions_ = plan.descriptions
        self._remember_columns(X)
        return self

    def _features(self, rows: ClientRows) -> npt.NDArray[np.float32]:
        client = self.schema_.client
        source = open_for_schema(rows.to_transform(client), self.schema_, _known(self.plan_))
        found = self.plan_.compute(source).to_numpy()
        source.connection.close()
        return found

    def _names(self) -> list[str]:
        return self.plan_.columns


def _known(plan: AggregatePlan) -> dict[str, CategoryCodes | None]:
    """The columns whose text has features; a CSV reader keeps it as it is written."""
    coded = plan.order.values if plan.order else plan.values
    known = {name: tuple(v for v in values if v is not None) for name, values in coded.items()}
    codes = {name: CategoryCodes(values=values, null=False) for name, values in known.items()}
    return codes | dict.fromkeys(plan.schema.kinds)
