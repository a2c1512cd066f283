"""Fit the vocabulary on partitions of events.

Spark adds the counts of the partitions. Scales are fitted on the same sample of whole clients as in
the embedded engine, which is small enough for the driver.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seqmel.core.errors import ConfigError
from seqmel.core.units import DAY_US
from seqmel.data.fitting.vocabulary_fitting import (
    fit_columns,
    fit_kinds,
    one_in,
    sample_sql,
    time_scale,
    with_time_zones,
)
from seqmel.data.kinds.base import FitOptions
from seqmel.data.kinds.category import category_codes, category_counts_sql
from seqmel.data.kinds.number import text_name
from seqmel.data.kinds.registry import KINDS
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import Unusable, check_columns, time_sql
from seqmel.data.sources.parts import PartReader
from seqmel.data.sources.reading import client_twice, nameless_rows
from seqmel.data.sources.source import ROW, EventSource, connect, ident
from seqmel.data.vocabulary import Vocabulary
from seqmel.inference.spark.session import spark_errors
from seqmel.inference.spark.source import SparkEvents

__all__ = ["Counted", "count_events", "fit_vocabulary_spark"]

_BATCH = 100_000
_FACTS = pa.schema(
    [
        ("kind", pa.int32()),
        ("value", pa.string()),
        ("n", pa.int64()),
        ("low", pa.int64()),
        ("high", pa.int64()),
    ]
)
# Kinds of counts; from 0 on they are categories.
_ROWS, _NO_CLIENT, _NO_TIME, _NOT_A_TIME, _TIMES, _NAMELESS, _CLIENT = range(-7, 0)


@dataclass(frozen=True)
class Counted:
    """Counts of one pass over the events. Spark keeps `frame` while the context is open.

    Attributes:
        rows: number of events.
        within_days: number of events that are not at midnight.
        low, high: first and last time, in microseconds.
        frame: a DataFrame (kind, value, n) of the values of categories.
    """

    rows: int
    within_days: int
    low: int
    high: int
    frame: Any


@contextlib.contextmanager
def count_events(
    events: SparkEvents, source: EventSource, schema: EventSchema, *, categories: bool
) -> Iterator[Counted]:
    """Count events, and optionally the values of categories, with the checks of `check_events`.

    Args:
        events: the events in partitions.
        source: the source from `open_spark` for the events.
        schema: the roles of the columns.
        categories: count the values of categories too.

    Yields:
        The counts. Spark frees `frame` when the context closes.

    Raises:
        InputError: see `check_events` and `open_events`.
        SchemaError: see `check_events` and `open_events`.
    """
    from pyspark.sql import functions as F

    check_columns(source, schema)
    counted = tuple(enumerate(schema.categorical)) if categories else ()

    def facts(reader: PartReader) -> Callable[[EventSource], Iterator[pa.RecordBatch]]:
        sql = _facts_sql(reader.source, schema, counted)
        return lambda part: iter(part.stream(sql, _BATCH).read_all().cast(_FACTS).to_batches())

    with spark_errors(source.label):
        mapped = events.map(facts, _FACTS)
        merged = mapped.groupBy("kind", "value").agg(
            F.sum("n").alias("n"), F.min("low").alias("low"), F.max("high").alias("high")
        )
        merged = merged.persist()
    try:
        with spark_errors(source.label):
            counts = _merged(merged, schema, source)
        yield counts
    finally:
        merged.unpersist()


def _merged(merged: Any, schema: EventSchema, source: EventSource) -> Counted:
    """Return the checked counts of all partitions together."""
    from pyspark.sql import functions as F

    sums = [
        F.sum("n").alias("n"),
        F.min("value").alias("value"),
        F.min("low").alias("low"),
        F.max("high").alias("high"),
    ]
    totals = {
        row.kind: row for row in merged.where("kind < 0").groupBy("kind").agg(*sums).collect()
    }
    numbers = {kind: int(row.n) for kind, row in totals.items()}
    if source.nested:
        twice = (
            merged.where(f"kind = {_CLIENT} AND n > 1")
            .orderBy(F.desc("n"), "value")
            .limit(1)
            .collect()
        )
        if numbers[_NAMELESS]:
            raise nameless_rows(numbers[_NAMELESS], schema.client, source.label)
        if twice:
            text = source.columns[schema.client].startswith(("VARCHAR", "ENUM"))
            raise client_twice(
                twice[0].value if text else _Plain(twice[0].value), twice[0].n, source.label
            )
    example = totals[_NOT_A_TIME].value
    unusable = Unusable(numbers[_NO_CLIENT], numbers[_NO_TIME], numbers[_NOT_A_TIME], example)
    unusable.check(schema, source.label)
    times = totals[_TIMES]
    return Counted(numbers[_ROWS], int(times.n), times.low or 0, times.high or 0, merged)


class _Plain(str):
    """Text shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _facts_sql(
    part: EventSource, schema: EventSchema, categories: tuple[tuple[int, str], ...]
) -> str:
    """Return SQL of the counts of a partition; see `_FACTS`."""
    none = "NULL::BIGINT, NULL::BIGINT"
    numbers = (
        f"SELECT count(*) AS n, count(*) FILTER (t % {DAY_US} <> 0) AS within, min(t) AS low, "
        f"max(t) AS high FROM (SELECT {time_sql(part, schema)} AS t FROM events)"
    )
    no_client, no_time, not_a_time, example = "abcd"
    unusable = f"SELECT {Unusable.sql(part, schema)} FROM events"
    selects = [
        f"SELECT {_ROWS}, NULL::VARCHAR, n, {none} FROM ({numbers})",
        f"SELECT {_TIMES}, NULL, within, low, high FROM ({numbers})",
        *(
            (
                f"SELECT {kind}, {value}, {name}, {none} FROM ({unusable}) u({no_client}, "
                f"{no_time}, {not_a_time}, {example})"
            )
            for kind, value, name in (
                (_NO_CLIENT, "NULL", no_client),
                (_NO_TIME, "NULL", no_time),
                (_NOT_A_TIME, example, not_a_time),
            )
        ),
        *(
            (f"SELECT {i}, value, n, {none} FROM ({category_counts_sql(part, column)})")
            for i, column in categories
        ),
    ]
    if part.nested:
        key = ident(schema.client)
        selects.append(
            f"SELECT {_NAMELESS}, NULL, count(*), {none} FROM nested WHERE {key} IS NULL"
        )
        selects.append(
            f"SELECT {_CLIENT}, {key}::VARCHAR, count(*), {none} FROM nested GROUP BY ALL"
        )
    named = "kind, value, n, low, high"
    return f"SELECT {named} FROM ({' UNION ALL '.join(selects)}) facts({named})"


