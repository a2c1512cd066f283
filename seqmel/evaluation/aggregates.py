"""Hand-crafted aggregates: what LightGBM gets without any embedding, one row a client.

Counts; sum, mean, std, min and max of the numbers, overall and within each frequent category value; shares of the
values; gaps and times. That is the hand-crafted baseline of CoLES (Babaev et al., arXiv 2002.08232) and somewhat more.
DuckDB groups by (client, value), and the long result is scattered into one float32 matrix while it streams: what is
held in memory is the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, check_events, time_sql
from seqmel.data.sources.source import ROW, EventSource, ident, literal, reading

__all__ = ["AggregatePlan"]

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONDAY_US = 3 * _DAY_US  # 1970-01-01 was a Thursday
_TWO_WEEKS_US = 14 * _DAY_US
_MOST_COLUMNS = 5_000  # tens of numbers times tens of categories would otherwise be more columns than clients
_BATCH_ROWS = 100_000
_SHARE = {"count(*) / any_value(events)": 0.0}
_CLIP = 1e100  # squares of larger numbers overflow in the standard deviation
_FLOAT32 = float(np.finfo(np.float32).max)
_SPREAD = {"mean": "avg({x})", "std": "stddev_samp({x})", "min": "min({x})", "max": "max({x})"}
_OF_NUMBER = {"sum": "coalesce(sum({x}), 0)"} | _SPREAD


@dataclass(frozen=True)
class AggregatePlan:
    """Which columns there are; fitted on events without labels, so that other clients get the same columns.

    Attributes:
        schema: which column of the events is what.
        values: categorical column -> its most frequent values as text, None for null; these have columns of their own.
        origin_us: the earliest event, from which the days of first and last event are counted.
        hours: whether events have a time of day.
        weekdays: whether the events span two weeks, so that a weekday is more than a date.
    """

    schema: EventSchema
    values: dict[str, tuple[str | None, ...]]
    origin_us: int
    hours: bool
    weekdays: bool

    @classmethod
    def fit(cls, source: EventSource, schema: EventSchema, *, most_categories: int = 50) -> AggregatePlan:
        """Choose the columns by frequency.

        Args:
            source: the events.
            schema: which column is what.
            most_categories: how many values of a categorical column at most get columns of their own; fewer where
                there are so many numbers and categories that they would make more than 5,000 columns.

        Raises:
            ConfigError: `most_categories` below 1.
            InputError, SchemaError: a column is missing, or a client or a time is null or not to be understood.
        """
        if most_categories < 1:
            raise ConfigError(f"most_categories is {most_categories}. Expected 1 or more.")
        check_events(source, schema)
        a_value = 2 + len(_OF_NUMBER) * len(schema.numeric)
        most = min(most_categories, max(1, _MOST_COLUMNS // (a_value * max(1, len(schema.categorical)))))
        first, last, daily = source.row(
            f"SELECT coalesce(min(t), 0), coalesce(max(t), 0), coalesce(bool_and(t % {_DAY_US} = 0), true)"
            f" FROM (SELECT {time_sql(source, schema)} AS t FROM events)"
        )
        values = {column: _frequent(source, column, most) for column in schema.categorical}
        return cls(schema, values, origin_us=first, hours=not daily, weekdays=last - first >= _TWO_WEEKS_US)

    def compute(self, source: EventSource) -> pd.DataFrame:
        """The aggregates of every client of `source`, also of those with no events.

        Returns:
            float32, one row a client in order of first appearance; the index is the client id, named as in the schema.
            Columns are named like `amount_mean`, `amount_sum[mcc=5411]`, `mcc=5411_share`, `gap_log_mean`. A count, sum
            or share of nothing is 0; any other statistic that is not defined is NaN. Numbers that are null, NaN or
            infinite do not take part; results beyond float32 are cut to its range.

        Raises:
            InputError, SchemaError: see `fit`.
        """
        check_events(source, self.schema)
        ids = _register_clients(source, self.schema)
        names = self.columns
        out = np.empty((len(ids), len(names)), np.float32)
        first, flat = 0, _flat_sql(source, self.schema)
        for block in self._blocks():
            block.fill(out[:, first : first + len(block.names)], source, flat)
            first += len(block.names)
        frame: pd.DataFrame = pd.DataFrame(out, index=ids, columns=names, copy=False)
        return frame

    @property
    def columns(self) -> list[str]:
        """The names of the columns that `compute` gives, in their order."""
        return _unique(itertools.chain(*(block.names for block in self._blocks())))

    def _blocks(self) -> list[_Block]:
        return [_overall(self), _gaps(), *_within_values(self), *_cycles(self)]


@dataclass(frozen=True)
class _Block:
    """Columns that one query fills: for every place (a category value, an hour) the same statistics.

    Attributes:
        names: of the columns, all of the first place first.
        statistics: SQL over the events of one client at one place -> its value where there are no such events.
        place: SQL for the place of an event.
        events: SQL for the events that take part, from the table `flat`.
    """

    names: tuple[str, ...]
    statistics: dict[str, float]
    place: str = "0"
    events: str = "flat"

    def fill(self, out: npt.NDArray[np.float32], source: EventSource, flat: str) -> None:
        """Write the block to `out`, (clients, names)."""
        width = len(self.statistics)
        out[:] = np.tile(np.array(list(self.statistics.values()), np.float32), len(self.names) // width)
        values = ", ".join(f"({sql})::DOUBLE" for sql in self.statistics)
        stream = source.stream(
            f"WITH flat AS ({flat}) SELECT client_index, {self.place}, {values} FROM {self.events} GROUP BY 1, 2",
            _BATCH_ROWS,
        )
        with reading(source.label):
            for batch in stream:
                client, place, *columns = (c.to_numpy(zero_copy_only=False) for c in batch.columns)
                for i, column in enumerate(columns):
                    out[client, place * width + i] = np.clip(column, -_FLOAT32, _FLOAT32)


def _frequent(source: EventSource, column: str, most: int) -> tuple[str | None, ...]:
    text = category_text(source, column)
    rows = source.rows(f"SELECT {text} AS value FROM events GROUP BY 1 ORDER BY count(*) DESC, value LIMIT {most}")
    return tuple(value for (value,) in rows)


def _register_clients(source: EventSource, schema: EventSchema) -> pd.Index[Any]:
    """The table `aggregate_clients`, whose names no event column has; the ids in order of first appearance."""
    source.query(
        "CREATE OR REPLACE TABLE aggregate_clients AS SELECT client AS __client, coalesce(n, 0) AS __events,"
        " (row_number() OVER (ORDER BY first) - 1)::INTEGER AS __client_index"
        f" FROM ({source.clients_sql(schema.client)})"
        f" LEFT JOIN (SELECT {ident(schema.client)} AS seen, count(*) AS n FROM events GROUP BY 1) ON client = seen"
    )
    ids = source.stream("SELECT __client FROM aggregate_clients ORDER BY __client_index", _BATCH_ROWS).read_all()
    index: pd.Index[Any] = pd.Index(ids.column(0).to_pandas(), name=schema.client)
    return index


def _flat_sql(source: EventSource, schema: EventSchema) -> str:
    """One row an event: client_index, events (of its client), t in microseconds, texts c0.., finite numbers x0.. ."""
    texts = [f"{category_text(source, c)} AS c{i}" for i, c in enumerate(schema.categorical)]
    numbers = [f"{_finite(ident(c) + '::DOUBLE')} AS x{i}" for i, c in enumerate(schema.numeric)]
    selected = ", ".join([f"{time_sql(source, schema)} AS t", *texts, *numbers, ROW])
    return (
        f"SELECT __client_index AS client_index, __events AS events, {selected}"
        f" FROM events JOIN aggregate_clients ON {ident(schema.client)} = __client"
    )


def _finite(x: str) -> str:
    return f"CASE WHEN isfinite({x}) THEN greatest(-{_CLIP}, least({_CLIP}, {x})) END"


def _of_numbers(schema: EventSchema) -> dict[str, float]:
    places = range(len(schema.numeric))
    return {sql.format(x=f"x{i}"): _absent(name) for i in places for name, sql in _OF_NUMBER.items()}


def _absent(statistic: str) -> float:
    return 0.0 if statistic == "sum" else np.nan


def _overall(plan: AggregatePlan) -> _Block:
    """Counts, days and the numbers over all events of a client."""
    numbers, categories = plan.schema.numeric, plan.schema.categorical
    days = {
        "first_day": f"(min(t) - {plan.origin_us}) / {_DAY_US}",
        "last_day": f"(max(t) - {plan.origin_us}) / {_DAY_US}",
        "span_days": f"(max(t) - min(t)) / {_DAY_US}",
    }
    counts = {"events": "count(*)"}
    counts |= {f"{name}_known": f"count(x{i})" for i, name in enumerate(numbers)}
    counts |= {f"{name}_distinct": f"count(DISTINCT c{i})" for i, name in enumerate(categories)}
    names = (*counts, *days, *(f"{name}_{statistic}" for name in numbers for statistic in _OF_NUMBER))
    absent = dict.fromkeys(counts.values(), 0.0) | dict.fromkeys(days.values(), np.nan)
    return _Block(names, absent | _of_numbers(plan.schema))


def _gaps() -> _Block:
    """The time between successive events, as log(1 + seconds): it spans seconds to years."""
    gap = f"ln(1 + (t - lag(t) OVER (PARTITION BY client_index ORDER BY t, {ROW})) / 1e6)"
    return _Block(
        names=tuple(f"gap_log_{statistic}" for statistic in _SPREAD),
        statistics={sql.format(x="gap"): np.nan for sql in _SPREAD.values()},
        events=f"(SELECT client_index, {gap} AS gap FROM flat)",
    )


def _within_values(plan: AggregatePlan) -> list[_Block]:
    """For each frequent value of a category: how many events have it, and the numbers over these events."""
    numbers = [f"{name}_{statistic}" for name in plan.schema.numeric for statistic in _OF_NUMBER]
    statistics = {"count(*)": 0.0} | _SHARE | _of_numbers(plan.schema)
    blocks = []
    for i, (column, values) in enumerate(plan.values.items()):
        labels = [f"{column}={'null' if value is None else value}" for value in values]
        names = [(f"{label}_count", f"{label}_share", *(f"{x}[{label}]" for x in numbers)) for label in labels]
        keyed = ", ".join(f"({'NULL' if v is None else literal(v)}::VARCHAR, {p})" for p, v in enumerate(values))
        events = f"flat JOIN (VALUES {keyed}) AS keyed(value, place) ON c{i} IS NOT DISTINCT FROM value"
        blocks.append(_Block(tuple(itertools.chain(*names)), statistics, place="place", events=events))
    return blocks


def _cycles(plan: AggregatePlan) -> list[_Block]:
    """The share of a client's events in each hour of the day (UTC) and on each weekday."""
    blocks = []
    if plan.hours:
        names = tuple(f"hour={hour:02}_share" for hour in range(24))
        blocks.append(_Block(names, _SHARE, place=_phase("t", _DAY_US, _HOUR_US)))
    if plan.weekdays:
        names = tuple(f"weekday={day}_share" for day in _WEEKDAYS)
        blocks.append(_Block(names, _SHARE, place=_phase(f"t + {_MONDAY_US}", 7 * _DAY_US, _DAY_US)))
    return blocks


def _phase(t: str, period: int, part: int) -> str:
    """Which part of the period a time falls in, also before 1970, where the remainder is negative."""
    return f"((({t}) % {period} + {period}) % {period}) // {part}"


def _unique(names: Iterable[str]) -> list[str]:
    """Number the names that come again, as of the value 'null' beside the missing one."""
    seen: dict[str, None] = {}
    for name in names:
        numbered = itertools.chain([name], (f"{name} ({k})" for k in itertools.count(2)))
        seen[next(n for n in numbered if n not in seen)] = None
    return list(seen)
