"""What a kind of column is: how it is read, fitted, encoded, embedded, decoded and described.

Each kind is one class in a file of its own. Whatever works through the columns of the events asks
the kind of each; see `seqmel.data.kinds.registry`.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType
from pydantic import BaseModel, ConfigDict

from seqmel.data.schema import EventSchema
from seqmel.data.sources.source import EventSource, ident

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "QUANTILES",
    "ColumnKind",
    "ColumnSQL",
    "FitOptions",
    "Fitted",
    "RowSums",
    "distinct_rows",
    "element_type",
    "give_function",
    "is_all_null",
    "is_missing",
    "python_lists",
]

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Quantiles that describe a distribution."""
_MIX = -0x61C8864680B583EB  # 2^64 divided by the golden ratio, as a signed number


class Fitted(BaseModel):
    """What is learnt of a column from the training events."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class FitOptions:
    """Options of fitting.

    Attributes:
        min_count: categorical values with fewer events are rare.
        max_categories: maximum number of values of a category with a code of their own.
    """

    min_count: int
    max_categories: int


@dataclass(frozen=True)
class ColumnSQL:
    """SQL for the encoded values of a column, in one or two steps.

    Attributes:
        value: expression over the events and `join`.
        join: SQL that joins a table to the events; may be empty.
        scaled: expression over the first step of all columns and `scale_join`; empty if `value` is
            the encoded value.
        scale_join: SQL that joins a table to the first step; may be empty.
    """

    value: str
    join: str = ""
    scaled: str = ""
    scale_join: str = ""


@dataclass(frozen=True)
class RowSums:
    """Weighted sums of rows of the embedding table.

    Attributes:
        rows: (D, K) int64; or (K,), if all sums are of the same rows.
        weights: (D, K).
        index: (E,) int64, the sum of each event; None if each event has its own.
    """

    rows: Tensor
    weights: Tensor
    index: Tensor | None = None


def distinct_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct rows among (E, W) integers, by a hash of 64 bits.

    Returns:
        (D, W) the distinct rows, and (E,) int64, which of them each row is.
    """
    import torch

    hashes = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    for column in values.unbind(1):
        hashes = (hashes ^ column) * _MIX
        hashes = hashes ^ (hashes >> 29)
    found, index = torch.unique(hashes, return_inverse=True)
    places = torch.arange(len(values), device=values.device)
    first = torch.empty_like(found).scatter_(0, index, places)
    return values.index_select(0, first), index


def give_function(
    source: EventSource, name: str, encode: Callable[[pa.Array], npt.NDArray[Any]], sql_type: str
) -> None:
    """Give SQL a function that encodes values of a wide kind, in place of one of the same name.

    Args:
        source: the events.
        name: name of the function.
        encode: takes (n,) values, with nulls, and returns (n, W) encoded values, for W > 1.
        sql_type: DuckDB type of the values, then that of an encoded value.
    """

    def encoded(values: pa.Array | pa.ChunkedArray) -> pa.Array:
        whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        found = encode(whole)
        return pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1])

    given, returned = sql_type.split()
    with contextlib.suppress(duckdb.Error):  # there is none
        source.connection.remove_function(name)
    source.connection.create_function(
        name, encoded, [given], returned, type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )  # fmt: skip


def is_missing(value: Any) -> bool:
    """Return whether a Python value is null: None, NaN or the missing value of pandas."""
    nan = isinstance(value, float) and value != value
    # By its name, as pandas takes long to import.
    return value is None or nan or type(value).__name__ == "NAType"


def python_lists(values: Sequence[Any]) -> list[list[Any] | None] | None:
    """Return values that are lists, arrays or null as lists; None if others are among them."""
    found: list[list[Any] | None] = []
    for value in values:
        if isinstance(value, np.ndarray):
            found.append(value.tolist())
        elif isinstance(value, (list, tuple)):
            found.append([*value])
        elif is_missing(value):
            found.append(None)
        else:
            return None
    return found


