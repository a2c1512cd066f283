"""Hashed columns: names with so many values that a code for each is too much.

Each value is the sum of two of a few thousand rows, chosen by two hashes (Svenstrup, Hansen,
Winther: Hash Embeddings, NIPS 2017, arXiv 1709.03933). Two values seldom share both rows. Nothing
is counted, so new values are no worse off than rare ones, and the table stays small: for merchants,
products or devices by the million.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from seqmel.data.kinds.base import ColumnKind, ColumnSQL, FitOptions, Fitted, is_missing
from seqmel.data.kinds.category import FIRST, NameKind
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import category_text, present_sql
from seqmel.data.sources.source import EventSource

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BINS",
    "HashedColumn",
    "HashedKind",
    "RowsKind",
    "bin_of_hash",
    "class_of_hash",
    "code_of_hash",
]

_ROWS = 4_096
_HASHES = 2**31 - 1
CLASSES = 64
BINS = 32  # for drift; more would hide drift of the other columns behind chance


class HashedColumn(Fitted):
    """The size of the table of rows; nothing else is fitted."""

    rows: int = Field(_ROWS, ge=2, le=2**15)


R = TypeVar("R", bound=HashedColumn)


class RowsKind(NameKind, ColumnKind[R]):
    """A kind of names that hashes choose rows for. Zero is no hash, and has a row of its own."""

    unknown_bin: ClassVar[int] = 0

    def fit(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        codes: Mapping[str, Any],
        options: FitOptions,
    ) -> R:
        """Return the size of the table."""
        return self.fitted()

    def initial_rows(self, fitted: R, size: int) -> Tensor:
        """Return random rows, and one more for no hash."""
        import torch

        return torch.randn(fitted.rows + 1, size)

    def layout(
        self, columns: Mapping[str, R], codes: Mapping[str, Any], begins: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Return `begins` and `rows`: (C,) the first row and the number of rows of each column."""
        import torch

        rows = torch.tensor([fitted.rows for fitted in columns.values()], dtype=torch.int64)
        return super().layout(columns, codes, begins) | {"rows": rows}

    def countable(self, fitted: R) -> int:
        """Return the number of rows, after the codes of null and unseen values."""
        return FIRST + fitted.rows

    def classes(self, fitted: R) -> int:
        """Return the number of classes of hashes, with that of no hash."""
        return 1 + CLASSES

    def bins(self, fitted: R, values: Sequence[npt.NDArray[Any]]) -> tuple[int, None]:
        """Return a bin for no hash, and 32 for hashes."""
        return 1 + BINS, None


class HashedKind(RowsKind[HashedColumn]):
    """A value is the sum of two rows. It is predicted by its hash modulo 64; null is a class too.

    The encoded value is 0 for null, else 1 + hash.
    """

    role: ClassVar[str] = "hashed"
    rows_per_value: ClassVar[int] = 2
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("known", "count({x})", "number of events with {name}"),
        ("distinct", "count(DISTINCT {x})", "number of different values of {name}"),
    )
    fitted = HashedColumn

    def items_sql(self, value: str) -> str:
        """Return SQL for the value itself."""
        return f"[{value}::VARCHAR]"

    def reads_whole(self, sql_type: str) -> bool:
        """Return False: hashes are computed in SQL."""
        return False

    def encode_sql(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        index: int,
        fitted: HashedColumn,
    ) -> ColumnSQL:
        """Return SQL for the hash, which is the same in every version and on every machine."""
        text = category_text(source, column)
        there = present_sql(schema, column)
        return ColumnSQL(
            f"CASE WHEN {there} AND {text} IS NOT NULL "
            f"THEN (1 + md5_number_lower({text}) % {_HASHES - 1})::INTEGER ELSE 0 END"
        )

    def encode_values(
        self, fitted: HashedColumn, values: Sequence[Any]
    ) -> npt.NDArray[np.int32] | None:
        """Return (E,) hashes, unless some values are neither text, whole numbers nor null."""
        known = [None if is_missing(value) else value for value in values]
        if not {type(value) for value in known} <= {str, int, type(None)}:
            return None
        return np.array([0 if x is None else _hash(str(x)) for x in known], np.int32)

    def embed(
        self, columns: list[Tensor], codes: Tensor, layout: Mapping[str, Tensor], dtype: Any
    ) -> tuple[Tensor, Tensor]:
        """Return two rows per value, weighted so that their sum varies as much as one row."""
        import torch

        hashes = torch.stack(columns, dim=1).long()
        rows = layout["rows"]
        missing = hashes == 0
        found = (hashes - 1).clamp(min=0)
        pair = [found % rows, torch.div(found, rows, rounding_mode="floor") % rows]
        places = torch.stack([row.where(~missing, rows) + layout["begins"] for row in pair], dim=2)
        places = places.flatten(1)
        return places, places.new_full(places.shape, math.sqrt(0.5), dtype=dtype)

    def codes_of(self, values: Tensor, fitted: HashedColumn) -> Tensor:
        """Return the first row of each value."""
        return code_of_hash(values, fitted.rows)

    def class_of(self, values: Tensor, edges: Tensor) -> Tensor:
        """Return 0 for null, else one more than the hash modulo 64."""
        return class_of_hash(values).long()

    def about(self, fitted: HashedColumn) -> str:
        """Return the size of the table."""
        return f"hashed into {fitted.rows:,} rows"

    def bin_of(self, values: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
        """Return 0 for null, else one more than the hash modulo 32."""
        return bin_of_hash(values)

    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return whether a value is null."""
        unknown: npt.NDArray[np.bool_] = values == 0
        return unknown

    unknown_words: ClassVar[str] = "has only nulls"


def code_of_hash(hashes: Tensor, rows: int) -> Tensor:
    """Return 0 for 0, which is null, else `FIRST` and the hash modulo a number of rows."""
    return ((hashes - 1) % rows + FIRST).where(hashes > 0, 0)


def class_of_hash(hashes: Tensor) -> Tensor:
    """Return 0 for 0, which is null, else one more than the hash modulo 64."""
    return ((hashes - 1) % CLASSES + 1).where(hashes > 0, 0)


def bin_of_hash(hashes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return 0 for 0, which is null, else one more than the hash modulo 32."""
    return np.where(hashes > 0, (hashes - 1) % BINS + 1, 0)


def _hash(text: str) -> int:
    """Return one more than the hash of a text, as the SQL computes it."""
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return 1 + int.from_bytes(digest[8:], "little") % (_HASHES - 1)
