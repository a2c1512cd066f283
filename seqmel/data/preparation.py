"""Prepare events: fit the vocabulary, encode, sort by client and time, group by client. DuckDB does all of it, out of core.

The vocabulary becomes small tables; encoding is a join with them; sequences come out of one flat sort by (client in
order of appearance, time, place in the input) as a stream of Arrow batches with list columns, one row a client. The
same SQL serves training, embedding and scoring, whatever the events came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seqmel.data.reading import ROW, EventSource, ident, is_integer, is_real, reading
from seqmel.data.vocabulary import (
    CLIP,
    FIRST,
    UNSEEN,
    CategoryCodes,
    NumericScale,
    NumericScales,
    TimeScale,
    Vocabulary,
)
from seqmel.errors import InputError, SchemaError
from seqmel.schema import EventSchema

__all__ = [
    "EventTimes",
    "Unusable",
    "category_codes",
    "category_counts_sql",
    "check_columns",
    "check_events",
    "coded_sql",
    "encode",
    "fit_scales",
    "fit_vocabulary",
    "nest",
    "one_in",
    "register_codes",
    "sample_sql",
    "sequence_schema",
    "text_name",
    "time_scale",
    "time_sql",
    "times_of",
]

_SAMPLE_ROWS = 2_000_000  # scales are quantiles; a sample of whole clients of this size gives them to three digits
_GAP_ROWS = 250_000  # of the sample are sorted for the usual gap, which is two numbers
_MIN_WITHIN = 20  # fewer values of a category than this give no scale of their own
_HEAVY_TAIL = (
    10.0  # (p99 - median) over the interquartile range is 1.7 for a normal, 3.7 for an exponential distribution
)
_INDEX = "__client_index"
_DAY_US = 86_400_000_000
_FARTHEST_US = 2**62
_COARSE = ("TIMESTAMP_S", "TIMESTAMP_MS")
_US = {"day": _DAY_US, "second": 1_000_000, "millisecond": 1_000, "microsecond": 1}


def time_sql(source: EventSource, schema: EventSchema) -> str:
    """The time of an event in microseconds (since 1970 for timestamps), null where it cannot be understood.

    A time more than 146,000 years away is not understood either: the gap between two such would not fit in 64 bits.
    """
    micros = _micros_sql(source, schema)
    return f"CASE WHEN {micros} BETWEEN {-_FARTHEST_US} AND {_FARTHEST_US} THEN {micros} END"


def _micros_sql(source: EventSource, schema: EventSchema) -> str:
    column, kind = ident(schema.time), source.columns[schema.time]
    if schema.time_unit != "timestamp":
        return (
            f"TRY_CAST(round(TRY_CAST({column} AS DOUBLE) * {_US[schema.time_unit]}) AS BIGINT)"
            if kind == "VARCHAR" or is_real(kind)
            else f"TRY_CAST({column}::HUGEINT * {_US[schema.time_unit]} AS BIGINT)"
        )
    moment = f"TRY_CAST({column} AS TIMESTAMPTZ)" if kind == "VARCHAR" else f"TRY_CAST({column} AS TIMESTAMP)"
    micros = f"CASE WHEN isfinite({moment}) THEN epoch_us({moment}) END"
    return f"TRY({micros})" if kind in _COARSE else micros  # where TRY_CAST throws


def check_events(source: EventSource, schema: EventSchema) -> None:
    """Raise where a column is missing, or a client or a time is null or not to be understood."""
    times_of(source, schema)


def times_of(source: EventSource, schema: EventSchema) -> EventTimes:
    """What `check_events` has to look at, once for a source, and finds when all is well."""
    check_columns(source, schema)
    key = (schema.client, schema.time, schema.time_unit)
    if key not in source.checked:
        rows, clients, times, daily, low, high = source.row(
            f"SELECT count(*), count({ident(schema.client)}), count(t), bool_and(t % {_DAY_US} = 0), min(t), max(t)"
            f" FROM (SELECT {ident(schema.client)}, {time_sql(source, schema)} AS t FROM events)"
        )
        if not rows == clients == times:
            Unusable(*source.row(f"SELECT {Unusable.sql(source, schema)} FROM events")).check(schema, source.label)
        source.checked[key] = EventTimes(rows, daily, low, high)
    found: EventTimes = source.checked[key]
    return found


@dataclass(frozen=True)
class EventTimes:
    """Number of events; whether all times are whole days; the first and the last, in microseconds."""

    events: int
    daily: bool
    low_us: int
    high_us: int


def check_columns(source: EventSource, schema: EventSchema) -> None:
    """The part of `check_events` that needs no event: the columns and their types."""
    for column in (schema.client, schema.time, *schema.features):
        source.require(column, "The model was trained with that column; name the columns as they were then.")
    _check_time_kind(source, schema)


@dataclass(frozen=True)
class Unusable:
    """How many events have no client, no time, a time that cannot be understood, and an example of the last."""

    no_client: int
    no_time: int
    not_a_time: int
    example: str | None

    @staticmethod
    def sql(source: EventSource, schema: EventSchema) -> str:
        """The four as SQL aggregates over `events`; those of parts of the events add up."""
        client, time, moment = ident(schema.client), ident(schema.time), time_sql(source, schema)
        coarse = source.columns[schema.time] in _COARSE  # DuckDB cannot write these as text where they are too far away
        shown_time = "'one beyond the year 290,000'" if coarse else f"{time}::VARCHAR"
        return (
            f"count(*) FILTER ({client} IS NULL), count(*) FILTER ({time} IS NULL),"
            f" count(*) FILTER ({time} IS NOT NULL AND {moment} IS NULL),"
            f" min({shown_time}) FILTER ({time} IS NOT NULL AND {moment} IS NULL)"
        )

    def check(self, schema: EventSchema, label: str) -> None:
        """Raise an `InputError` where there are any."""
        for nulls, column, what in ((self.no_client, schema.client, "client"), (self.no_time, schema.time, "time")):
            if nulls:
                raise _nulls(nulls, column, what, label)
        if self.not_a_time:
            raise InputError(
                f"{self.not_a_time:,} times in column {schema.time!r} of {label} cannot be understood, such as"
                f" {self.example!r}. Expected timestamps, dates, ISO 8601 text (2023-01-31 12:00:00), or numbers with"
                " schema.time_unit."
            )


def _nulls(count: int, column: str, what: str, label: str) -> InputError:
    return InputError(
        f"{count:,} events in {label} have no {what} (column {column!r} is null). Drop or mend these rows."
    )


def _check_time_kind(source: EventSource, schema: EventSchema) -> None:
    kind = source.columns[schema.time]
    if schema.time_unit != "timestamp" and not (kind == "VARCHAR" or is_integer(kind) or is_real(kind)):
        raise SchemaError(
            f"The time column {schema.time!r} of {source.label} is {kind}. Expected numbers that count {schema.time_unit}s,"
            " as schema.time_unit says; for dates and timestamps it is 'timestamp'."
        )


# ---------------------------------------------------------------------------------------------------- fit


def fit_vocabulary(
    source: EventSource, schema: EventSchema, *, min_count: int = 5, max_categories: int = 20_000
) -> Vocabulary:
    """Fit category codes and numeric scales on all events.

    Args:
        source: the training events.
        schema: which column is what.
        min_count: a category value seen fewer times than this is rare: it shares code 1 with the unseen.
        max_categories: of the rest, how many at most have a code of their own.

    Raises:
        InputError, SchemaError: see `check_events`; also for a feature with only nulls.
    """
    times = times_of(source, schema)
    categorical = {c: _fit_categories(source, c, min_count, max_categories) for c in schema.categorical}
    source.query(f"CREATE OR REPLACE TABLE sample AS {sample_sql(source, schema, one_in(times.events))}")
    numeric = fit_scales(source, schema, categorical)
    time = time_scale(source, daily=times.daily, low=times.low_us, high=times.high_us)
    vocabulary = Vocabulary(categorical=categorical, numeric=numeric, time=time)
    source.query("DROP TABLE sample")
    return vocabulary


def category_text(source: EventSource, column: str) -> str:
    """SQL for the text form of a category: whole numbers without a decimal point."""
    name, kind = ident(column), source.columns[column]
    if is_real(kind):
        number = f"{name}::DOUBLE"
        return (
            f"CASE WHEN {number} = trunc({number}) AND abs({number}) < 1e15"
            f" THEN CAST({number} AS BIGINT)::VARCHAR ELSE {name}::VARCHAR END"
        )
    return f"{name}::VARCHAR"


def category_counts_sql(source: EventSource, column: str) -> str:
    """SQL for the values of a category in text form and how often they come; those of parts of the events add up."""
    counted = f"SELECT {ident(column)}, count(*) AS __n FROM events GROUP BY 1"  # a number is made text once a value
    return f"SELECT {category_text(source, column)} AS value, sum(__n)::BIGINT AS n FROM ({counted}) GROUP BY 1"


def _fit_categories(source: EventSource, column: str, min_count: int, max_categories: int) -> CategoryCodes:
    source.query(f"CREATE OR REPLACE TABLE counted AS {category_counts_sql(source, column)}")
    nulls, known = source.row(
        "SELECT coalesce(sum(n) FILTER (value IS NULL), 0), coalesce(sum(n) FILTER (value IS NOT NULL), 0) FROM counted"
    )
    frequent = source.rows(
        f"SELECT value FROM counted WHERE value IS NOT NULL AND n >= {min_count}"
        f" ORDER BY n DESC, value LIMIT {max_categories}"
    )
    source.query("DROP TABLE counted")
    return category_codes(column, [value for (value,) in frequent], nulls=nulls, known=known, label=source.label)


def category_codes(column: str, frequent: list[str], *, nulls: int, known: int, label: str) -> CategoryCodes:
    """The codes of a column: its values most frequent first, and among equals in the order of their bytes.

    Raises:
        SchemaError: no value is known.
    """
    if not known:
        raise SchemaError(f"Column {column!r} of {label} holds only nulls. Leave it out of schema.categorical.")
    return CategoryCodes(values=tuple(frequent), null=nulls > 0)


def one_in(rows: int) -> int:
    """One in how many clients is in the sample that the scales are fitted on."""
    return max(1, -(-rows // _SAMPLE_ROWS))


def sample_sql(source: EventSource, schema: EventSchema, one_in: int) -> str:
    """SQL for the events of whole clients, chosen by their hash: the same on every run, in any order and part of the rows.

    Columns: __client, __time, the row, the numbers under their names, and the text of categories that numbers lie within.
    """
    columns = ", ".join(f"{ident(c)}" for c in schema.numeric)
    texts = ", ".join(
        f"{category_text(source, c)} AS {text_name(schema, c)}" for c in sorted(set(schema.numeric_by.values()))
    )
    selected = ", ".join(x for x in (columns, texts) if x)
    return (
        f"SELECT {ident(schema.client)} AS __client, {time_sql(source, schema)} AS __time,"
        f" {ROW}{', ' + selected if selected else ''} FROM events"
        + (f" WHERE hash({ident(schema.client)}::VARCHAR) % {one_in} = 0" if one_in > 1 else "")
    )


def text_name(schema: EventSchema, column: str) -> str:
    """What the text of a category is called in the sample: no name that a column of the events can have."""
    return f"__text_{schema.categorical.index(column)}"


def fit_scales(
    source: EventSource, schema: EventSchema, categorical: dict[str, CategoryCodes]
) -> dict[str, NumericScales]:
    """The scales of all numbers, from the table `sample`."""
    return {c: _fit_scales(source, c, schema, categorical) for c in schema.numeric}


_QUANTILES = "[0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]"


def _quantiles_sql(x: str) -> str:
    return f"quantile_cont({x}, {_QUANTILES})"


def _fit_scales(
    source: EventSource, column: str, schema: EventSchema, categorical: dict[str, CategoryCodes]
) -> NumericScales:
    overall = _group_scales(source, column).get(None)
    if overall is None:
        raise SchemaError(
            f"Column {column!r} of {source.label} holds no finite number. Leave it out of schema.numeric."
        )
    by = schema.numeric_by.get(column)
    if by is None:
        return NumericScales(overall=overall)
    of_value = _group_scales(source, column, text_name(schema, by))
    codes = categorical[by]
    within = (of_value.get(None) if codes.null else None, None, *(of_value.get(v) for v in codes.values))
    return NumericScales(overall=overall, by=by, within=within)


def _group_scales(source: EventSource, column: str, by: str | None = None) -> dict[str | None, NumericScale]:
    """Scales of a column, by a column of the sample; the key None is the null category, or all events without `by`."""
    x, key = ident(column) + "::DOUBLE", by or "NULL::VARCHAR"
    finite = f"SELECT {key} AS key, {x} AS x FROM sample WHERE isfinite({x})"
    linear = {
        k: (n, unit, q)
        for k, n, unit, q in source.rows(
            f"SELECT key, count(*), median(abs(x)) FILTER (x <> 0), {_quantiles_sql('x')} FROM ({finite}) GROUP BY key"
        )
    }
    smallest = _MIN_WITHIN if by else 1
    return {k: _scale_of(q, unit) for k, (n, unit, q) in linear.items() if n >= smallest}


def _scale_of(q: list[float], unit: float | None) -> NumericScale:
    """The scale that fits these quantiles: of the logarithm in units of `unit` where they have a heavy tail.

    The logarithm grows with the number, so its quantiles are the logarithms of the quantiles.
    """
    if not unit or not _is_heavy(q):
        return _scale(q, None)
    return _scale([math.copysign(math.log1p(abs(x) / unit), x) for x in q], unit)


def _is_heavy(q: list[float]) -> bool:
    spread = (q[4] - q[2]) or (q[5] - q[1]) or (q[6] - q[0])
    return spread > 0 and max(q[6] - q[3], q[3] - q[0]) > _HEAVY_TAIL * spread


def _scale(q: list[float], log_unit: float | None) -> NumericScale:
    """Median and the widest interquantile range that is not zero, in units of a normal's standard deviation."""
    widths = ((q[4] - q[2]) / 1.349, (q[5] - q[1]) / 3.290, (q[6] - q[0]) / 4.653)
    return NumericScale(log_unit=log_unit, center=q[3], scale=next((w for w in widths if w > 1e-12), 1.0))


