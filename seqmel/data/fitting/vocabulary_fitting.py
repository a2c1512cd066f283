"""Fit the vocabulary.

Category codes are fitted on all events, scales of numbers and gaps on a sample of whole clients.
Counts over all events are sums over partitions, so that a distributed engine can fit the same
vocabulary.
"""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seqmel.core.errors import SchemaError
from seqmel.data.encoding.column_fitting import finite, gaps, middle_magnitudes, quantiles, within
from seqmel.data.encoding.column_reading import whole_columns
from seqmel.data.encoding.columns import Category, EventColumns, evaluate_sql
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import (
    DAY_US,
    EventTimes,
    category_text,
    present_sql,
    time_sql,
    times_of,
)
from seqmel.data.sources.source import ROW, EventSource, ident
from seqmel.data.vocabulary import (
    CategoryCodes,
    NumericScale,
    NumericScales,
    SourceColumns,
    TimeScale,
    Vocabulary,
)

__all__ = [
    "category_codes",
    "category_counts_sql",
    "fit_scales",
    "fit_vocabulary",
    "one_in",
    "sample_sql",
    "text_name",
    "time_scale",
]

# Scales are quantiles. A sample of whole clients of this size gives at least two digits.
_SAMPLE_ROWS = 400_000
# The sample if numbers have a scale per category, because some categories are rare.
_SAMPLE_ROWS_WITHIN = 2_000_000
_GAP_ROWS = 100_000  # Sampled events that are sorted for the gap scale, which is two numbers.
_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_FARTHEST = sys.float_info.max
_MIN_WITHIN = 20  # Categories with fewer values get no scale of their own.
_HEAVY_TAIL = (
    # (p99 - median) / interquartile range is 1.7 for a normal, 3.7 for an exponential distribution.
    10.0
)


def fit_vocabulary(
    source: EventSource, schema: EventSchema, *, min_count: int = 5, max_categories: int = 20_000
) -> Vocabulary:
    """Fit category codes and numeric scales on the training events.

    Args:
        source: the training events.
        schema: the roles of the columns.
        min_count: categorical values with fewer events are rare and share code 1 with unseen ones.
        max_categories: maximum number of values per column with a code of their own.

    Returns:
        The vocabulary.

    Raises:
        InputError: see `check_events`.
        SchemaError: see `check_events`; also if a feature has only nulls.
    """
    columns = whole_columns(source, schema)
    times = times_of(source, schema)
    if columns is not None:
        return _fit_on_columns(
            source, schema, columns, times, min_count=min_count, max_categories=max_categories
        )
    categorical = {
        # No table is too rare to have a code.
        c: _fit_categories(
            source, schema, c, 1 if c == schema.source else min_count, max_categories
        )
        for c in schema.categorical
    }
    for share in (one_in(times.events, schema), 1):  # With few clients, the sample may be empty.
        source.query(f"CREATE OR REPLACE TABLE sample AS {sample_sql(source, schema, share)}")
        if source.rows("SELECT 1 FROM sample LIMIT 1"):
            break
    numeric = fit_scales(source, schema, categorical)
    time = time_scale(source, daily=times.daily, low=times.low_us, high=times.high_us)
    vocabulary = Vocabulary(
        categorical=categorical,
        numeric=numeric,
        time=time,
        source=schema.source,
        sources=_source_columns(source, schema, time),
    )
    source.query("DROP TABLE sample")
    return vocabulary


def _source_columns(
    source: EventSource, schema: EventSchema, time: TimeScale
) -> dict[str, SourceColumns]:
    """Return the columns of each of several tables, and the scale of its gaps in `sample`.

    A table without gaps has the scale of all events.
    """
    if schema.source is None:
        return {}
    found = source.rows(
        f"SELECT __key, {_quantiles_sql('gap')} FROM (SELECT __key, __time - lag(__time) OVER"
        f" (PARTITION BY __client, __key ORDER BY __time, {ROW}) AS gap FROM sample)"
        " WHERE gap > 0 GROUP BY 1"
    )
    scales = {name: _gap_scale(q) for name, q in found}
    return {
        name: SourceColumns(
            columns=(*table.columns.values(),),
            gap_center=scales[name].center if name in scales else time.gap_center,
            gap_scale=scales[name].scale if name in scales else time.gap_scale,
        )
        for name, table in schema.sources.items()
    }


