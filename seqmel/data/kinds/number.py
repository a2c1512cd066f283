"""Numbers: quantities on a robust scale, after a signed logarithm if the tail is heavy.

Null and NaN stay missing (NaN). Infinities are clipped like any other extreme value. Within a
category (`numeric_by`), every category has a scale and a curve of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.units import count_words
from seqmel.data.kinds.base import QUANTILES, ColumnKind, ColumnSQL, FitOptions, Fitted
from seqmel.data.kinds.category import CategoryCodes
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import no_numbers
from seqmel.data.sources.source import (
    EventSource,
    ident,
    is_integer,
    is_real,
    literal,
    type_in_words,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CLASS_EDGES",
    "CLIP",
    "KNOTS",
    "MIN_WITHIN",
    "SHARES",
    "AboveZero",
    "Finite",
    "NumberKind",
    "NumericScale",
    "NumericScales",
    "group_scales",
    "logarithm_sql",
    "numeric_scales",
    "quantile_bins",
    "quantiles_sql",
    "robust_scale",
    "scale_of",
    "text_name",
]

CLIP = 10.0
"""Scaled numbers lie in [-CLIP, CLIP], in robust standard deviations."""
KNOTS = (-10.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 10.0)
_CURVE_ROWS = len(KNOTS) + 1  # one more for missing numbers
CLASS_EDGES = (-4.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Edges of the classes by which a number is predicted; class 0 is for missing numbers."""
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MIN_WITHIN = 20  # Categories with fewer values get no scale of their own.
_FARTHEST = sys.float_info.max
_HEAVY_TAIL = (
    # (p99 - median) / interquartile range is 1.7 for a normal, 3.7 for an exponential distribution.
    10.0
)
_BINS = 10