def time_scale(source: EventSource, *, daily: bool, low: int, high: int) -> TimeScale:
    """What the times can tell: first and last event of all (microseconds), and gaps from the table `sample`."""
    (rows,) = source.row("SELECT count(*) FROM sample")
    fewer = f" WHERE hash(__client::VARCHAR) // 1_024 % {-(-rows // _GAP_ROWS)} = 0" if rows > 2 * _GAP_ROWS else ""
    q = _gap_quantiles(source, fewer) or _gap_quantiles(source, "")
    usual = (
        _scale([math.log1p(gap / 1e6) for gap in q], None) if q else NumericScale(log_unit=None, center=0.0, scale=1.0)
    )
    return TimeScale(
        daily=daily,
        span_days=(high - low) / _DAY_US,
        gap_center=usual.center,
        gap_scale=max(usual.scale, 0.1),
        end_us=high,
    )


def _gap_quantiles(source: EventSource, where: str) -> list[float] | None:
    """Of the gaps above zero between the events of clients of the sample, in microseconds; None where there are none."""
    (q,) = source.row(
        f"SELECT {_quantiles_sql('gap')} FROM (SELECT __time - lag(__time) OVER"
        f" (PARTITION BY __client ORDER BY __time, {ROW}) AS gap FROM sample{where}) WHERE gap > 0"
    )
    found: list[float] | None = q
    return found