def element_type(sql_type: str) -> str | None:
    """Return the DuckDB type of the items of a list type; None if it is no list type."""
    return sql_type[: sql_type.rindex("[")] if sql_type.endswith("]") else None


def is_all_null(source: EventSource, column: str) -> bool:
    """Return whether a column has no value at all, so that its type says nothing."""
    return source.row(f"SELECT count({ident(column)}) FROM events") == (0,)


F = TypeVar("F", bound=Fitted)


class ColumnKind(ABC, Generic[F]):
    """One kind of column.

    An encoded value is one number per event, or `width` numbers for a wide kind. `fitted` is what
    `fit` returned for the column, and `codes` are the fitted categories by column, for kinds that
    depend on a category.
    """

    role: ClassVar[str]
    """The name of the kind, which is also its option in the schema."""
    sql_type: ClassVar[str]
    """The DuckDB type of raw values on a timeline of several tables."""
    arrow_type: ClassVar[pa.DataType]
    """The type of the numbers of encoded values."""
    is_wide: ClassVar[bool] = False
    """Whether an encoded value is several numbers, which `embed_wide` embeds."""
    rows_per_value: ClassVar[int] = 0
    """How many rows of the embedding table a value is the weighted sum of, unless it is wide."""
    needs_events: ClassVar[bool] = False
    """Whether `fit` reads all events, rather than the table `sample` or nothing."""
    has_edges: ClassVar[bool]
    """Whether the drift histogram has edges on a scale, rather than a bin per value."""
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """Aggregates over a client's events: suffix of the name, SQL of `{x}`, words about `{name}`."""
    fitted: type[F]
    """The class of what is fitted."""

    # Read

    @abstractmethod
    def value_sql(self, source: EventSource, column: str) -> str:
        """Return SQL for the raw value, of type `sql_type`."""

    def check_given(self, source: EventSource, column: str) -> None:
        """Check that a column that the user named can be of this kind.

        Raises:
            SchemaError: it cannot.
        """

    def check_values(self, source: EventSource, column: str) -> None:
        """Check that the values of a column suit a trained model.

        Raises:
            InputError: some do not.
        """

    def reads_whole(self, sql_type: str) -> bool:
        """Return whether whole columns of a DuckDB type can be read without SQL."""
        return True

    # Fit

    @abstractmethod
    def fit(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        codes: Mapping[str, Any],
        options: FitOptions,
    ) -> F:
        """Fit a column on the events, or on the table `sample` of some of them.

        Raises:
            SchemaError: there is nothing to fit on.
        """

    # Encode

    def width(self, fitted: F) -> int:
        """Return how many numbers an encoded value is."""
        return 1

    def encoded_type(self, fitted: F) -> pa.DataType:
        """Return the type of encoded values."""
        return pa.list_(self.arrow_type, self.width(fitted)) if self.is_wide else self.arrow_type

    def encode_texts(self, fitted: F, texts: pa.Array) -> npt.NDArray[Any] | None:
        """Return the encoded values of (V,) texts; None if only `encode_sql` encodes them."""
        return None

    def encode_values(self, fitted: F, values: Sequence[Any]) -> npt.NDArray[Any] | None:
        """Return the encoded values of Python values; None if only `encode_sql` encodes them."""
        return None

    def register(self, source: EventSource, column: str, index: int, fitted: F) -> None:
        """Create the tables that `encode_sql` joins; `index` makes their names unique."""

    @abstractmethod
    def encode_sql(
        self, source: EventSource, schema: EventSchema, column: str, index: int, fitted: F
    ) -> ColumnSQL:
        """Return SQL for the encoded values."""

    # Embed

    @abstractmethod
    def initial_rows(self, fitted: F, size: int) -> Tensor:
        """Return the initial rows of a column in the embedding table: (rows, size)."""

    def layout(
        self, columns: Mapping[str, F], codes: Mapping[str, Any], begins: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Return the tensors that `embed` needs, for all C columns of the kind together.

        `begins`, (C,), is the first row of each column. A kind may add to it.

        Args:
            columns: the columns of this kind.
            codes: the fitted categories.
            begins: column -> its first row in the embedding table.
        """
        import torch

        return {"begins": torch.tensor([begins[name] for name in columns], dtype=torch.int64)}

    def embed(
        self, columns: list[Tensor], codes: Tensor, layout: Mapping[str, Tensor], dtype: Any
    ) -> tuple[Tensor, Tensor]:
        """Return rows of the table and their weights: (E, C * rows_per_value) each.

        Args:
            columns: C columns of (E,) encoded values.
            codes: (E, K) int64, the codes of all categories.
            layout: see `layout`.
            dtype: of the weights.
        """
        raise NotImplementedError

    def embed_wide(
        self, columns: list[Tensor], layout: Mapping[str, Tensor], dtype: Any
    ) -> list[RowSums]:
        """Return the rows of the table of a wide kind, for each of C columns.

        Args:
            columns: C columns of (E, width) encoded values.
            layout: see `layout`.
            dtype: of the weights.
        """
        raise NotImplementedError

    # Decode

    def classes(self, fitted: F) -> int | None:
        """Return the number of classes by which a value is predicted; None if by no classes."""
        return None

    def class_of(self, values: Tensor, edges: Tensor) -> Tensor:
        """Return (E,) int64, the class of each of E encoded values.

        Args:
            values: (E,) encoded values; (E, width) of a wide kind.
            edges: The ends of the bins of numbers, on the device of the values.
        """
        raise NotImplementedError

    def items_sql(self, value: str) -> str | None:
        """Return SQL for the different texts in a value of `value_sql` that aggregates count.

        None if there are none.
        """
        return None

    def countable(self, fitted: F) -> int:
        """Return the number of codes of `codes_of`; 0 of a kind whose values cannot be counted."""
        return 0

    def codes_of(self, values: Tensor, fitted: F) -> Tensor:
        """Return (E,) or (E, width) codes of what is counted in E encoded values.

        Codes below 2 are nothing that can be counted, such as null.

        Args:
            values: (E,) encoded values; (E, width) of a wide kind.
            fitted: what was fitted of the column.
        """
        raise NotImplementedError

    def regressed_within(self, fitted: F) -> str | None:
        """Return the category by whose codes an expected value is predicted, if it is."""
        return None

    def regression_costs(self, expected: Tensor, values: Tensor) -> Tensor:
        """Return (E,) costs of expected values of one column."""
        raise NotImplementedError

    # Describe

    @abstractmethod
    def facts(self, source: EventSource, column: str, where: str) -> dict[str, Any]:
        """Return what `seqmel describe` says of the raw values, as JSON types.

        Args:
            source: the events.
            column: the column.
            where: SQL for the events that have the column; "true" for all.
        """

    @abstractmethod
    def contents(self, facts: Mapping[str, Any], events: int) -> str:
        """Return `facts` in words, for `events` events."""

    @abstractmethod
    def about(self, fitted: F) -> str:
        """Return a few words about what was fitted."""

    # Watch

    @abstractmethod
    def bins(self, fitted: F, values: Sequence[npt.NDArray[Any]]) -> tuple[int, Any]:
        """Return the bins of the drift histogram of some encoded training values.

        Returns:
            The number of bins, and the edges of `ColumnBins`.
        """

    def bin_of(self, values: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
        """Return the bin of each encoded value, for bins without edges.

        Values beyond the last bin are counted in it.

        Args:
            values: encoded values.
            bins: the number of bins.
        """
        return values

    @abstractmethod
    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return (E,) bool: encoded values that tell the model nothing."""

    @property
    @abstractmethod
    def unknown_bin(self) -> int:
        """The index of the bin of `bins` that counts unknown values."""

    @property
    @abstractmethod
    def unknown_words(self) -> str:
        """What to say of a column with only unknown values."""
