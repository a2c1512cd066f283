"""Building blocks of the aggregates: a table of ordered events, and queries grouped by client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import DAY_US, category_text, time_sql
from seqmel.data.sources.source import ROW, EventSource, ident, literal, reading
from seqmel.evaluation.feature_names import feature_name, name_part

__all__ = [
    "BATCH_ROWS",
    "Block",
    "Place",
    "Statistic",
    "category_parts",
    "item_block",
    "number_parts",
    "order_events",
    "other_parts",
    "value_block",
    "value_name",
    "value_words",
]

BATCH_ROWS = 100_000
_CLIP = 1e100  # squares of larger numbers overflow in the standard deviation
_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Statistic:
    """A statistic of the events of a client, or of the client's events at one place.

    Attributes:
        name: name of the feature, or its first part if there are places.
        sql: an aggregate over the table of `order_events`.
        words: description of the statistic.
        absent: its value if there are no events.
    """

    name: str
    sql: str
    words: str
    absent: float = np.nan


@dataclass(frozen=True)
class Place:
    """A subset of the events, such as those with one category value or in one hour of the day.

    Attributes:
        name: part of the name of the feature.
        words: description, appended to that of the statistic.
    """

    name: str = ""
    words: str = ""


@dataclass(frozen=True)
class Block:
    """Features that one query computes: the same statistics for every place.

    Attributes:
        statistics: the statistics.
        places: the subsets of the events; a single one holds all events.
        number: SQL expression for the index of an event's place.
        events: SQL for the table of the events to aggregate.
    """

    statistics: tuple[Statistic, ...]
    places: tuple[Place, ...] = (Place(),)
    number: str = "0"
    events: str = "aggregate_events"

    @property
    def names(self) -> list[str]:
        """The names of the features, place by place; not yet unique."""
        return [feature_name(s.name, place.name) for place in self.places for s in self.statistics]

    @property
    def words(self) -> list[str]:
        """The descriptions of the features, in the order of `names`."""
        return [f"{s.words}{place.words}" for place in self.places for s in self.statistics]

    def __len__(self) -> int:
        return len(self.places) * len(self.statistics)

    def fill(self, out: npt.NDArray[np.float32], source: EventSource) -> None:
        """Compute the features. `order_events` must have created the table.

        Args:
            out: (clients, features) array to write to.
            source: the events.
        """
        width = len(self.statistics)
        out[:] = np.tile(
            np.array([s.absent for s in self.statistics], np.float32), len(self.places)
        )
        values = ", ".join(f"({s.sql})::DOUBLE" for s in self.statistics)
        stream = source.stream(
            f"SELECT client_index, {self.number}, {values} FROM {self.events} GROUP BY 1, 2",
            BATCH_ROWS,
        )
        with reading(source.label):
            for batch in stream:
                client, place, *columns = (c.to_numpy(zero_copy_only=False) for c in batch.columns)
                for i, column in enumerate(columns):
                    out[client, place * width + i] = np.clip(column, -_FLOAT32, _FLOAT32)


def category_parts(schema: EventSchema) -> list[tuple[str, str]]:
    """The categorical columns, each with its part of the feature names."""
    return [
        (column, name_part(column, f"category{i + 1}"))
        for i, column in enumerate(schema.categorical)
    ]


def other_parts(schema: EventSchema) -> list[tuple[str, str]]:
    """The columns of other kinds, each with its part of the feature names."""
    return [(column, name_part(column, f"other{i + 1}")) for i, column in enumerate(schema.kinds)]


def number_parts(schema: EventSchema) -> list[tuple[str, str]]:
    """The numeric columns, each with its part of the feature names."""
    return [
        (column, name_part(column, f"number{i + 1}")) for i, column in enumerate(schema.numeric)
    ]


def value_block(
    statistics: Sequence[Statistic], i: int, column: str, part: str, values: Sequence[str | None]
) -> Block:
    """Make a block with one place per value of a categorical column.

    Args:
        statistics: the statistics of the events with each value.
        i: index of the column among the categorical ones.
        column: its name.
        part: its part of the feature names.
        values: the values; their codes are 0, 1, ...

    Returns:
        The block.
    """
    places = (
        Place(f"{part}_{value_name(values, code)}", f" with {value_words(column, value)}")
        for code, value in enumerate(values)
    )
    events = f"(FROM aggregate_events WHERE k{i} BETWEEN 0 AND {len(values) - 1})"
    return Block(tuple(statistics), tuple(places), f"k{i}", events)


def item_block(
    statistics: Sequence[Statistic], column: str, part: str, items: Sequence[str], items_sql: str
) -> Block:
    """Make a block with one place per item of a set, or word of a text.

    Args:
        statistics: the statistics of the events with each item.
        column: its name.
        part: its part of the feature names.
        items: the items.
        items_sql: SQL for the different items of an event.

    Returns:
        The block.
    """
    places = (
        Place(f"{part}_{value_name(items, code)}", f" with {item!r} in {column}")
        for code, item in enumerate(items)
    )
    events = (
        f"(SELECT client_index, n, code FROM (SELECT client_index, n, unnest({items_sql}) AS item "
        f"FROM aggregate_events) JOIN {_codes_of(items)} AS v(value, code) ON item = v.value)"
    )
    return Block(tuple(statistics), tuple(places), "code", events)


def value_name(values: Sequence[str | None], code: int) -> str:
    """The part of the feature names for the category value with this code."""
    value = values[code]
    return "null" if value is None else name_part(value, f"value{code + 1}")


def value_words(column: str, value: str | None) -> str:
    """Description of a category value."""
    return f"{column} = null" if value is None else f"{column} = {value!r}"


def order_events(
    source: EventSource, schema: EventSchema, values: Sequence[Sequence[str | None]]
) -> None:
    """Create the table `aggregate_events` from the events and the table `aggregate_clients`.

    DuckDB spills the table to disk if it is large. It has these columns, where the digit 0 stands
    for the index of a categorical or numeric column:

    client_index   index of the client
    n              number of events of the client
    t              time in microseconds
    clock          local time in microseconds
    p              position in time order, from 1
    back           number of later events
    quarter        a quarter of `n`, rounded up
    age            days until the moment, or until the last event
    gap            ln(1 + seconds since the previous event)
    c0             category as text
    k0             category code: index in `values`, or -1 for other values
    b0             category code of the previous event
    d0             whether the category differs from that of the previous event
    r0             length so far of the run of equal categories
    x0             finite numeric value
    h0             value of a column of another kind

    Args:
        source: the events, with `aggregate_clients` registered.
        schema: the role of each column of the events.
        values: per categorical column, the values that have a code.
    """
    categories = range(len(schema.categorical))
    coded = "".join(_coded(i, values[i]) for i in categories if values[i])
    codes = "".join(
        f", {f'coalesce(v{i}.code, -1)' if values[i] else '-1'} AS k{i}" for i in categories
    )
    changes = "".join((f", c{i} IS DISTINCT FROM lag(c{i}) OVER w AND p > 1 AS d{i}, lag(k{i}) "
f"OVER w AS b{i}")
                      for i in categories)  # fmt: skip
    runs = "".join(
        f", p - max(CASE WHEN d{i} OR p = 1 THEN p END) OVER (PARTITION BY client_index ORDER BY p"
        f" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) + 1 AS r{i}" for i in categories
    )  # fmt: skip
    source.query(
        "CREATE OR REPLACE TEMP TABLE aggregate_events AS WITH flat AS "
        f"({_flat_sql(source, schema)}), placed AS (SELECT flat.*{codes}, row_number() OVER w AS "
        "p, count(*) OVER (PARTITION BY client_index) AS n, max(t) OVER (PARTITION BY "
        f"client_index) AS latest, ln(1 + (t - lag(t) OVER w) / 1e6) AS gap FROM flat{coded} "
        "WINDOW w AS (PARTITION BY client_index ORDER BY t, place_in_input)), changed AS (SELECT "
        f"*, n - p AS back, (n + 3) // 4 AS quarter, (coalesce(moment, latest) - t) / {DAY_US} AS "
        f"age{changes} FROM placed WINDOW w AS (PARTITION BY client_index ORDER BY p)) SELECT * "
        f"EXCLUDE (moment, latest, place_in_input){runs} FROM changed"
    )


def _coded(i: int, values: Sequence[str | None]) -> str:
    """A join that maps the values of a category to their codes."""
    codes = _codes_of(values)
    return f" LEFT JOIN {codes} AS v{i}(value, code) ON c{i} IS NOT DISTINCT FROM v{i}.value"


def _codes_of(values: Sequence[str | None]) -> str:
    """SQL for the table of the values and their codes, which are 0, 1, ..."""
    rows = ", ".join(
        f"({'NULL' if v is None else literal(v)}::VARCHAR, {code})" for code, v in enumerate(values)
    )
    return f"(VALUES {rows})"


def _flat_sql(source: EventSource, schema: EventSchema) -> str:
    """SQL with one row per event before the moment of its client; all events if that is null."""
    time = time_sql(source, schema)
    texts = [f"{category_text(source, c)} AS c{i}" for i, c in enumerate(schema.categorical)]
    numbers = [f"{_finite(ident(c) + '::DOUBLE')} AS x{i}" for i, c in enumerate(schema.numeric)]
    others = [
        f"{kind_of(schema, c).value_sql(source, c)} AS h{i}" for i, c in enumerate(schema.kinds)
    ]
    clock = f"{_clock_sql(schema, time)} AS clock"
    selected = ", ".join(
        [f"{time} AS t", clock, *texts, *numbers, *others, f"{ROW} AS place_in_input"]
    )
    return (
        f"SELECT __client_index AS client_index, __moment AS moment, {selected}"
        # a table has a rowid
        f" FROM events JOIN (SELECT * FROM aggregate_clients) ON {ident(schema.client)} = __client"
        f" WHERE __moment IS NULL OR {time} < __moment"
    )


def _clock_sql(schema: EventSchema, time: str) -> str:
    """SQL for the local time of an event, in microseconds."""

    def local(zone: str | None) -> str:
        if zone is None:
            return time
        return f"epoch_us(timezone({literal(zone)}, make_timestamptz({time})))"

    if schema.source is None:
        return local(schema.time_zone)
    tables = "".join(
        f"WHEN {literal(name)} THEN {local(table.time_zone)} "
        for name, table in schema.sources.items()
        if table.time_zone
    )
    return f"CASE {ident(schema.source)} {tables}ELSE {time} END" if tables else time


def _finite(x: str) -> str:
    return f"CASE WHEN isfinite({x}) THEN greatest(-{_CLIP}, least({_CLIP}, {x})) END"