# ---------------------------------------------------------------------------------------------------- encode


def sequence_schema(source: EventSource, schema: EventSchema) -> pa.Schema:
    """One row a client: its id as it came, list<int64> times in microseconds, list<int32> codes, list<float> numbers."""
    client = source.stream(f"SELECT {ident(schema.client)} FROM events LIMIT 0", 1).schema.field(0)
    fields = [pa.field(schema.client, client.type), pa.field(schema.time, pa.list_(pa.int64()))]
    fields += [pa.field(c, pa.list_(pa.int32())) for c in schema.categorical]
    fields += [pa.field(c, pa.list_(pa.float32())) for c in schema.numeric]
    return pa.schema(fields)


def encode(
    source: EventSource, schema: EventSchema, vocabulary: Vocabulary, *, chunk_events: int = 1_000_000
) -> Iterator[pa.RecordBatch]:
    """Encode, sort and group: a stream of Arrow batches, one row a client, clients in order of their first event.

    Args:
        source: the events.
        schema: which column is what.
        vocabulary: as fitted in training; it is used as it is.
        chunk_events: about how many events a batch holds; a client is never split.
    """
    check_events(source, schema)
    register_codes(source, schema, vocabulary)
    out = sequence_schema(source, schema)
    coded = coded_sql(source, schema, vocabulary, (_INDEX, ROW), f"JOIN clients ON {ident(schema.client)} = __client")
    flat = f"SELECT * EXCLUDE ({ROW}) FROM ({coded}) ORDER BY {_INDEX}, {ident(schema.time)}, {ROW}"
    yield from _grouped(source, schema.client, flat, out, chunk_events)


