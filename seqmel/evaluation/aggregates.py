"""Hand-crafted aggregates, one row per client: the features of LightGBM without any embedding.

They are counts; sum, mean, standard deviation, minimum and maximum of the numeric columns, overall
and per frequent category value; fractions of the category values, of the items of sets and of the
words of texts; gaps and times. This extends the hand-crafted baseline of CoLES (Babaev et al.,
arXiv 2002.08232). `order_blocks` adds features of the event order. DuckDB groups by (client,
value), and the result is streamed into one float32 matrix, so only that matrix is held in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from seqmel.core.errors import ConfigError
from seqmel.core.units import DAY_US, DAYS_SINCE_MONDAY
from seqmel.data.kinds.registry import check_events, kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, present_sql, time_sql
from seqmel.data.sources.source import EventSource, reading
from seqmel.evaluation.aggregate_blocks import (
    BATCH_ROWS,
    Block,
    Place,
    Statistic,
    category_parts,
    item_block,
    number_parts,
    order_events,
    other_parts,
    value_block,
)
from seqmel.evaluation.feature_names import unique_names
from seqmel.evaluation.order_blocks import OrderPlan

if TYPE_CHECKING:
    from seqmel.inference.as_of import Moments

__all__ = ["AggregatePlan"]

_HOUR_US = 3_600_000_000
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TWO_WEEKS_US = 14 * DAY_US
_MOST_COLUMNS = (
    5_000  # tens of numbers times tens of categories would otherwise be more columns than clients
)
_SHARE = Statistic("share", "count(*) / any_value(n)", "share of the events", 0.0)
_SPREAD = {
    "mean": ("avg({x})", "mean"),
    "std": ("stddev_samp({x})", "standard deviation"),
    "min": ("min({x})", "least"),
    "max": ("max({x})", "largest"),
}
_OF_NUMBER = {"sum": ("coalesce(sum({x}), 0)", "sum")} | _SPREAD


@dataclass(frozen=True)
class AggregatePlan:
    """The choice of features. It is fitted without labels; other clients then get the same columns.

    Attributes:
        schema: the role of each column of the events.
        values: categorical column -> its most frequent values as text, None for null. Each of these
            values has its own features.
        items: set or text column -> its most frequent items or words. Each has its own features.
        origin_us: time of the earliest event in microseconds, the origin of day features.
        hours: whether events have a time of day.
        weekdays: whether the events span at least two weeks, so that weekdays are informative.
        order: the features of the event order; None for none.

    Examples:
        >>> import seqmel
        >>> source = seqmel.open_events(seqmel.generate_card_data(3).events)
        >>> plan = seqmel.AggregatePlan.fit(source, seqmel.infer_schema(source))
        >>> plan.compute(source).index.name
        'client_id'
    """

    schema: EventSchema
    values: dict[str, tuple[str | None, ...]]
    origin_us: int
    hours: bool
    weekdays: bool
    order: OrderPlan | None = None
    items: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        source: EventSource,
        schema: EventSchema,
        *,
        most_categories: int = 50,
        order: bool = False,
        most_order_columns: int = 2_000,
    ) -> AggregatePlan:
        """Choose the features by the frequency of the category values.

        Args:
            source: the events.
            schema: the role of each column of the events.
            most_categories: maximum number of values of a categorical column, items of a set or
                words of a text with their own features. Fewer values of a category are chosen if
                that would make more than 5,000 features.
            order: whether to add features of the event order.
            most_order_columns: maximum number of these features.

        Returns:
            The plan.

        Raises:
            ConfigError: `most_categories` or `most_order_columns` is below 1.
            InputError, SchemaError: a column is missing, or a client id or time is null or cannot
                be read.
        """
        for option, given in (
            ("most_categories", most_categories),
            ("most_order_columns", most_order_columns),
        ):
            if given < 1:
                raise ConfigError(f"{option} is {given}. Expected 1 or more.")
        check_events(source, schema)
        beside = max((len(_numbers_beside(schema, c)) for c in schema.categorical), default=0)
        a_value = 2 + len(_OF_NUMBER) * beside
        most = min(
            most_categories, max(1, _MOST_COLUMNS // (a_value * max(1, len(schema.categorical))))
        )
        first, last, daily = source.row(
            f"SELECT coalesce(min(t), 0), coalesce(max(t), 0), coalesce(bool_and(t % {DAY_US} = "
            f"0), true) FROM (SELECT {time_sql(source, schema)} AS t FROM events)"
        )
        frequent = {
            column: _frequent(source, schema, column, most_categories)
            for column in schema.categorical
        }
        values = {column: texts[:most] for column, texts in frequent.items()}
        found = None
        if order:
            _register_clients(source, schema)
            found = OrderPlan.fit(source, schema, frequent, most_columns=most_order_columns)
        items = {c: _frequent_items(source, schema, c, most_categories) for c in schema.kinds}
        weekdays = last - first >= _TWO_WEEKS_US
        return cls(schema, values, first, not daily, weekdays, found, items)

    def compute(self, source: EventSource, moments: Moments | None = None) -> pd.DataFrame:
        """Compute the aggregates of every client of `source`, including clients without events.

        Args:
            source: the events.
            moments: clients and moments, as `read_moments` returns them. Each gets one row,
                computed from the client's events before the moment. None computes one row per
                client from all events.

        Returns:
            (clients, features) float32, in order of first appearance, indexed by client id; with
            `moments` in their order, indexed by client id and moment. A count, sum or fraction of
            no events is 0, other undefined statistics are NaN. Null, NaN and infinite numbers are
            ignored. Results are clipped to the range of float32.

        Raises:
            InputError, SchemaError: a column is missing, or a client id or time is null or cannot
                be read.
        """
        check_events(source, self.schema)
        index = _register_clients(source, self.schema, moments)
        coded = self.order.values if self.order else self.values
        order_events(source, self.schema, list(coded.values()))
        names = self.columns
        out = np.empty((len(index), len(names)), np.float32)
        first = 0
        for block in self._blocks():
            if len(block):
                block.fill(out[:, first : first + len(block)], source)
            first += len(block)
        frame: pd.DataFrame = pd.DataFrame(out, index=index, columns=names, copy=False)
        return frame

    @property
    def columns(self) -> list[str]:
        """The names of the columns of `compute`: letters, digits and underscores."""
        return unique_names(itertools.chain(*(block.names for block in self._blocks())))

    @property
    def plain_columns(self) -> list[str]:
        """The columns that do not depend on the event order; they come first in `columns`."""
        return self.columns[: sum(map(len, self._plain_blocks()))]

    @property
    def descriptions(self) -> dict[str, str]:
        """Name of each column -> its meaning."""
        words = itertools.chain(*(block.words for block in self._blocks()))
        return dict(zip(self.columns, words, strict=True))

    def _blocks(self) -> list[Block]:
        return self._plain_blocks() + (self.order.blocks(self.schema) if self.order else [])

    def _plain_blocks(self) -> list[Block]:
        return [_overall(self), _gaps(), *_within_values(self), *_with_items(self), *_cycles(self)]


def _numbers_beside(schema: EventSchema, column: str) -> tuple[str, ...]:
    """Return the numbers that events with a category can have: those of a table that has both.

    Within the table itself, only numbers that several tables have say something new.
    """
    if not schema.sources:
        return schema.numeric
    tables = {name: {*schema.sources_of(name)} for name in schema.features}
    return tuple(
        name
        for name in schema.numeric
        if (len(tables[name]) > 1 if column == schema.source else tables[name] & tables[column])
    )


def _frequent(
    source: EventSource, schema: EventSchema, column: str, most: int
) -> tuple[str | None, ...]:
    text = category_text(source, column)
    return _commonest(
        source, f"SELECT {text} AS value FROM events WHERE {present_sql(schema, column)}", most
    )


def _frequent_items(
    source: EventSource, schema: EventSchema, column: str, most: int
) -> tuple[str, ...]:
    kind = kind_of(schema, column)
    items = kind.items_sql(kind.value_sql(source, column))
    if items is None:
        return ()
    every = f"SELECT unnest({items}) AS value FROM events WHERE {present_sql(schema, column)}"
    return _commonest(source, f"FROM ({every}) WHERE value IS NOT NULL", most)


def _commonest(source: EventSource, values: str, most: int) -> tuple[Any, ...]:
    """Return the most frequent of the `value` of an SQL query, by falling frequency."""
    rows = source.rows(
        f"SELECT value, count(*) FROM ({values}) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {most}"
    )
    return tuple(value for value, _ in rows)


def _register_clients(
    source: EventSource, schema: EventSchema, moments: Moments | None = None
) -> pd.Index[Any]:
    """Create the table `aggregate_clients` and return the index of its rows.

    Its column names start with two underscores, so that they do not clash with columns of the
    events.
    """
    if moments is not None:
        client, moment = moments.table.columns
        rows = pa.table(
            {
                "client": client,
                "moment": pa.array(moments.time_us),
                "row": pa.array(range(len(moments))),
            }
        )
        with reading(moments.label):
            source.connection.register("aggregate_moments", rows)
        selected = (
            "client AS __client, moment AS __moment, row::INTEGER AS __client_index FROM "
            "aggregate_moments"
        )
        source.query(f"CREATE OR REPLACE TABLE aggregate_clients AS SELECT {selected}")
        names = [schema.client, schema.time]
        both: pd.Index[Any] = pd.MultiIndex.from_arrays(
            [client.to_pandas(), moment.to_pandas()], names=names
        )
        return both
    source.query(
        "CREATE OR REPLACE TABLE aggregate_clients AS SELECT client AS __client, NULL::BIGINT AS "
        "__moment, (row_number() OVER (ORDER BY first) - 1)::INTEGER AS __client_index FROM "
        f"({source.clients_sql(schema.client)})"
    )
    ids = source.stream(
        "SELECT __client FROM aggregate_clients ORDER BY __client_index", BATCH_ROWS
    ).read_all()
    index: pd.Index[Any] = pd.Index(ids.column(0).to_pandas(), name=schema.client)
    return index


def _of_numbers(schema: EventSchema, names: Container[str]) -> list[Statistic]:
    return [
        Statistic(
            f"{part}_{statistic}", sql.format(x=f"x{i}"), (f"{words} of {name} over events"), absent
        )
        for i, (name, part) in enumerate(number_parts(schema))
        if name in names
        for statistic, (sql, words) in _OF_NUMBER.items()
        for absent in [0.0 if statistic == "sum" else np.nan]
    ]


def _overall(plan: AggregatePlan) -> Block:
    """Counts, days and statistics of the numeric columns, over all events of a client."""
    from_origin = "in days from the earliest event that the aggregates were fitted on"
    counts = [Statistic("events", "count(*)", "number of events", 0.0)]
    for letter, columns in (
        ("x", number_parts(plan.schema)),
        ("c", category_parts(plan.schema)),
        ("h", other_parts(plan.schema)),
    ):
        counts += [
            Statistic(
                f"{part}_{suffix}", sql.format(x=f"{letter}{i}"), words.format(name=name), 0.0
            )
            for i, (name, part) in enumerate(columns)
            for suffix, sql, words in kind_of(plan.schema, name).statistics
        ]
    days = [
        Statistic(
            "first_day", f"(min(t) - {plan.origin_us}) / {DAY_US}", f"first event, {from_origin}"
        ),
        Statistic(
            "last_day", f"(max(t) - {plan.origin_us}) / {DAY_US}", f"last event, {from_origin}"
        ),
        Statistic(
            "span_days", f"(max(t) - min(t)) / {DAY_US}", "days from the first to the last event"
        ),
    ]
    return Block((*counts, *days, *_of_numbers(plan.schema, plan.schema.numeric)))


def _gaps() -> Block:
    """Statistics of log(1 + seconds) between events; the log because gaps span seconds to years."""
    return Block(
        tuple(
            Statistic(
                f"gap_log_{name}",
                sql.format(x="gap"),
                f"{words} of log(1 + seconds between events)",
            )
            for name, (sql, words) in _SPREAD.items()
        )
    )


def _within_values(plan: AggregatePlan) -> list[Block]:
    """Per frequent category value: the number of its events, and the numeric columns over them."""
    count = Statistic("count", "count(*)", "number of events", 0.0)
    return [
        value_block(
            (count, _SHARE, *_of_numbers(plan.schema, _numbers_beside(plan.schema, column))),
            i,
            column,
            part,
            plan.values[column],
        )
        for i, (column, part) in enumerate(category_parts(plan.schema))
    ]


def _with_items(plan: AggregatePlan) -> list[Block]:
    """Per frequent item of a set, or word of a text: the number and fraction of its events."""
    count = Statistic("count", "count(*)", "number of events", 0.0)
    blocks = []
    for i, (column, part) in enumerate(other_parts(plan.schema)):
        items_sql = kind_of(plan.schema, column).items_sql(f"h{i}")
        items = plan.items.get(column, ())
        if items_sql is not None and items:
            blocks.append(item_block((count, _SHARE), column, part, items, items_sql))
    return blocks


def _cycles(plan: AggregatePlan) -> list[Block]:
    """The fraction of a client's events in each local hour of the day and on each weekday."""
    blocks = []
    zone = " or ".join(plan.schema.time_zones) or "UTC"
    if plan.hours:
        hours = tuple(
            Place(f"hour_{hour:02}", f" in hour {hour} of the day ({zone})") for hour in range(24)
        )
        blocks.append(Block((_SHARE,), hours, _phase("clock", DAY_US, _HOUR_US)))
    if plan.weekdays:
        days = tuple(Place(f"weekday_{day}", f" on the weekday {day}") for day in _WEEKDAYS)
        blocks.append(
            Block(
                (_SHARE,), days, _phase(f"clock + {DAYS_SINCE_MONDAY * DAY_US}", 7 * DAY_US, DAY_US)
            )
        )
    return blocks


def _phase(t: str, period: int, part: int) -> str:
    """SQL for the part of the period that a time falls in.

    The sum with the period handles times before 1970, whose remainder is negative.
    """
    return f"((({t}) % {period} + {period}) % {period}) // {part}"
