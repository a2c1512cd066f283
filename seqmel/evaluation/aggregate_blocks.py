"""The parts that aggregates are made of: events in order as one table of DuckDB, and queries that group them by client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    "number_parts",
    "order_events",
    "value_block",
    "value_name",
    "value_words",
]

BATCH_ROWS = 100_000
_CLIP = 1e100  # squares of larger numbers overflow in the standard deviation
_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Statistic:
    """What is computed of the events of a client, or of those of a client at one place.

    Attributes:
        name: the feature's name, or the first part of it where there are places.
        sql: an aggregate over the table of `order_events`.
        words: what it means.
        absent: its value where there are no events.
    """

    name: str
    sql: str
    words: str
    absent: float = np.nan


@dataclass(frozen=True)
class Place:
    """A part of the events, such as those with one value of a category or in one hour of the day."""

    name: str = ""
    words: str = ""


@dataclass(frozen=True)
class Block:
    """Features that one query computes: for every place the same statistics.

    Attributes:
        statistics: what is computed.
        places: the parts of the events; one that is all of them where they are not divided.
        number: SQL for the number of an event's place.
        events: SQL for the table of the events that take part.
    """

    statistics: tuple[Statistic, ...]
    places: tuple[Place, ...] = (Place(),)
    number: str = "0"
    events: str = "aggregate_events"

    @property
    def names(self) -> list[str]:
        """All names of the first place, then those of the second, and so on; not yet unique."""
        return [feature_name(s.name, place.name) for place in self.places for s in self.statistics]

    @property
    def words(self) -> list[str]:
        """What the features mean, in the same order."""
        return [f"{s.words}{place.words}" for place in self.places for s in self.statistics]

    def __len__(self) -> int:
        return len(self.places) * len(self.statistics)

    def fill(self, out: npt.NDArray[np.float32], source: EventSource) -> None:
        """Write the features to `out`, (clients, features); `order_events` has made the table."""
        width = len(self.statistics)
        out[:] = np.tile(np.array([s.absent for s in self.statistics], np.float32), len(self.places))
        values = ", ".join(f"({s.sql})::DOUBLE" for s in self.statistics)
        stream = source.stream(
            f"SELECT client_index, {self.number}, {values} FROM {self.events} GROUP BY 1, 2", BATCH_ROWS
        )
        with reading(source.label):
            for batch in stream:
                client, place, *columns = (c.to_numpy(zero_copy_only=False) for c in batch.columns)
                for i, column in enumerate(columns):
                    out[client, place * width + i] = np.clip(column, -_FLOAT32, _FLOAT32)


def category_parts(schema: EventSchema) -> list[tuple[str, str]]:
    """The categorical columns, each with its part of the names of features."""
    return [(column, name_part(column, f"category{i + 1}")) for i, column in enumerate(schema.categorical)]


def number_parts(schema: EventSchema) -> list[tuple[str, str]]:
    """The numeric columns, each with its part of the names of features."""
    return [(column, name_part(column, f"number{i + 1}")) for i, column in enumerate(schema.numeric)]


def value_block(statistics: Sequence[Statistic], i: int, column: str, part: str, values: Sequence[str | None]) -> Block:
    """The same statistics of the events with each of these values of category `i`, whose codes are 0, 1, ... ."""
    places = (
        Place(f"{part}_{value_name(values, code)}", f" with {value_words(column, value)}")
        for code, value in enumerate(values)
    )
    events = f"(FROM aggregate_events WHERE k{i} BETWEEN 0 AND {len(values) - 1})"
    return Block(tuple(statistics), tuple(places), f"k{i}", events)


def value_name(values: Sequence[str | None], code: int) -> str:
    """A value of a category as part of the names of features."""
    value = values[code]
    return "null" if value is None else name_part(value, f"value{code + 1}")


def value_words(column: str, value: str | None) -> str:
    """Which value of a category it is."""
    return f"{column} = null" if value is None else f"{column} = {value!r}"


def order_events(source: EventSource, schema: EventSchema, values: Sequence[Sequence[str | None]]) -> None:
    """Make the table `aggregate_events` from the events and the table `aggregate_clients`; DuckDB spills it where it is large.

    Its columns: client_index; `n`, the events of the client; `t` in microseconds; `p`, the place from 1 on in order of time;
    `back`, the events that follow; `quarter`, a quarter of `n`, rounded up; `age` in days until the moment, or until the last
    event; `gap`, ln(1 + seconds since the event before). For each category the text `c0`, the code `k0` (place among `values`, -1
    for others), that of the event before `b0`, whether the text differs from it `d0` and the length of the run of equal texts so
    far `r0`. For each number the finite value `x0`.

    Args:
        source: the events, with `aggregate_clients` registered.
        schema: which column is what.
        values: for each category, the values that have a code.
    """
    categories = range(len(schema.categorical))
    coded = "".join(_coded(i, values[i]) for i in categories if values[i])
    codes = "".join(f", {f'coalesce(v{i}.code, -1)' if values[i] else '-1'} AS k{i}" for i in categories)
    changes = "".join(f", c{i} IS DISTINCT FROM lag(c{i}) OVER w AND p > 1 AS d{i}, lag(k{i}) OVER w AS b{i}"
                      for i in categories)  # fmt: skip
    runs = "".join(
        f", p - max(CASE WHEN d{i} OR p = 1 THEN p END) OVER (PARTITION BY client_index ORDER BY p"
        f" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) + 1 AS r{i}" for i in categories
    )  # fmt: skip
    source.query(
        f"CREATE OR REPLACE TEMP TABLE aggregate_events AS WITH flat AS ({_flat_sql(source, schema)}),"
        f" placed AS (SELECT flat.*{codes}, row_number() OVER w AS p,"
        " count(*) OVER (PARTITION BY client_index) AS n, max(t) OVER (PARTITION BY client_index) AS latest,"
        " ln(1 + (t - lag(t) OVER w) / 1e6) AS gap"
        f" FROM flat{coded} WINDOW w AS (PARTITION BY client_index ORDER BY t, place_in_input)),"
        " changed AS (SELECT *, n - p AS back, (n + 3) // 4 AS quarter,"
        f" (coalesce(moment, latest) - t) / {DAY_US} AS age{changes}"
        " FROM placed WINDOW w AS (PARTITION BY client_index ORDER BY p))"
        f" SELECT * EXCLUDE (moment, latest, place_in_input){runs} FROM changed"
    )


def _coded(i: int, values: Sequence[str | None]) -> str:
    """A join that gives the values of a category their codes."""
    rows = ", ".join(f"({'NULL' if v is None else literal(v)}::VARCHAR, {code})" for code, v in enumerate(values))
    return f" LEFT JOIN (VALUES {rows}) AS v{i}(value, code) ON c{i} IS NOT DISTINCT FROM v{i}.value"


def _flat_sql(source: EventSource, schema: EventSchema) -> str:
    """One row an event before the moment of its row in `aggregate_clients`, or one of all where that is null."""
    time = time_sql(source, schema)
    texts = [f"{category_text(source, c)} AS c{i}" for i, c in enumerate(schema.categorical)]
    numbers = [f"{_finite(ident(c) + '::DOUBLE')} AS x{i}" for i, c in enumerate(schema.numeric)]
    selected = ", ".join([f"{time} AS t", *texts, *numbers, f"{ROW} AS place_in_input"])
    return (
        f"SELECT __client_index AS client_index, __moment AS moment, {selected}"
        f" FROM events JOIN (SELECT * FROM aggregate_clients) ON {ident(schema.client)} = __client"  # a table has a rowid
        f" WHERE __moment IS NULL OR {time} < __moment"
    )


def _finite(x: str) -> str:
    return f"CASE WHEN isfinite({x}) THEN greatest(-{_CLIP}, least({_CLIP}, {x})) END"