def nest(source: EventSource, client: str, time: str, *, chunk_events: int = 1_000_000) -> Iterator[pa.RecordBatch]:
    """Sort and group the events as they came: a stream of Arrow batches like those of `encode`, without a vocabulary.

    Args:
        source: the events.
        client, time: the columns to group and to sort by; a time that cannot be understood comes last.
        chunk_events: about how many events a batch holds; a client is never split.

    Raises:
        InputError: a client is null.
    """
    key = ident(client)
    (nameless,) = source.row(f"SELECT count(*) FROM events WHERE {key} IS NULL")
    if nameless:
        raise _nulls(nameless, client, "client", source.label)
    names = [client, *(c for c in source.columns if c != client and c not in source.left_out)]
    columns = [_plain_sql(source, c) for c in names]
    first, *others = source.stream(f"SELECT {', '.join(columns)} FROM events LIMIT 0", 1).schema
    out = pa.schema([first, *(field.with_type(pa.large_list(_large(field.type))) for field in others)])
    moment = f"TRY_CAST({ident(time)} AS TIMESTAMPTZ)" if source.columns[time] == "VARCHAR" else ident(time)
    flat = (
        f"SELECT {', '.join([_INDEX, *columns[1:]])} FROM events JOIN clients ON {key} = __client"
        f" ORDER BY {_INDEX}, {moment} NULLS LAST, {ROW}"
    )
    yield from _grouped(source, client, flat, out, chunk_events)