def fit_vocabulary_spark(
    events: SparkEvents,
    source: EventSource,
    schema: EventSchema,
    counted: Counted,
    *,
    min_count: int,
    max_categories: int,
) -> Vocabulary:
    """Fit the same vocabulary as `fit_vocabulary` on the same events.

    Args:
        events: the events in partitions.
        source: the source from `open_spark` for the events.
        schema: the roles of the columns.
        counted: their counts from `count_events`, with categories.
        min_count: rarer categories share a code.
        max_categories: the largest number of codes per column.

    Returns:
        The vocabulary.

    Raises:
        InputError: see `fit_vocabulary`.
        SchemaError: see `fit_vocabulary`.
    """
    with spark_errors(source.label):
        codes = _codes(counted, schema, min_count, max_categories)
    categorical = {
        column: category_codes(column, values, nulls=nulls, known=known, label=source.label)
        for column, (values, nulls, known) in zip(schema.categorical, codes, strict=True)
    }
    sample = EventSource(connect(memory_limit=events.memory_limit), source.label, source.columns)
    chosen = _sample(events, source, schema, one_in(counted.rows, schema))
    sample.connection.register(
        "sample", chosen if len(chosen) else _sample(events, source, schema, 1)
    )
    for column, role in schema.kinds.items():
        if KINDS[role].needs_events:
            raise ConfigError(
                f"Spark does not fit columns of the kind {role}, such as {column!r}. Train on a "
                "part of the events without Spark, or leave the column out (schema.ignore)."
            )
    options = FitOptions(min_count, max_categories)
    numeric = fit_columns(sample, schema, schema.numeric, categorical, options)
    kinds = fit_kinds(sample, schema, categorical, options)
    time = time_scale(sample, daily=not counted.within_days, low=counted.low, high=counted.high)
    time = with_time_zones(time, schema, categorical, source.label)
    sample.connection.close()
    return Vocabulary(categorical=categorical, numeric=numeric, kinds=kinds, time=time)


def _codes(
    counted: Counted, schema: EventSchema, min_count: int, max_categories: int
) -> list[tuple[list[str], int, int]]:
    """Return frequent values (most frequent first), nulls and known values of each category."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    counts = counted.frame.where("kind >= 0")
    totals = (
        counts.groupBy("kind", F.col("value").isNull().alias("null"))
        .agg(F.sum("n").alias("n"))
        .collect()
    )
    numbers = {(row.kind, row.null): int(row.n) for row in totals}
    place = F.row_number().over(Window.partitionBy("kind").orderBy(F.desc("n"), "value"))
    frequent = counts.where(f"value IS NOT NULL AND n >= {min_count}").withColumn("place", place)
    rows = frequent.where(f"place <= {max_categories}").orderBy("kind", "place").collect()
    values: list[list[str]] = [[] for _ in schema.categorical]
    for row in rows:
        values[row.kind].append(row.value)
    return [
        (values[i], numbers.get((i, True), 0), numbers.get((i, False), 0))
        for i in range(len(values))
    ]


def _sample(events: SparkEvents, source: EventSource, schema: EventSchema, share: int) -> pa.Table:
    """Return the table `sample` of `fit_vocabulary`. Its columns have plain names within Spark."""
    texts = [text_name(schema, c) for c in sorted(set(schema.numeric_by.values()))]
    names = ["__client", "__time", ROW, *schema.numeric, *texts]
    kinds = [
        pa.string(),
        pa.int64(),
        pa.int64(),
        *(pa.float64() for _ in schema.numeric),
        *(pa.string() for _ in texts),
    ]
    plain = pa.schema([(f"x{i}", kind) for i, kind in enumerate(kinds)])
    casts = [
        "VARCHAR",
        "BIGINT",
        "BIGINT",
        *("DOUBLE" for _ in schema.numeric),
        *("VARCHAR" for _ in texts),
    ]
    columns = ", ".join(
        f"{ident(n)}::{cast} AS x{i}" for i, (n, cast) in enumerate(zip(names, casts, strict=True))
    )

    def sampled(reader: PartReader) -> Callable[[EventSource], Iterator[pa.RecordBatch]]:
        sql = f"SELECT {columns} FROM ({sample_sql(reader.source, schema, share)})"
        return lambda part: iter(part.stream(sql, _BATCH).read_all().cast(plain).to_batches())

    with spark_errors(source.label):
        table: pa.Table = events.map(sampled, plain).toArrow()
    return table.rename_columns(names)
