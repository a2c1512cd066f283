"""Vectors: a list of numbers in each event, all of one length, such as the vector of another model.

A vector goes through a linear map that is learnt. Each of its numbers is scaled robustly before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.units import count_words
from seqmel.data.kinds.base import (
    FitOptions,
    Fitted,
    RowSums,
    element_type,
    is_all_null,
    python_lists,
)
from seqmel.data.kinds.lists import ListKind
from seqmel.data.kinds.number import CLIP, SHARES, AboveZero, Finite, quantile_bins, robust_scale
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import present_sql
from seqmel.data.sources.source import EventSource, ident, is_integer, is_real, type_in_words

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VectorKind", "VectorScales"]

_LONGEST = 4_096
_FITTED_ON = 20_000


class VectorScales(Fitted):
    """The center and the scale of each of the numbers of a vector."""

    center: tuple[Finite, ...] = Field(min_length=2, max_length=_LONGEST)
    scale: tuple[AboveZero, ...]

    @model_validator(mode="after")
    def _both_for_each(self) -> VectorScales:
        if len(self.center) != len(self.scale):
            raise ValueError("centers and scales of different lengths")
        return self


class VectorKind(ListKind[VectorScales]):
    """A vector is the sum of the rows of its numbers, weighted by them. It is not predicted.

    An encoded value is the scaled numbers, or NaN for a missing vector, which has a row of its own.
    A missing number of a vector is at its center.
    """

    role: ClassVar[str] = "vector"
    sql_type: ClassVar[str] = "DOUBLE[]"
    arrow_type: ClassVar[pa.DataType] = pa.float32()
    has_edges: ClassVar[bool] = True
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("known", "count({x})", "number of events with {name}"),
        (
            "length",
            "avg(sqrt(list_sum([v * v for v in {x}])))",
            "mean length of the vectors {name}",
        ),
    )
    fitted = VectorScales

    def value_sql(self, source: EventSource, column: str) -> str:
        """Return SQL for the numbers."""
        return _numbers_sql(source, column)

    def check_given(self, source: EventSource, column: str) -> None:
        """Check that the column holds lists of numbers of one length."""
        kind = source.columns[column]
        if not _are_numbers(kind):
            raise SchemaError(
                f"Column {column!r} of {source.label} holds {type_in_words(kind)}, not lists of "
                "numbers. Leave it out of schema.kinds."
            )
        _check_length(source, column, "true", None)

    def check_values(self, source: EventSource, column: str) -> None:
        """Check that the values are lists of numbers, or all null."""
        kind = source.columns[column]
        if not (_are_numbers(kind) or is_all_null(source, column)):
            raise InputError(
                f"Column {column!r} of {source.label} holds {type_in_words(kind)}, and the model "
                "was trained with lists of numbers there."
            )

    def fit(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        codes: Mapping[str, Any],
        options: FitOptions,
    ) -> VectorScales:
        """Fit the scales on about 20,000 events, or more of few clients."""
        there = f"{present_sql(schema, column)} AND {ident(column)} IS NOT NULL"
        size = _check_length(source, column, there, None)
        (known,) = source.row(f"SELECT count(*) FROM events WHERE {there}")
        for one_in in (max(1, known // _FITTED_ON), 1):  # of few clients none may be in the sample
            sample = f"hash({ident(schema.client)}::VARCHAR) % {one_in} = 0"
            lists = source.stream(
                f"SELECT {self.value_sql(source, column)} FROM events WHERE {there} AND {sample}",
                _FITTED_ON,
            ).read_all()
            if len(lists):
                break
        numbers = _numbers(lists.column(0).combine_chunks(), size)
        scales = []
        for i in range(size):
            finite = numbers[np.isfinite(numbers[:, i]), i]
            shares = np.quantile(finite, SHARES).tolist() if len(finite) else [0.0] * len(SHARES)
            scales.append(robust_scale(shares, None))
        return VectorScales(
            center=tuple(one.center for one in scales), scale=tuple(one.scale for one in scales)
        )

    def width(self, fitted: VectorScales) -> int:
        """Return the number of numbers."""
        return len(fitted.center)

    def encode_values(
        self, fitted: VectorScales, values: Sequence[Any]
    ) -> npt.NDArray[np.float32] | None:
        """Return (E, width) scaled numbers, unless some values are no lists of that length."""
        lists = python_lists(values)
        size = len(fitted.center)
        if lists is None or any(items is not None and len(items) != size for items in lists):
            return None
        if not {type(x) for items in lists for x in items or ()} <= {float, int, type(None)}:
            return None
        return self.encode_lists(fitted, pa.array(lists, pa.list_(pa.float64())))

    def encode_lists(self, fitted: VectorScales, lists: pa.Array) -> npt.NDArray[np.float32]:
        """Return (n, width) scaled numbers; all NaN for a vector without any."""
        x = _numbers(lists, len(fitted.center))
        with np.errstate(over="ignore", invalid="ignore"):
            z = np.clip((x - np.array(fitted.center)) / np.array(fitted.scale), -CLIP, CLIP)
        z[np.isnan(z) & ~np.isnan(z).all(axis=1, keepdims=True)] = 0.0
        found: npt.NDArray[np.float32] = z.astype(np.float32)
        found[np.isnan(found)] = np.nan  # one bit pattern
        return found

    def register(self, source: EventSource, column: str, index: int, fitted: VectorScales) -> None:
        """Give SQL the function that scales a vector.

        Raises:
            InputError: a vector has another length.
        """
        size = len(fitted.center)
        # The parts of Spark are opened later; `_numbers` checks them.
        if source.rows("SELECT 1 FROM duckdb_views() WHERE view_name = 'events'"):
            _check_length(source, column, "true", size)
        super().register(source, column, index, fitted)

    def initial_rows(self, fitted: VectorScales, size: int) -> Tensor:
        """Return a random row per number, and one more for a missing vector."""
        import torch

        return torch.randn(len(fitted.center) + 1, size)

    def embed_wide(
        self, columns: list[Tensor], layout: Mapping[str, Tensor], dtype: Any
    ) -> list[RowSums]:
        """Return all rows, weighted by the numbers, so that the sum varies about as one row."""
        import torch

        found = []
        for values, begin in zip(columns, layout["begins"], strict=True):
            missing = values[:, :1].isnan()
            numbers = values.nan_to_num(0.0) / math.sqrt(values.shape[1])
            weights = torch.cat([numbers, missing.to(numbers.dtype)], dim=1)
            rows = begin + torch.arange(weights.shape[1], device=values.device)
            found.append(RowSums(rows, weights.to(dtype)))
        return found

    def facts(self, source: EventSource, column: str, where: str) -> dict[str, Any]:
        """Return nulls, the number of numbers and the median length."""
        numbers = self.value_sql(source, column)
        nulls, size, length = source.row(
            f"SELECT count(*) FILTER ({numbers} IS NULL), max(len({numbers})), "
            f"median(sqrt(list_sum([v * v for v in {numbers}]))) FROM events WHERE {where}"
        )
        return {"nulls": nulls, "size": size, "length": length}

    def contents(self, facts: Mapping[str, Any], events: int) -> str:
        """Return the number of numbers and the median length."""
        return (
            f"{count_words(facts['size'], 'number')} each, of median length "
            f"{facts['length'] or 0:.4g}"
        )

    def about(self, fitted: VectorScales) -> str:
        """Return the number of numbers."""
        return f"vectors of {count_words(len(fitted.center), 'number')}"

    def bins(
        self, fitted: VectorScales, values: Sequence[npt.NDArray[Any]]
    ) -> tuple[int, tuple[float, ...]]:
        """Return bins between quantiles of the length of the scaled vector, and one for missing."""
        return quantile_bins([_lengths(x) for x in values])

    def bin_of(self, values: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
        """Return the root mean square of the scaled numbers."""
        return _lengths(values)

    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return whether a vector is missing."""
        missing: npt.NDArray[np.bool_] = np.isnan(values[:, 0])
        return missing

    unknown_bin: ClassVar[int] = -1
    unknown_words: ClassVar[str] = "has no vectors"