def _plain_sql(source: EventSource, column: str) -> str:
    """Categories of a DataFrame and UUIDs as text: Arrow has each chunk hold its own list of the former."""
    name = ident(column)
    return f"{name}::VARCHAR AS {name}" if source.columns[column].startswith(("ENUM", "UUID")) else name


def _large(kind: pa.DataType) -> pa.DataType:
    """Text with 64-bit offsets: that of all clients together may be larger than 2 GB."""
    return pa.large_string() if pa.types.is_string(kind) else kind


def _grouped(
    source: EventSource, client: str, flat_sql: str, out: pa.Schema, chunk_events: int
) -> Iterator[pa.RecordBatch]:
    """Run SQL that yields sorted events from `events JOIN clients`, and group what comes."""
    source.query(
        "CREATE OR REPLACE TABLE clients AS SELECT client AS __client,"
        f" (row_number() OVER (ORDER BY first) - 1)::INTEGER AS {_INDEX} FROM ({source.clients_sql(client)})"
    )
    ids = _Ids(source.stream(f"SELECT __client FROM clients ORDER BY {_INDEX}", chunk_events, beside=True))
    flat = source.stream(flat_sql, chunk_events)
    with reading(source.label):
        yield from _group(flat, ids, out, chunk_events)


def register_codes(source: EventSource, schema: EventSchema, vocabulary: Vocabulary) -> None:
    """One table a category (key, code), keyed in the type that the column has here; one table a scale within a category.

    Their column names begin with two underscores, so that they are not taken for columns of the events.
    """
    for i, column in enumerate(schema.categorical):
        values = vocabulary.categorical[column].values
        codes = pa.table(
            {"text": pa.array(values, pa.string()), "__code": pa.array(range(FIRST, FIRST + len(values)), pa.int32())}
        )
        source.connection.register("codes_given", codes)
        source.query(f"CREATE OR REPLACE TABLE codes_{i} AS {_keys_sql(source, column)}")
        source.connection.unregister("codes_given")
    for i, column in enumerate(schema.numeric):
        scales = vocabulary.numeric[column]
        if scales.by:
            rows = [scales.of_code(code) for code in range(vocabulary.categorical[scales.by].size)]
            table = pa.table({
                "__code": pa.array(range(len(rows)), pa.int32()),
                "__log_unit": pa.array([s.log_unit for s in rows], pa.float64()),
                "__center": pa.array([s.center for s in rows], pa.float64()),
                "__scale": pa.array([s.scale for s in rows], pa.float64()),
            })  # fmt: skip
            source.connection.register("scales_given", table)
            source.query(f"CREATE OR REPLACE TABLE scales_{i} AS SELECT * FROM scales_given")
            source.connection.unregister("scales_given")


