"""Hand-crafted features of the event order, which change under a permutation of a client's events.

- Ends: the values of the first and last events, and the days since each kind of event.
- Trends: slopes, late against early events, and decayed sums, overall and per kind.
- Succession: transitions between kinds, changes and runs.

An analyst would add these to plain aggregates, so embeddings are compared with both.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import DAY_US
from seqmel.data.sources.source import EventSource, literal
from seqmel.evaluation.aggregate_blocks import (
    Block,
    Place,
    Statistic,
    category_parts,
    number_parts,
    order_events,
    value_block,
    value_name,
    value_words,
)

__all__ = ["OrderPlan"]

_ENDS = 3  # number of first and of last events whose values are features
_TRANSITIONS = 60
_HALF_LIVES = 8  # half-lives in the median time span of a client
_RECENT_EVENTS = 3.0  # half-life in events
_ORDINALS = ("", "second ", "third ")


@dataclass(frozen=True)
class OrderPlan:
    """The choice of features of the event order.

    Attributes:
        values: categorical column -> its most frequent values. The code of a value is its index.
        kinds: categorical column -> the number of most frequent values with their own features.
        transitions: categorical column -> its most frequent pairs of codes of successive events; -1
            is a value without a code.
        half_life_days: half-life of the weights in decayed sums, in days.
    """

    values: dict[str, tuple[str | None, ...]]
    kinds: dict[str, int]
    transitions: dict[str, tuple[tuple[int, int], ...]]
    half_life_days: float

    @classmethod
    def fit(
        cls,
        source: EventSource,
        schema: EventSchema,
        values: dict[str, tuple[str | None, ...]],
        *,
        most_columns: int,
    ) -> OrderPlan:
        """Choose kinds and transitions by frequency.

        Args:
            source: the events, with `aggregate_clients` registered.
            schema: the role of each column of the events.
            values: categorical column -> its most frequent values.
            most_columns: maximum number of features; fewer kinds and transitions are chosen above
                it.

        Returns:
            The plan.
        """
        order_events(source, schema, list(values.values()))
        half_life = source.row(
            "SELECT coalesce(median(span), 0) FROM (SELECT max(age) AS span FROM aggregate_events"
            " GROUP BY client_index HAVING count(*) > 1)"
        )[0]
        transitions = {column: _frequent_pairs(source, i) for i, column in enumerate(values)}
        for most in range(max(map(len, values.values()), default=1), -1, -1):
            kinds = {column: min(most, len(texts)) for column, texts in values.items()}
            few = {column: pairs[: max(2 * most, 4)] for column, pairs in transitions.items()}
            plan = cls(values, kinds, few, max(half_life / _HALF_LIVES, 1e-9))
            if sum(map(len, plan.blocks(schema))) <= most_columns:
                break
        return plan

    def blocks(self, schema: EventSchema) -> list[Block]:
        """The queries that compute the features."""
        whole = [*_ends(schema), *_trends(schema, self.half_life_days), *_runs(schema)]
        whole += _holidays(schema)
        blocks = [Block(tuple(whole))]
        for i, (column, part) in enumerate(category_parts(schema)):
            values = self.values[column][: self.kinds[column]]
            pairs = self.transitions[column]
            of_kind = (*_of_kind(self.half_life_days), *_within_kind(schema))
            blocks.append(value_block(of_kind, i, column, part, values))
            blocks.append(_transitions(i, column, part, self.values[column], pairs))
        return blocks


def _frequent_pairs(source: EventSource, i: int) -> tuple[tuple[int, int], ...]:
    rows = source.rows(
        f"SELECT b{i}, k{i}, count(*) FROM aggregate_events WHERE b{i} IS NOT NULL GROUP BY 1, 2"
        f" ORDER BY 3 DESC, 1, 2 LIMIT {_TRANSITIONS}"
    )
    return tuple((before, after) for before, after, _ in rows)


def _ends(schema: EventSchema) -> list[Statistic]:
    """The values of the first and the last events."""
    found = []
    for k in range(_ENDS):
        for end, place, word in (
            ("last", f"back = {k}", "last"),
            ("first", f"p = {k + 1}", "first"),
        ):
            name = f"{end}{k + 1}"
            event = f"the {_ORDINALS[k]}{word} event"
            for i, (column, part) in enumerate(category_parts(schema)):
                words = (
                    f"code of {column} at {event}: rank of the value by frequency, from 0; "
                    f"-1 for a rare value"
                )
                found.append(Statistic(f"{part}_{name}", f"max(k{i}) FILTER ({place})", words))
            for i, (column, part) in enumerate(number_parts(schema)):
                found.append(
                    Statistic(
                        f"{part}_{name}", f"max(x{i}) FILTER ({place})", f"{column} at {event}"
                    )
                )
        event = f"the {_ORDINALS[k]}last event"
        gap = f"max(gap) FILTER (back = {k})"
        age = f"max(age) FILTER (back = {k})"
        found.append(
            Statistic(
                f"gap_log_last{k + 1}", gap, f"log(1 + seconds) from the event before to {event}"
            )
        )
        found.append(
            Statistic(
                f"days_since_last{k + 1}",
                age,
                f"days from {event} to the moment, or else to the last event",
            )
        )
    return found


def _trends(schema: EventSchema, half_life_days: float) -> list[Statistic]:
    """Trends of numbers and gaps: end values, early and late means, slopes, decayed means."""
    found = []
    gap = ("log(1 + seconds between events)", "gap_log")
    columns = [*((f"x{i}", *c) for i, c in enumerate(number_parts(schema))), ("gap", *gap)]
    for x, column, part in columns:
        early = f"avg({x}) FILTER (p <= quarter)"
        late = f"avg({x}) FILTER (back < quarter)"
        last = f"arg_max({x}, p)"
        first = f"arg_min({x}, p)"
        for name, sql, words in (
            ("last_known", last, "last known value of {}"),
            ("last_minus_first", f"{last} - {first}", "last minus first known value of {}"),
            ("last_minus_mean", _difference(last, f"avg({x})"),
             "last known value minus mean of {}"),
            ("early_mean", early, "mean of {} over the first quarter of the events"),
            ("late_mean", late, "mean of {} over the last quarter of the events"),
            ("late_minus_early", _difference(late, early),
             "mean of {} over the last minus over the first quarter"),
            ("slope", f"regr_slope({x}, p / n)", ("slope of {} over the places of the events, "
"from 0 to 1")),
            ("slope_by_day", f"regr_slope({x}, -age)", "slope of {} per day"),
            ("decayed_mean", _decayed_mean(x, f"age / {half_life_days}"),
             f"mean of {{}}, weight halved every {half_life_days:.3g} days back"),
            ("recent_mean", _decayed_mean(x, f"back / {_RECENT_EVENTS}"),
             f"mean of {{}}, weight halved every {_RECENT_EVENTS:g} events back"),
        ):  # fmt: skip
            found.append(Statistic(f"{part}_{name}", sql, words.format(column)))
    return found


def _runs(schema: EventSchema) -> list[Statistic]:
    found = []
    for i, (column, part) in enumerate(category_parts(schema)):
        found += [
            Statistic(
                f"{part}_changes",
                f"count(*) FILTER (d{i})",
                f"how often {column} differs from the event before",
            ),
            Statistic(
                f"{part}_longest_run", f"max(r{i})", f"longest run of events with equal {column}"
            ),
            Statistic(
                f"{part}_last_run",
                f"max(r{i}) FILTER (back = 0)",
                f"length of the last run of equal {column}",
            ),
        ]
    return found


def _holidays(schema: EventSchema) -> list[Statistic]:
    """The fraction of events on a public holiday of their table, in local time."""
    if not schema.calendars:
        return []
    calendars = {name: _among(days) for name, days in schema.calendars.items()}
    common = calendars.pop("", "false")
    own = "".join(
        f"WHEN c{schema.categorical.index(str(schema.source))} = {literal(name)} THEN {among} "
        for name, among in calendars.items()
    )
    there = f"CASE {own}ELSE {common} END" if own else common
    words = "fraction of the client's events on a public holiday"
    return [Statistic("holiday_share", f"avg(({there})::INTEGER)", words)]


def _among(days: Sequence[dt.date]) -> str:
    numbers = ", ".join(str((day - dt.date(1970, 1, 1)).days) for day in days)
    return f"floor(clock / {DAY_US}) IN ({numbers})"


def _of_kind(half_life_days: float) -> list[Statistic]:
    """Timing of the events of one kind: early or late, time since the last one, regularity."""
    late = "count(*) FILTER (back < quarter) / any_value(quarter)"
    early = "count(*) FILTER (p <= quarter) / any_value(quarter)"
    decayed = _weight(f"age / {half_life_days}")
    recent = _weight(f"back / {_RECENT_EVENTS}")
    by_day = f"every {half_life_days:.3g} days"
    by_event = f"every {_RECENT_EVENTS:g} events"
    gap = f"(max(t) - min(t)) / nullif(count(*) - 1, 0) / {DAY_US}"
    return [
        Statistic(
            "late_share", late, "share in the last quarter of the client's events of those", 0.0
        ),
        Statistic(
            "late_minus_early",
            f"{late} - {early}",
            "share in the last minus in the first quarter of those",
            0.0,
        ),
        Statistic("events_since", "min(back)", "events since the last one"),
        Statistic("days_since", "min(age)", "days since the last event"),
        Statistic(
            "decayed_count",
            f"sum({decayed})",
            f"sum of weights, halved {by_day} back, of events",
            0.0,
        ),
        Statistic(
            "recent_count",
            f"sum({recent})",
            f"sum of weights, halved {by_event} back, of events",
            0.0,
        ),
        Statistic("mean_gap_days", gap, "mean days between successive events"),
    ]


def _within_kind(schema: EventSchema) -> list[Statistic]:
    """Trends of the numeric columns over the events of one kind."""
    return [
        Statistic(f"{part}_{name}", sql.format(x=f"x{i}", last=(f"arg_max(x{i}, "
f"p)")), words.format(column))
        for i, (column, part) in enumerate(number_parts(schema))
        for name, sql, words in (
            ("last_known", "{last}", "last known value of {}"),
            ("last_minus_first", "{last} - arg_min({x}, p)", "last minus first known value of {}"),
            ("last_minus_mean", _difference("{last}", "avg({x})"),
             "last known value minus mean of {}"),
            ("late_minus_early", _difference("avg({x}) FILTER (back < quarter)",
                                             "avg({x}) FILTER (p <= quarter)"),
             ("mean of {} in the last minus in the first quarter of the client's events, over "
"those")),
            ("slope_by_day", "regr_slope({x}, -age)", "slope of {} per day"),
        )
    ]  # fmt: skip


def _difference(value: str, mean: str) -> str:
    """Return the SQL of a value minus a mean, 0 where no more than rounding differs.

    The rounding of a mean depends on the order in which threads add up.
    """
    return f"if(abs({value} - {mean}) <= 1e-9 * abs({mean}), 0, {value} - {mean})"


def _transitions(
    i: int,
    column: str,
    part: str,
    values: tuple[str | None, ...],
    pairs: tuple[tuple[int, int], ...],
) -> Block:
    """Counts of events of one kind directly after one of another kind."""

    def named(code: int) -> tuple[str, str]:
        return (
            (value_name(values, code), value_words(column, values[code]))
            if code >= 0
            else ("rare", f"rare {column}")
        )

    places = []
    for before, after in pairs:
        (name, words), (next_name, next_words) = named(before), named(after)
        places.append(
            Place(
                f"{part}_{name}_to_{next_name}", f" with {next_words} right after one with {words}"
            )
        )
    rows = ", ".join(f"({before}, {after}, {place})" for place, (before, after) in enumerate(pairs))
    events = (
        f"aggregate_events JOIN (VALUES {rows}) AS pairs(before, after, place) ON b{i} = "
        f"before AND k{i} = after"
    )
    return Block(
        (Statistic("count", "count(*)", "number of events", 0.0),), tuple(places), "place", events
    )


def _weight(half_lives: str) -> str:
    return f"pow(2, -({half_lives}))"


def _decayed_mean(x: str, half_lives: str) -> str:
    weight = _weight(half_lives)
    return f"sum({x} * {weight}) / nullif(sum({weight}) FILTER ({x} IS NOT NULL), 0)"
