"""Fit the vocabulary.

Category codes are fitted on all events, scales of numbers and gaps on a sample of whole clients.
Counts over all events are sums over partitions, so that a distributed engine can fit the same
vocabulary.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from seqmel.core.errors import SchemaError
from seqmel.data.encoding.column_fitting import finite, gaps, middle_magnitudes, quantiles, within
from seqmel.data.encoding.column_reading import whole_columns
from seqmel.data.encoding.columns import Category, EventColumns, evaluate_sql
from seqmel.data.kinds.base import FitOptions
from seqmel.data.kinds.category import category_codes
from seqmel.data.kinds.number import (
    MIN_WITHIN,
    SHARES,
    fraction_missing,
    group_scales,
    numeric_scales,
    quantiles_sql,
    robust_scale,
    scale_of,
    text_name,
)
from seqmel.data.kinds.registry import kind_of
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import (
    DAY_US,
    EventTimes,
    category_text,
    time_sql,
    times_of,
)
from seqmel.data.sources.source import ROW, EventSource, ident
from seqmel.data.vocabulary import (
    FIRST,
    CategoryCodes,
    NumericScale,
    SourceColumns,
    TimeScale,
    Vocabulary,
)

__all__ = [
    "fit_columns",
    "fit_kinds",
    "fit_vocabulary",
    "one_in",
    "sample_sql",
    "time_scale",
    "with_time_zones",
]

# Scales are quantiles. A sample of whole clients of this size gives at least two digits.
_SAMPLE_ROWS = 400_000
# The sample if numbers have a scale per category, because some categories are rare.
_SAMPLE_ROWS_WITHIN = 2_000_000
_GAP_ROWS = 100_000  # Sampled events that are sorted for the gap scale, which is two numbers.


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
    for share in (one_in(times.events, schema), 1):  # With few clients, the sample may be empty.
        source.query(f"CREATE OR REPLACE TABLE sample AS {sample_sql(source, schema, share)}")
        if source.rows("SELECT 1 FROM sample LIMIT 1"):
            break
    options = FitOptions(min_count, max_categories)
    categorical = fit_columns(source, schema, schema.categorical, {}, options)
    numeric = fit_columns(source, schema, schema.numeric, categorical, options)
    time = time_scale(source, daily=times.daily, low=times.low_us, high=times.high_us)
    time = with_time_zones(time, schema, categorical, source.label)
    vocabulary = Vocabulary(
        categorical=categorical,
        numeric=numeric,
        kinds=fit_kinds(source, schema, categorical, options),
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
        f"SELECT __key, {quantiles_sql('gap')} FROM (SELECT __key, __time - lag(__time) OVER"
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
            if c in schema.categorical
        }
        sample, for_gaps = _samples(source, schema, columns)
        between = pool.submit(gaps, for_gaps)
        sorting = {c: pool.submit(finite, sample, c) for c in schema.numeric}
        numbers = {c: x.result() for c, x in sorting.items()}
        known = {c: int(np.count_nonzero(~np.isnan(sample.numbers[c]))) for c in schema.numeric}
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
            (sorted_gaps if len(sorted_gaps) else gaps(sample), SHARES),
            *((x, SHARES) for x in numbers.values()),
            *((x.result(), (0.5,)) for x in middles),
        ],
    )
    q = found[: len(numbers)]
    medians = found[len(numbers) :]
    numeric = {}
    for c, shares, median in zip(numbers, q, medians, strict=True):
        overall = scale_of(shares, median[0] if median else None) if shares else None
        by = schema.numeric_by.get(c)
        groups = _groups_on_columns(source, c, by, sample) if by and overall else {}
        missing = fraction_missing(len(sample.time), known[c])
        numeric[c] = numeric_scales(c, source.label, overall, by, groups, categorical, missing)
    kinds = fit_kinds(source, schema, categorical, FitOptions(min_count, max_categories))
    time = _time_scale(q_gaps, times.daily, times.low_us, times.high_us)
    time = with_time_zones(time, schema, categorical, source.label)
    return Vocabulary(categorical=categorical, numeric=numeric, kinds=kinds, time=time)


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
        chosen = np.ones(len(hashes), np.bool_)
        sample = columns
    else:
        sample = columns.of(chosen, (*schema.numeric, *schema.numeric_by.values()))
    fewer = _one_in_of_gaps(len(sample.time))
    return sample, sample.of(hashes[chosen] // 1_024 % fewer == 0, ()) if fewer else sample


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
    chosen = _in_sample_sql(ident(schema.client), one_in)
    return (
        f"SELECT {ident(schema.client)} AS __client, {time_sql(source, schema)} AS __time,"
        f" {ROW}{', ' + selected if selected else ''} FROM events"
        f"{' WHERE ' + chosen if chosen else ''}"
    )


def _in_sample_sql(client: str, one_in: int) -> str:
    """Return SQL of whether a client is in the sample; empty if all are."""
    return f"hash({client}::VARCHAR) % {one_in} = 0" if one_in > 1 else ""


def fit_columns(
    source: EventSource,
    schema: EventSchema,
    columns: Iterable[str],
    categorical: Mapping[str, CategoryCodes],
    options: FitOptions,
) -> dict[str, Any]:
    """Fit some columns on the events and on their table `sample`.

    Args:
        source: the events, with the table `sample`.
        schema: the roles of the columns.
        columns: the columns.
        categorical: the fitted codes of the categories, unless these are the columns.
        options: options of fitting.

    Returns:
        Column -> what was fitted.
    """
    return {c: kind_of(schema, c).fit(source, schema, c, categorical, options) for c in columns}


def fit_kinds(
    source: EventSource,
    schema: EventSchema,
    categorical: Mapping[str, CategoryCodes],
    options: FitOptions,
) -> dict[str, dict[str, Any]]:
    """Fit the columns that are neither categories nor numbers; see `fit_columns`.

    Returns:
        Kind -> column -> what was fitted.
    """
    found: dict[str, dict[str, Any]] = {}
    for column, fitted in fit_columns(source, schema, schema.kinds, categorical, options).items():
        found.setdefault(schema.kinds[column], {})[column] = fitted
    return found


def _groups_on_columns(
    source: EventSource, column: str, by: str, sample: EventColumns
) -> dict[str | None, NumericScale]:
    source.connection.register("within_given", within(sample, column, by))
    groups = group_scales(source, "SELECT key, x FROM within_given", MIN_WITHIN)
    source.connection.unregister("within_given")
    return groups


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


def with_time_zones(
    time: TimeScale, schema: EventSchema, categorical: Mapping[str, CategoryCodes], label: str
) -> TimeScale:
    """Return a time scale with the zones and holidays of the schema.

    Args:
        time: the scale.
        schema: the roles of the columns.
        categorical: the fitted codes of the categories.
        label: name of the input, for the message.

    Raises:
        SchemaError: the times are dates.
    """
    if schema.calendars:
        time = time.model_copy(update=_holidays(schema, categorical))
    if not schema.time_zones:
        return time
    if time.daily:
        raise SchemaError(
            f"All times of {label} are whole days, which are the same in every time zone. Leave "
            "--time-zone (schema.time_zone) out."
        )
    if schema.source is None:
        return time.model_copy(update={"time_zone": schema.time_zone})
    codes = categorical[schema.source].values
    zones = {FIRST + codes.index(n): s.time_zone for n, s in schema.sources.items() if s.time_zone}
    if len(zones) == len(codes) and len(schema.time_zones) == 1:
        return time.model_copy(update={"time_zone": schema.time_zones[0]})
    return time.model_copy(update={"zones": zones, "zone_column": schema.source})


def _holidays(schema: EventSchema, categorical: Mapping[str, CategoryCodes]) -> dict[str, Any]:
    """Return the fields of a time scale that hold the holidays."""
    days = {
        name: tuple((day - dt.date(1970, 1, 1)).days for day in calendar)
        for name, calendar in schema.calendars.items()
    }
    common = days.pop("", ())
    if schema.source is None or not days:
        return {"holidays": common}
    codes = categorical[schema.source].values
    own = {FIRST + codes.index(name): calendar for name, calendar in days.items()}
    return {"holidays": common, "holidays_of": own, "zone_column": schema.source}


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
    found = robust_scale([math.log1p(gap / 1e6) for gap in q], None)
    return found.model_copy(update={"scale": max(found.scale, 0.1)})


def _gap_quantiles(source: EventSource, where: str) -> list[float] | None:
    """Return quantiles of the positive gaps of sampled clients, in microseconds.

    It is None if there are no such gaps.
    """
    (q,) = source.row(
        f"SELECT {quantiles_sql('gap')} FROM (SELECT __time - lag(__time) OVER"
        f" (PARTITION BY __client ORDER BY __time, {ROW}) AS gap FROM sample{where}) WHERE gap > 0"
    )
    found: list[float] | None = q
    return found