def _keys_sql(source: EventSource, column: str) -> str:
    """Integers are joined as integers, which is faster than as text; "05" and "5.4" are no integer's text and have no key."""
    if is_integer(source.columns[column]):
        key = "TRY_CAST(text AS HUGEINT)"
        return f"SELECT {key} AS __key, __code FROM codes_given WHERE {key}::VARCHAR = text"
    return "SELECT text AS __key, __code FROM codes_given"


def _code_sql(source: EventSource, column: str, i: int, codes: CategoryCodes) -> str:
    raw = _raw_sql(source, column)
    return f"CASE WHEN {raw} IS NULL THEN {codes.null_code} ELSE coalesce(codes_{i}.__code, {UNSEEN}) END"


def _raw_sql(source: EventSource, column: str) -> str:
    if is_integer(source.columns[column]):
        return f"{ident(column)}::HUGEINT"
    return category_text(source, column)


def _scaled_sql(x: str, log_unit: str | None, center: str, scale: str) -> str:
    y = f"CASE WHEN {log_unit} IS NULL THEN {x} ELSE sign({x}) * ln(1 + abs({x}) / {log_unit}) END" if log_unit else x
    z = f"(({y}) - {center}) / {scale}"
    return f"CASE WHEN {x} IS NULL THEN 'NaN'::FLOAT ELSE greatest(-{CLIP}, least({CLIP}, {z}))::FLOAT END"


