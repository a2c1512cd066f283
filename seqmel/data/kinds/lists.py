"""What kinds of columns of lists have in common: SQL encodes them with a function of their own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy.typing as npt
import pyarrow as pa

from seqmel.data.kinds.base import ColumnKind, ColumnSQL, Fitted, give_function
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import present_sql
from seqmel.data.sources.source import EventSource

__all__ = ["ListKind"]

F = TypeVar("F", bound=Fitted)

_SQL_TYPES = {pa.int32(): "INTEGER", pa.float32(): "FLOAT"}


class ListKind(ColumnKind[F]):
    """A kind of lists. An encoded value is several numbers."""

    is_wide: ClassVar[bool] = True
    needs_events: ClassVar[bool] = True

    @abstractmethod
    def encode_lists(self, fitted: F, lists: pa.Array) -> npt.NDArray[Any]:
        """Return (n, width) encoded values of n lists, with nulls."""

    def reads_whole(self, sql_type: str) -> bool:
        """Return False: lists are encoded in SQL."""
        return False

    def register(self, source: EventSource, column: str, index: int, fitted: F) -> None:
        """Give SQL the function that encodes a list."""
        encoded = f"{_SQL_TYPES[self.arrow_type]}[{self.width(fitted)}]"
        give_function(
            source,
            self._function(index),
            lambda lists: self.encode_lists(fitted, lists),
            f"{self.sql_type} {encoded}",
        )

    def encode_sql(
        self, source: EventSource, schema: EventSchema, column: str, index: int, fitted: F
    ) -> ColumnSQL:
        """Return SQL for the encoded value; see `register`."""
        there = present_sql(schema, column)
        items = self.value_sql(source, column)
        return ColumnSQL(f"{self._function(index)}(CASE WHEN {there} THEN {items} END)")

    def _function(self, index: int) -> str:
        return f"seqmel_{self.role}_{index}"