def _fit_on_columns(
    source: EventSource,
    schema: EventSchema,
    columns: EventColumns,
    times: EventTimes,
    *,
    min_count: int,
    max_categories: int,
) -> Vocabulary:
    """Fit as `fit_vocabulary` does with the table `sample`, on the same sample, but in memory."""
    with ThreadPoolExecutor(columns.threads) as pool:
        counted = {
            c: pool.submit(_frequent, x, min_count, max_categories)
            for c, x in columns.categories.items()
        }
        sample, for_gaps = _samples(source, schema, columns)
        between = pool.submit(gaps, for_gaps)
        sorting = {c: pool.submit(finite, sample, c) for c in schema.numeric}
        numbers = {c: x.result() for c, x in sorting.items()}
        middles = [pool.submit(middle_magnitudes, x) for x in numbers.values()]
    categorical = {}
    for c, frequent in counted.items():
        values, nulls = frequent.result()
        categorical[c] = category_codes(
            c, values, nulls=nulls, known=times.events - nulls, label=source.label
        )
    sorted_gaps = between.result()
    q_gaps, *found = quantiles(
        source,
        [
            (sorted_gaps if len(sorted_gaps) else gaps(sample), _SHARES),
            *((x, _SHARES) for x in numbers.values()),
            *((x.result(), (0.5,)) for x in middles),
        ],
    )
    q, medians = found[: len(numbers)], found[len(numbers) :]
    numeric = {}
    for c, shares, median in zip(numbers, q, medians, strict=True):
        overall = _scale_of(shares, median[0] if median else None) if shares else None
        by = schema.numeric_by.get(c)
        groups = _groups_on_columns(source, c, by, sample) if by and overall else {}
        numeric[c] = _numeric_scales(c, source.label, overall, by, groups, categorical)
    time = _time_scale(q_gaps, times.daily, times.low_us, times.high_us)
    return Vocabulary(categorical=categorical, numeric=numeric, time=time)


def _frequent(category: Category, least: int, most: int) -> tuple[list[str], int]:
    """See `Category.frequent` and `Category.nulls`."""
    return category.frequent(least, most), category.nulls