def _lengths(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the root mean square of scaled numbers."""
    lengths: npt.NDArray[Any] = np.sqrt(np.square(values, dtype=np.float32).mean(axis=1))
    return lengths


def _are_numbers(kind: str) -> bool:
    element = element_type(kind) or ""
    # The items of lists that are all empty, or hold only nulls, have the type "NULL".
    return is_integer(element) or is_real(element) or element == '"NULL"'


def _numbers_sql(source: EventSource, column: str) -> str:
    """Return SQL for the numbers; NULL for a column that has only nulls, of any type."""
    if element_type(source.columns[column]) is None:
        return "NULL::DOUBLE[]"
    return f"{ident(column)}::DOUBLE[]"


def _check_length(source: EventSource, column: str, where: str, size: int | None) -> int:
    """Return the length of all vectors.

    Args:
        source: the events.
        column: the column.
        where: SQL for the events that have it.
        size: the length that a model was trained with; None while it is fitted.

    Raises:
        SchemaError: two vectors differ in length, or have less than two numbers or too many.
        InputError: a vector has another length than those of the training.
    """
    numbers = _numbers_sql(source, column)
    shortest, longest = source.row(
        f"SELECT min(len({numbers})), max(len({numbers})) FROM events WHERE {where}"
    )
    if size is not None:
        if shortest is not None and (shortest, longest) != (size, size):
            raise InputError(
                f"Column {column!r} of {source.label} holds lists of {_words(shortest, longest)} "
                f"numbers, and the model was trained with vectors of {size} there."
            )
        return size
    if shortest != longest:
        raise SchemaError(
            f"Column {column!r} of {source.label} holds lists of {shortest} to "
            f"{count_words(longest, 'number')}. A vector has the same length in every event; leave "
            "the column out (schema.ignore)."
        )
    if not 2 <= (longest or 0) <= _LONGEST:
        raise SchemaError(
            f"Column {column!r} of {source.label} holds lists of "
            f"{count_words(longest or 0, 'number')}. A vector has from 2 to {_LONGEST:,}; leave "
            "the column out (schema.ignore)."
        )
    return int(longest)


def _words(shortest: int, longest: int) -> str:
    return str(shortest) if shortest == longest else f"{shortest} to {longest}"


def _numbers(lists: pa.Array | pa.ChunkedArray, size: int) -> npt.NDArray[np.float64]:
    """Return (n, size) numbers, NaN for what is missing."""
    whole = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    found = np.full((len(whole), size), np.nan)
    there = whole.is_valid().to_numpy(zero_copy_only=False)
    odd = pc.list_value_length(whole).filter(pc.not_equal(pc.list_value_length(whole), size))
    if len(odd):
        raise InputError(
            f"a vector of {count_words(odd[0], 'number')}, and the model has vectors of {size}"
        )
    flat = pc.cast(whole.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    found[there] = flat.reshape(-1, size)
    return found