Finite = Annotated[float, Field(allow_inf_nan=False)]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NumericScale(Fitted):
    """The scale z = clip((y - center) / scale).

    Here y is x, or sign(x) ln(1 + |x| / log_unit) for a heavy tail.
    """

    log_unit: AboveZero | None
    center: Finite
    scale: AboveZero

    def encode(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (E,) numbers on this scale; NaN stays NaN."""
        y = numbers
        if self.log_unit is not None:
            y = np.sign(y) * np.log1p(np.abs(y) / self.log_unit)
        return np.asarray(np.clip((y - self.center) / self.scale, -CLIP, CLIP))


class NumericScales(Fitted):
    """The scales of one numeric column.

    With `by`, there is one for each code of that column, and `overall` for codes that are too rare.
    """

    overall: NumericScale
    by: str | None = None
    within: tuple[NumericScale | None, ...] = ()
    missing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the training events that lack the number, of the table with the column."""

    def of_code(self, code: int) -> NumericScale:
        """Return the scale used for events with this code of the column `by`.

        Args:
            code: a code of the category.
        """
        return self.within[code] or self.overall

    @property
    def rows(self) -> list[NumericScale]:
        """The scales by the code of `by`, or the only one."""
        if self.by is None:
            return [self.overall]
        return [self.of_code(code) for code in range(len(self.within))]

    def decode(
        self, scaled: npt.NDArray[np.float64], codes: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.float64]:
        """Return (E,) original numbers. Clipped numbers stay clipped, missing ones are NaN.

        Args:
            scaled: (E,) numbers on their scale.
            codes: (E,) codes of the column `by`; None without one.
        """
        each = self.rows
        place = np.zeros(len(scaled), np.int64) if self.by is None or codes is None else codes
        unit = np.array([np.nan if s.log_unit is None else s.log_unit for s in each])[place]
        scale = np.array([s.scale for s in each])[place]
        y = np.asarray(scaled * scale + np.array([s.center for s in each])[place])
        logged = ~np.isnan(unit)
        y[logged] = np.sign(y[logged]) * unit[logged] * np.expm1(np.abs(y[logged]))
        return y


class NumberKind(ColumnKind[NumericScales]):
    """A number is interpolated between the rows of fixed knots on its scale.

    That is piecewise linear encoding (Gorishniy et al., arXiv 2203.05556). A number within a
    category has one curve per code. Each curve starts as a straight line in a random direction. A
    missing number has a row of its own. A number is predicted by bins of its scale; within a
    category, by an expected value per code.
    """

    role: ClassVar[str] = "numeric"
    sql_type: ClassVar[str] = "DOUBLE"
    arrow_type: ClassVar[pa.DataType] = pa.float32()
    rows_per_value: ClassVar[int] = 2
    has_edges: ClassVar[bool] = True
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("known", "count({x})", "number of events with {name}"),
    )
    fitted = NumericScales

    def value_sql(self, source: EventSource, column: str) -> str:
        """Return SQL for the number."""
        return f"{ident(column)}::DOUBLE"

    def check_given(self, source: EventSource, column: str) -> None:
        """Check that the column has a numeric type."""
        kind = source.columns[column]
        if is_integer(kind) or is_real(kind) or kind == "BOOLEAN":
            return
        odd = no_numbers(source, column)
        example = f", such as {odd[1]!r}" if odd else ""
        mark = ", pass --decimal , if commas stand before decimals" if odd and "," in odd[1] else ""
        raise SchemaError(
            f"Column {column!r} of {source.label} holds {type_in_words(kind)}, not "
            f"numbers{example}. Write numbers as 1234.50{mark}, or name the column in "
            "schema.categorical."
        )

    def check_values(self, source: EventSource, column: str) -> None:
        """Check that all values are numbers."""
        odd = no_numbers(source, column)
        if odd is not None:
            where = f"in column {column!r} of {source.label}"
            found = count_words(
                odd[0], f"value {where} is not a number", f"values {where} are not numbers"
            )
            raise InputError(
                f"{found}, such as {odd[1]!r}, and the model was trained with numbers there. Write "
                "them as 1234.50: a point before the decimals, and nothing else."
            )

    def reads_whole(self, sql_type: str) -> bool:
        """Return whether the type is numeric."""
        return sql_type != "VARCHAR" and not sql_type.startswith("ENUM")

    def fit(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        codes: Mapping[str, CategoryCodes],
        options: FitOptions,
    ) -> NumericScales:
        """Fit the scales on the table `sample`."""
        x = ident(column) + "::DOUBLE"
        overall = group_scales(source, f"SELECT NULL::VARCHAR AS key, {x} AS x FROM sample", 1).get(
            None
        )
        by = schema.numeric_by.get(column)
        text = text_name(schema, by) if by else ""
        groups = (
            group_scales(source, f"SELECT {text} AS key, {x} AS x FROM sample", MIN_WITHIN)
            if by and overall
            else {}
        )
        missing = _fraction_missing(source, schema, column)
        return numeric_scales(column, source.label, overall, by, groups, codes, missing)

    def register(self, source: EventSource, column: str, index: int, fitted: NumericScales) -> None:
        """Create the table of the scale of each code of the category, if there is one."""
        if fitted.by is None:
            return
        rows = fitted.rows
        table = pa.table({
            "__code": pa.array(range(len(rows)), pa.int32()),
            "__log_unit": pa.array([s.log_unit for s in rows], pa.float64()),
            "__center": pa.array([s.center for s in rows], pa.float64()),
            "__scale": pa.array([s.scale for s in rows], pa.float64()),
        })  # fmt: skip
        source.connection.register("scales_given", table)
        source.query(f"CREATE OR REPLACE TABLE scales_{index} AS SELECT * FROM scales_given")
        source.connection.unregister("scales_given")

    def encode_sql(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        index: int,
        fitted: NumericScales,
    ) -> ColumnSQL:
        """Return SQL for the scaled number. The scale may depend on the code of a category."""
        x = ident(column)
        if fitted.by is None:
            one = fitted.overall
            unit = repr(one.log_unit) if one.log_unit else None
            scaled = _scaled_sql(x, unit, repr(one.center), repr(one.scale))
            return ColumnSQL(self.value_sql(source, column), scaled=scaled)
        s = f"scales_{index}"
        return ColumnSQL(
            self.value_sql(source, column),
            scaled=_scaled_sql(x, f"{s}.__log_unit", f"{s}.__center", f"{s}.__scale"),
            scale_join=f"JOIN (FROM {s}) {s} ON {s}.__code = {ident(fitted.by)}",
        )

    def initial_rows(self, fitted: NumericScales, size: int) -> Tensor:
        """Return a random straight line per curve, each with a random row for NaN."""
        import torch

        count = len(fitted.rows)
        line = torch.randn(count, 1, size) * torch.tensor(KNOTS).clamp(-4, 4).view(1, -1, 1)
        return torch.cat([line, torch.randn(count, 1, size)], dim=1).view(-1, size)

    def layout(
        self,
        columns: Mapping[str, NumericScales],
        codes: Mapping[str, CategoryCodes],
        begins: Mapping[str, int],
    ) -> dict[str, Tensor]:
        """Return the knots, and what follows of each number, (C,).

        `begins` is the first row of its first curve, `curve_of` the index of the category that it
        is scaled within, and `curve_rows` its rows per curve, 0 if it has only one.
        """
        import torch

        names = list(codes)
        by = [fitted.by for fitted in columns.values()]
        numbers = {
            "begins": [begins[name] for name in columns],
            "curve_of": [names.index(name) if name else 0 for name in by],
            "curve_rows": [_CURVE_ROWS if name else 0 for name in by],
        }
        found = {name: torch.tensor(given, dtype=torch.int64) for name, given in numbers.items()}
        knots = torch.tensor(KNOTS)
        return found | {"knots": knots, "inner": knots[1:-1], "widths": knots.diff()}

    def embed(
        self, columns: list[Tensor], codes: Tensor, layout: Mapping[str, Tensor], dtype: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the knots left and right of each number, weighted by its place between them.

        A missing number has the last row of its curve twice.
        """
        import torch

        values = torch.stack(columns, dim=1)
        knots = layout["knots"]
        last = _CURVE_ROWS - 1
        missing = values.isnan()
        known = values.masked_fill(missing, 0.0)
        left = torch.bucketize(known, layout["inner"], right=True)
        position = ((known - knots.take(left)) / layout["widths"].take(left)).to(dtype)
        curve = layout["begins"]
        if codes.shape[1]:
            curve = curve + codes.index_select(1, layout["curve_of"]) * layout["curve_rows"]
        ends = [row.masked_fill(missing, last) for row in (left, left + 1)]
        rows = torch.stack([curve + end for end in ends], dim=2).flatten(1)
        return rows, torch.stack([1 - position, position], dim=2).flatten(1)

    def classes(self, fitted: NumericScales) -> int | None:
        """Return the number of bins and one for missing; None within a category."""
        return len(CLASS_EDGES) + 2 if fitted.by is None else None

    def class_of(self, values: Tensor, edges: Tensor) -> Tensor:
        """Return the bin of a number; 0 if it is missing."""
        import torch

        bins = torch.bucketize(values.nan_to_num(), edges) + 1
        return bins.masked_fill(values.isnan(), 0)

    def regressed_within(self, fitted: NumericScales) -> str | None:
        """Return the category that the number is scaled within."""
        return fitted.by

    def regression_costs(self, expected: Tensor, values: Tensor) -> Tensor:
        """Return Huber losses; a missing number costs nothing."""
        from torch.nn import functional as F

        costs = F.huber_loss(expected, values.nan_to_num(), reduction="none")
        return costs.masked_fill(values.isnan(), 0.0)

    def facts(self, source: EventSource, column: str, where: str) -> dict[str, Any]:
        """Return nulls and quantiles."""
        x = f"{ident(column)}::DOUBLE"
        nulls, q = source.row(
            f"SELECT count(*) FILTER ({ident(column)} IS NULL OR NOT isfinite({x})), "
            f"quantile_cont({x}, {list(QUANTILES)}) FILTER (isfinite({x})) FROM events "
            f"WHERE {where}"
        )
        return {
            "nulls": nulls,
            "quantiles": dict(zip(map(str, QUANTILES), q, strict=True)) if q else {},
        }

    def contents(self, facts: Mapping[str, Any], events: int) -> str:
        """Return the quantiles."""
        if not facts["quantiles"]:
            return "no finite value"
        low, q1, middle, q3, _, high = (
            f"{v:,.0f}" if 1e5 <= abs(v) < 1e15 else f"{v:,.6g}"
            for v in facts["quantiles"].values()
        )
        return f"median {middle}, middle half {q1} to {q3}, range {low} to {high}"

    def about(self, fitted: NumericScales) -> str:
        """Return how the number is scaled."""
        if fitted.by:
            return f"within {fitted.by}"
        return "signed log" if fitted.overall.log_unit else "linear"

    def bins(
        self, fitted: NumericScales, values: Sequence[npt.NDArray[Any]]
    ) -> tuple[int, tuple[float, ...]]:
        """Return bins between quantiles, and one for missing."""
        return quantile_bins(values)

    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return whether a number is missing."""
        missing: npt.NDArray[np.bool_] = np.isnan(values)
        return missing

    unknown_bin: ClassVar[int] = -1
    unknown_words: ClassVar[str] = "has no numbers"


def quantile_bins(values: Sequence[npt.NDArray[Any]]) -> tuple[int, tuple[float, ...]]:
    """Return the number of bins between quantiles, with one for missing, and their edges.

    A value more frequent than a bin has a bin of its own.

    Args:
        values: arrays of numbers, NaN if missing.
    """
    seen = [x[~np.isnan(x.astype(np.float32))] for x in values]
    known = np.concatenate(seen) if seen else np.empty(0, np.float32)
    if not len(known):
        return 2, ()
    quantiles = np.quantile(known, np.arange(1, _BINS) / _BINS, method="inverted_cdf").astype(
        np.float32
    )
    edges, times = np.unique(quantiles, return_counts=True)
    own = np.nextafter(edges[times > 1], np.float32(np.inf))
    ends = tuple(np.unique(np.concatenate([edges, own])).tolist())
    return len(ends) + 2, ends


def text_name(schema: EventSchema, column: str) -> str:
    """Return the name of a category's text in the sample, which no column of events can have."""
    return f"__text_{schema.categorical.index(column)}"


def quantiles_sql(x: str) -> str:
    """Return SQL for the quantiles that scales are made of."""
    return f"quantile_cont({x}, {list(SHARES)})"


def numeric_scales(
    column: str,
    label: str,
    overall: NumericScale | None,
    by: str | None,
    groups: Mapping[str | None, NumericScale],
    categorical: Mapping[str, CategoryCodes],
    missing: float,
) -> NumericScales:
    """Return the scales of a column.

    Args:
        column: name of the column.
        label: name of the input, for the message.
        overall: the scale of all numbers; None if there is no finite one.
        by: the category that it is scaled within, if there is one.
        groups: the scales by the text of that category.
        categorical: the fitted codes of the categories.
        missing: the fraction of events that lack the number.

    Raises:
        SchemaError: there is no finite number.
    """
    if overall is None:
        raise SchemaError(
            f"Column {column!r} of {label} holds no finite number. Leave it out of schema.numeric."
        )
    if by is None:
        return NumericScales(overall=overall, missing=missing)
    codes = categorical[by]
    within = (
        groups.get(None) if codes.null else None,
        None,
        *(groups.get(v) for v in codes.values),
    )
    return NumericScales(overall=overall, by=by, within=within, missing=missing)


def _fraction_missing(source: EventSource, schema: EventSchema, column: str) -> float:
    """Return the fraction of rows of `sample`, of the table with the column, that lack a number."""
    tables = schema.sources_of(column)
    where = f" WHERE __key IN ({', '.join(map(literal, tables))})" if tables else ""
    rows, known = source.row(
        f"SELECT count(*), count(*) FILTER (NOT isnan({ident(column)}::DOUBLE)) FROM sample{where}"
    )
    return fraction_missing(rows, known)


def fraction_missing(rows: int, known: int) -> float:
    """Return the fraction of rows that lack a number, to four digits."""
    return round(1 - known / rows, 4) if rows else 0.0


def group_scales(source: EventSource, rows: str, smallest: int) -> dict[str | None, NumericScale]:
    """Fit one scale per `key` of the numbers `x` of an SQL query.

    Keys with fewer than `smallest` finite values are skipped. The key None is null.
    """
    found = source.rows(
        f"SELECT key, count(*), median(abs(x)) FILTER (x <> 0), {quantiles_sql('x')}"
        f" FROM ({rows}) WHERE isfinite(x) GROUP BY key"
    )
    return {key: scale_of(q, unit) for key, n, unit, q in found if n >= smallest}


def scale_of(q: list[float], unit: float | None) -> NumericScale:
    """Return the scale for these quantiles, with a logarithm in units of `unit` for a heavy tail.

    The logarithm is monotonic, so its quantiles are the logarithms of the quantiles.
    """
    if not unit or not _is_heavy(q):
        return robust_scale(q, None)
    return robust_scale([math.copysign(math.log1p(abs(x) / unit), x) for x in q], unit)


def _is_heavy(q: list[float]) -> bool:
    spread = (q[4] - q[2]) or (q[5] - q[1]) or (q[6] - q[0])
    return spread > 0 and max(q[6] - q[3], q[3] - q[0]) > _HEAVY_TAIL * spread


def robust_scale(q: list[float], log_unit: float | None) -> NumericScale:
    """Return median and scale of quantiles at `SHARES`.

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


def logarithm_sql(x: str, log_unit: str) -> str:
    """Return SQL for the signed logarithm of a number, or the number itself if the unit is null."""
    return (
        f"CASE WHEN {log_unit} IS NULL THEN {x} ELSE sign({x}) * ln(1 + abs({x}) / {log_unit}) END"
    )


def _scaled_sql(x: str, log_unit: str | None, center: str, scale: str) -> str:
    """Return SQL for a scaled number, NaN for null. All arguments are SQL expressions."""
    z = f"(({logarithm_sql(x, log_unit) if log_unit else x}) - {center}) / {scale}"
    return (
        f"CASE WHEN {x} IS NULL THEN 'NaN'::FLOAT ELSE greatest(-{CLIP}, least({CLIP}, "
        f"{z}))::FLOAT END"
    )