def _samples(
    source: EventSource, schema: EventSchema, columns: EventColumns
) -> tuple[EventColumns, EventColumns]:
    """Return the samples for the scales of numbers and of gaps, with the same clients as in SQL."""
    share = one_in(len(columns.time), schema)
    if share == 1 and not _one_in_of_gaps(len(columns.time)):
        return columns, columns
    hashes = evaluate_sql(
        source, schema.client, columns.ids, f"hash({ident(schema.client)}::VARCHAR)"
    )
    chosen = hashes % share == 0
    if share == 1 or not columns.lengths[chosen].any():
        chosen, sample = np.ones(len(hashes), np.bool_), columns
    else:
        sample = columns.of(chosen, (*schema.numeric, *schema.numeric_by.values()))
    fewer = _one_in_of_gaps(len(sample.time))
    return sample, sample.of(hashes[chosen] // 1_024 % fewer == 0, ()) if fewer else sample


def category_counts_sql(source: EventSource, column: str, where: str = "true") -> str:
    """Return SQL of the values of a category as text, and their counts.

    Counts of partitions of the events can be added.
    """
    counts = f"(SELECT {ident(column)}, count(*) AS __n FROM events WHERE {where} GROUP BY 1)"
    return (
        f"SELECT {category_text(source, column)} AS value, sum(__n)::BIGINT AS n FROM "
        f"{counts} GROUP BY 1"
    )


def _fit_categories(
    source: EventSource, schema: EventSchema, column: str, min_count: int, max_categories: int
) -> CategoryCodes:
    counts = category_counts_sql(source, column, present_sql(schema, column))
    (_, nulls, known), *frequent = source.rows(
        f"WITH counted AS MATERIALIZED ({counts}), sums AS (SELECT "
        "NULL::VARCHAR AS value, NULL::BIGINT AS n, coalesce(sum(n) FILTER (value IS NULL), 0) AS "
        "nulls, coalesce(sum(n) FILTER (value IS NOT NULL), 0) AS known FROM counted), frequent AS "
        f"(SELECT value, n, 0, 0 FROM counted WHERE value IS NOT NULL AND n >= {min_count} ORDER "
        f"BY n DESC, value LIMIT {max_categories}) SELECT value, nulls, known FROM (FROM sums "
        "UNION ALL FROM frequent) ORDER BY n DESC NULLS FIRST, value"
    )
    return category_codes(
        column, [value for value, *_ in frequent], nulls=nulls, known=known, label=source.label
    )


def category_codes(
    column: str, frequent: list[str], *, nulls: int, known: int, label: str
) -> CategoryCodes:
    """Return the codes of a column: values by falling frequency, ties in byte order.

    Args:
        column: name of the column.
        frequent: the frequent values, most frequent first.
        nulls: number of nulls.
        known: number of events with a value.
        label: name of the input, for the message.

    Raises:
        SchemaError: there are no values.
    """
    if not known:
        raise SchemaError(
            f"Column {column!r} of {label} holds only nulls. Leave it out of schema.categorical."
        )
    return CategoryCodes(values=tuple(frequent), null=nulls > 0)


def one_in(rows: int, schema: EventSchema) -> int:
    """Return k such that one in k clients is in the sample for the scales.

    Args:
        rows: number of events.
        schema: the roles of the columns.
    """
    return max(1, -(-rows // (_SAMPLE_ROWS_WITHIN if schema.numeric_by else _SAMPLE_ROWS)))


def sample_sql(source: EventSource, schema: EventSchema, one_in: int) -> str:
    """Return SQL of the events of whole clients, chosen by hash.

    The choice is deterministic and does not depend on the order or partition of the rows. Columns:
    __client, __time, the row, the numbers under their names, the text of categories within which
    numbers are scaled, and __key, the table of the event, if there are several.

    Args:
        source: the events.
        schema: the roles of the columns.
        one_in: one in how many clients is in the sample.
    """
    columns = ", ".join(f"{ident(c)}" for c in schema.numeric)
    texts = ", ".join(
        f"{category_text(source, c)} AS {text_name(schema, c)}"
        for c in sorted(set(schema.numeric_by.values()))
    )
    table = f"{ident(schema.source)} AS __key" if schema.source is not None else ""
    selected = ", ".join(x for x in (columns, texts, table) if x)
    return (
        f"SELECT {ident(schema.client)} AS __client, {time_sql(source, schema)} AS __time,"
        f" {ROW}{', ' + selected if selected else ''} FROM events"
        + (f" WHERE {chosen}" if (chosen := _in_sample_sql(ident(schema.client), one_in)) else "")
    )


def _in_sample_sql(client: str, one_in: int) -> str:
    """Return SQL of whether a client is in the sample; empty if all are."""
    return f"hash({client}::VARCHAR) % {one_in} = 0" if one_in > 1 else ""


def text_name(schema: EventSchema, column: str) -> str:
    """Return the name of a category's text in the sample, which no column of events can have."""
    return f"__text_{schema.categorical.index(column)}"


def fit_scales(
    source: EventSource, schema: EventSchema, categorical: dict[str, CategoryCodes]
) -> dict[str, NumericScales]:
    """Fit the scales of all numbers on the table `sample`.

    Args:
        source: the events, with the table `sample`.
        schema: the roles of the columns.
        categorical: the fitted codes of the categories.

    Returns:
        Column -> its scales.
    """
    return {c: _fit_scales(source, c, schema, categorical) for c in schema.numeric}


def _quantiles_sql(x: str) -> str:
    return f"quantile_cont({x}, {list(_SHARES)})"


def _fit_scales(
    source: EventSource, column: str, schema: EventSchema, categorical: dict[str, CategoryCodes]
) -> NumericScales:
    x = ident(column) + "::DOUBLE"
    overall = _group_scales(source, f"SELECT NULL::VARCHAR AS key, {x} AS x FROM sample", 1).get(
        None
    )
    by = schema.numeric_by.get(column)
    text = text_name(schema, by) if by else ""
    groups = (
        _group_scales(source, f"SELECT {text} AS key, {x} AS x FROM sample", _MIN_WITHIN)
        if by and overall
        else {}
    )
    return _numeric_scales(column, source.label, overall, by, groups, categorical)


def _groups_on_columns(
    source: EventSource, column: str, by: str, sample: EventColumns
) -> dict[str | None, NumericScale]:
    source.connection.register("within_given", within(sample, column, by))
    groups = _group_scales(source, "SELECT key, x FROM within_given", _MIN_WITHIN)
    source.connection.unregister("within_given")
    return groups


def _numeric_scales(
    column: str,
    label: str,
    overall: NumericScale | None,
    by: str | None,
    groups: dict[str | None, NumericScale],
    categorical: dict[str, CategoryCodes],
) -> NumericScales:
    """Return the scales of a column; `groups` are by the text of the category."""
    if overall is None:
        raise SchemaError(
            f"Column {column!r} of {label} holds no finite number. Leave it out of schema.numeric."
        )
    if by is None:
        return NumericScales(overall=overall)
    codes = categorical[by]
    within = (
        groups.get(None) if codes.null else None,
        None,
        *(groups.get(v) for v in codes.values),
    )
    return NumericScales(overall=overall, by=by, within=within)


def _group_scales(source: EventSource, rows: str, smallest: int) -> dict[str | None, NumericScale]:
    """Fit one scale per `key` of the numbers `x` of an SQL query.

    Keys with fewer than `smallest` finite values are skipped. The key None is null.
    """
    found = source.rows(
        f"SELECT key, count(*), median(abs(x)) FILTER (x <> 0), {_quantiles_sql('x')}"
        f" FROM ({rows}) WHERE isfinite(x) GROUP BY key"
    )
    return {key: _scale_of(q, unit) for key, n, unit, q in found if n >= smallest}


def _scale_of(q: list[float], unit: float | None) -> NumericScale:
    """Return the scale for these quantiles, with a logarithm in units of `unit` for a heavy tail.

    The logarithm is monotonic, so its quantiles are the logarithms of the quantiles.
    """
    if not unit or not _is_heavy(q):
        return _scale(q, None)
    return _scale([math.copysign(math.log1p(abs(x) / unit), x) for x in q], unit)


def _is_heavy(q: list[float]) -> bool:
    spread = (q[4] - q[2]) or (q[5] - q[1]) or (q[6] - q[0])
    return spread > 0 and max(q[6] - q[3], q[3] - q[0]) > _HEAVY_TAIL * spread


def _scale(q: list[float], log_unit: float | None) -> NumericScale:
    """Return median and scale.

    The scale is the first non-zero range of 25-75, 5-95 and 1-99 %, in standard deviations of a
    normal distribution. Infinite ranges are clipped.
    """
    q = [max(-_FARTHEST, min(_FARTHEST, x)) for x in q]
    widths = ((q[4] - q[2]) / 1.349, (q[5] - q[1]) / 3.290, (q[6] - q[0]) / 4.653)
    center = q[3] + 0.0  # -0.0 and 0.0 sort in any order; always return 0.0.
    return NumericScale(
        log_unit=log_unit,
        center=center,
        scale=next((min(w, _FARTHEST) for w in widths if w > 1e-12), 1.0),
    )


def time_scale(source: EventSource, *, daily: bool, low: int, high: int) -> TimeScale:
    """Fit the time scale from the first and last event (microseconds) and gaps in `sample`.

    Args:
        source: the events, with the table `sample`.
        daily: whether all times are whole days.
        low: the first time, in microseconds.
        high: the last time, in microseconds.
    """
    (rows,) = source.row("SELECT count(*) FROM sample")
    fewer = _one_in_of_gaps(rows)
    where = f" WHERE hash(__client::VARCHAR) // 1_024 % {fewer} = 0" if fewer else ""
    q = _gap_quantiles(source, where) or _gap_quantiles(source, "")
    return _time_scale(q, daily, low, high)


def _one_in_of_gaps(rows: int) -> int:
    """Return the subsampling factor of clients for gaps; 0 if all clients are used."""
    return -(-rows // _GAP_ROWS) if rows > 2 * _GAP_ROWS else 0


def _time_scale(q: list[float] | None, daily: bool, low: int, high: int) -> TimeScale:
    """Return the time scale; `q` are quantiles of gaps in microseconds, or None without gaps."""
    usual = _gap_scale(q) if q else NumericScale(log_unit=None, center=0.0, scale=1.0)
    return TimeScale(
        daily=daily,
        span_days=(high - low) / DAY_US,
        gap_center=usual.center,
        gap_scale=usual.scale,
        end_us=high,
    )


def _gap_scale(q: list[float]) -> NumericScale:
    """Return the scale of ln(1 + gap in seconds); `q` are quantiles of gaps in microseconds."""
    found = _scale([math.log1p(gap / 1e6) for gap in q], None)
    return found.model_copy(update={"scale": max(found.scale, 0.1)})


def _gap_quantiles(source: EventSource, where: str) -> list[float] | None:
    """Return quantiles of the positive gaps of sampled clients, in microseconds.

    It is None if there are no such gaps.
    """
    (q,) = source.row(
        f"SELECT {_quantiles_sql('gap')} FROM (SELECT __time - lag(__time) OVER"
        f" (PARTITION BY __client ORDER BY __time, {ROW}) AS gap FROM sample{where}) WHERE gap > 0"
    )
    found: list[float] | None = q
    return found