def coded_sql(
    source: EventSource, schema: EventSchema, vocabulary: Vocabulary, keys: tuple[str, ...], join: str = ""
) -> str:
    """SQL for the encoded events, in no order: `keys`, the time, then the features; after `register_codes`.

    Codes come first, then numbers, since a number may be scaled within a code.

    Args:
        source, schema, vocabulary: see `encode`.
        keys: more columns of the events that are wanted, or of what is joined.
        join: SQL that joins more to the events.
    """
    places = {c: i for i, c in enumerate(schema.categorical)}
    codes = [f"{_code_sql(source, c, i, vocabulary.categorical[c])} AS {ident(c)}" for c, i in places.items()]
    numbers = [f"{ident(c)}::DOUBLE AS {ident(c)}" for c in schema.numeric]
    joins = [f"LEFT JOIN codes_{i} ON {_raw_sql(source, c)} = codes_{i}.__key" for c, i in places.items()]
    coded = (
        f"SELECT {', '.join((*keys, f'{time_sql(source, schema)} AS {ident(schema.time)}', *codes, *numbers))}"
        f" FROM events {join} {' '.join(joins)}"
    )
    scaled, scale_joins = [], []
    for i, column in enumerate(schema.numeric):
        scales, x = vocabulary.numeric[column], ident(column)
        if scales.by:
            s = f"scales_{i}"
            scaled.append(f"{_scaled_sql(x, f'{s}.__log_unit', f'{s}.__center', f'{s}.__scale')} AS {x}")
            scale_joins.append(f"JOIN {s} ON {s}.__code = {ident(scales.by)}")
        else:
            unit = repr(scales.overall.log_unit) if scales.overall.log_unit else None
            scaled.append(f"{_scaled_sql(x, unit, repr(scales.overall.center), repr(scales.overall.scale))} AS {x}")
    columns = [*keys, ident(schema.time), *(ident(c) for c in schema.categorical), *scaled]
    return f"SELECT {', '.join(columns)} FROM ({coded}) {' '.join(scale_joins)}"


# ---------------------------------------------------------------------------------------------------- group


class _Ids:
    """Client ids in order, taken from a stream a few at a time."""

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self._batches = batches
        self._left = pa.chunked_array([], batches.schema.field(0).type)

    def take(self, count: int) -> pa.Array:
        while len(self._left) < count:
            self._left = pa.chunked_array([*self._left.chunks, self._batches.read_next_batch().column(0)])
        taken, self._left = self._left.slice(0, count), self._left.slice(count)
        combined = taken.combine_chunks()
        return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined

    def left_after(self, count: int) -> int:
        """How many ids come after the next `count`: clients with no events at the end of the input."""
        self._left = pa.chunked_array([*self._left.chunks, *(b.column(0) for b in self._batches)], self._left.type)
        return len(self._left) - count


def _group(flat: pa.RecordBatchReader, ids: _Ids, out: pa.Schema, chunk_events: int) -> Iterator[pa.RecordBatch]:
    """Cut a flat sorted stream into batches of whole clients of about `chunk_events` events."""
    done, held, enough = 0, flat.schema.empty_table(), chunk_events
    for batch in flat:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        if len(held) < enough:
            continue
        index = held.column(_INDEX).to_numpy()
        last = int(index[-1])
        whole = int(np.searchsorted(index, last))  # the last client's events may go on in the next batch
        enough = chunk_events if whole else 2 * enough
        if whole:
            yield _lists(held.slice(0, whole), done, last - done, ids, out)
            done, held = last, held.slice(whole)
    clients = (held.column(_INDEX)[-1].as_py() + 1 if len(held) else done) - done
    yield _lists(held, done, clients + ids.left_after(clients), ids, out)


def _lists(flat: pa.Table, first: int, clients: int, ids: _Ids, out: pa.Schema) -> pa.RecordBatch:
    """The events of `clients` clients from number `first` on, as list columns; a client with no events has empty lists."""
    index = flat.column(_INDEX).to_numpy()
    offsets = pa.array(np.searchsorted(index, np.arange(first, first + clients + 1)).astype(np.int32))
    columns = [ids.take(clients)]
    for field in list(out)[1:]:
        values = flat.column(field.name).cast(field.type.value_type).combine_chunks()
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        lists = pa.LargeListArray if pa.types.is_large_list(field.type) else pa.ListArray
        columns.append(lists.from_arrays(offsets, values))
    return pa.RecordBatch.from_arrays(columns, schema=out)
