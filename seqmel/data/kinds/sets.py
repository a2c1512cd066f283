"""Sets of names: the tags of an event, the products of a basket, the diagnoses of a stay.

A set is the mean of the rows of its items. Their order, and how often each is listed, mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from seqmel.core.errors import InputError, SchemaError
from seqmel.core.units import count_words
from seqmel.data.kinds.base import (
    FitOptions,
    Fitted,
    RowSums,
    distinct_rows,
    element_type,
    is_all_null,
    python_lists,
)
from seqmel.data.kinds.category import FIRST, UNSEEN, commonest_in_words
from seqmel.data.kinds.lists import ListKind
from seqmel.data.schema import EventSchema
from seqmel.data.sources.checking import present_sql
from seqmel.data.sources.source import EventSource, ident, is_integer, is_real, type_in_words

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SetItems", "SetKind"]

_MOST_ITEMS = 32
_TOP = 30  # items with a bin of their own in the drift histogram
_BINS = FIRST + _TOP + 2  # another number than that of bins of the most frequent item
_COMMONEST = 3


class SetItems(Fitted):
    """The known items of one column, most frequent first, and how many are read of a set."""

    values: tuple[str, ...]
    width: int = Field(ge=2, le=_MOST_ITEMS)

    @property
    def size(self) -> int:
        """Number of codes: for an empty set, for unseen or rare, and the known items."""
        return FIRST + len(self.values)


class SetKind(ListKind[SetItems]):
    """A set is the mean of the rows of its items. It is predicted by its most frequent item.

    An encoded value is the ascending codes of the items, so the most frequent come first, then that
    of unseen items, once, then zeros. Null is an empty set.
    """

    role: ClassVar[str] = "set"
    sql_type: ClassVar[str] = "VARCHAR[]"
    arrow_type: ClassVar[pa.DataType] = pa.int32()
    has_edges: ClassVar[bool] = False
    statistics: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("known", "count({x})", "number of events with {name}"),
        ("size", "avg(len(list_distinct({x})))", "mean number of items of {name}"),
        (
            "distinct",
            "len(list_distinct(flatten(list({x}))))",
            "number of different items of {name}",
        ),
    )
    fitted = SetItems

    def value_sql(self, source: EventSource, column: str) -> str:
        """Return SQL for the items as text."""
        name = ident(column)
        element = element_type(source.columns[column])
        if element is None:  # only nulls
            return "NULL::VARCHAR[]"
        if is_real(element):  # whole numbers with nulls, as pandas holds them
            return f"[({_whole_sql('x')})::VARCHAR for x in {name}]"
        return f"{name}::VARCHAR[]"

    def items_sql(self, value: str) -> str:
        """Return SQL for the items."""
        return f"list_distinct({value})"

    def check_given(self, source: EventSource, column: str) -> None:
        """Check that the column holds lists."""
        kind = source.columns[column]
        if not _are_names(kind):
            raise SchemaError(
                f"Column {column!r} of {source.label} holds {type_in_words(kind)}, not lists of "
                "names. Give lists of text or of whole numbers, or leave it out of schema.kinds."
            )

    def check_values(self, source: EventSource, column: str) -> None:
        """Check that the values are lists of names, or all null."""
        kind = source.columns[column]
        if not (_are_names(kind) or is_all_null(source, column) or _are_whole(source, column)):
            raise InputError(
                f"Column {column!r} of {source.label} holds {type_in_words(kind)}, and the model "
                "was trained with lists of names there."
            )

    def fit(
        self,
        source: EventSource,
        schema: EventSchema,
        column: str,
        codes: Mapping[str, Any],
        options: FitOptions,
    ) -> SetItems:
        """Fit the codes of the items, and the largest set, on all events."""
        items = (
            f"(SELECT list_distinct({self.value_sql(source, column)}) AS items FROM events "
            f"WHERE {present_sql(schema, column)})"
        )
        (largest,) = source.row(f"SELECT max(len(items)) FROM {items}")
        found = source.rows(
            f"SELECT item FROM (SELECT unnest(items) AS item FROM {items}) GROUP BY 1 "
            f"HAVING count(*) >= {options.min_count} ORDER BY count(*) DESC, 1 "
            f"LIMIT {options.max_categories}"
        )
        width = min(_MOST_ITEMS, max(2, largest or 0))
        return SetItems(values=tuple(item for (item,) in found), width=width)

    def width(self, fitted: SetItems) -> int:
        """Return the number of codes of a set."""
        return fitted.width

    def encode_values(
        self, fitted: SetItems, values: Sequence[Any]
    ) -> npt.NDArray[np.int32] | None:
        """Return (E, width) codes, unless some values are no lists of text or whole numbers."""
        lists = python_lists(values)
        kinds = {type(item) for items in lists or () for item in items or ()}
        if lists is None or not kinds <= {str, int, type(None)}:
            return None
        texts = [items and [i if i is None else str(i) for i in items] for items in lists]
        return self.encode_lists(fitted, pa.array(texts, pa.list_(pa.string())))

    def encode_lists(self, fitted: SetItems, lists: pa.Array) -> npt.NDArray[np.int32]:
        """Return (n, width) codes of lists of text: ascending, unseen last, then zeros."""
        items = lists.flatten()
        sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        known = pc.index_in(items, value_set=pa.array(fitted.values, pa.string()), skip_nulls=True)
        codes = pc.fill_null(known, fitted.size).to_numpy().astype(np.int64) + FIRST
        there = items.is_valid().to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(len(lists)), sizes)[there]
        codes = codes[there]
        bound = 2 * fitted.size + FIRST
        pairs = np.unique(rows * bound + codes)
        rows = pairs // bound
        codes = pairs % bound
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < fitted.width
        found = np.zeros((len(lists), fitted.width), np.int32)
        found[rows[kept], place[kept]] = np.where(codes < fitted.size, codes, UNSEEN)[kept]
        return found

    def initial_rows(self, fitted: SetItems, size: int) -> Tensor:
        """Return one random row per code."""
        import torch

        return torch.randn(fitted.size, size)

    def embed_wide(
        self, columns: list[Tensor], layout: Mapping[str, Tensor], dtype: Any
    ) -> list[RowSums]:
        """Return the rows of the items with equal weights. Equal sets are summed once."""
        found = []
        for values, begin in zip(columns, layout["begins"], strict=True):
            codes, index = distinct_rows(values)
            known = codes > 0
            known[:, 0] = True  # the row of an empty set
            weights = known / known.sum(1, keepdim=True)
            found.append(RowSums(codes + begin, weights.to(dtype), index))
        return found

    def countable(self, fitted: SetItems) -> int:
        """Return the number of codes."""
        return fitted.size

    def codes_of(self, values: Tensor, fitted: SetItems) -> Tensor:
        """Return the codes of the items."""
        return values

    def classes(self, fitted: SetItems) -> int:
        """Return the number of codes."""
        return fitted.size

    def class_of(self, values: Tensor, edges: Tensor) -> Tensor:
        """Return the code of the most frequent item; 0 for an empty set."""
        return values[:, 0].long()

    def facts(self, source: EventSource, column: str, where: str) -> dict[str, Any]:
        """Return nulls, mean size, number of items and the commonest items."""
        name = ident(column)
        events, nulls, size = source.row(
            f"SELECT count(*), count(*) FILTER ({name} IS NULL), avg(len(list_distinct({name}))) "
            f"FROM events WHERE {where}"
        )
        items = f"(SELECT unnest(list_distinct({name}))::VARCHAR AS item FROM events WHERE {where})"
        (distinct,) = source.row(f"SELECT count(DISTINCT item) FROM {items}")
        common = source.rows(
            f"SELECT item, count(*) AS n FROM {items} GROUP BY 1 ORDER BY n DESC, 1 "
            f"LIMIT {_COMMONEST}"
        )
        return {
            "events": events,
            "nulls": nulls,
            "size": size or 0.0,
            "distinct": distinct,
            "commonest": dict(common),
        }

    def contents(self, facts: Mapping[str, Any], events: int) -> str:
        """Return the mean size, and the commonest items and their fractions of the events."""
        of = max(1, facts["events"])
        common = commonest_in_words(facts["commonest"], of)
        size = count_words(facts["size"], "item", spec=".1f")
        return f"{size} each, {facts['distinct']:,} different: {common}"

    def about(self, fitted: SetItems) -> str:
        """Return the number of items."""
        return f"sets of {count_words(len(fitted.values), 'item')}, up to {fitted.width} each"

    def bins(self, fitted: SetItems, values: Sequence[npt.NDArray[Any]]) -> tuple[int, None]:
        """Return one bin per code of the commonest items; the last is for all further ones."""
        return _BINS, None

    def bin_of(self, values: npt.NDArray[Any], bins: int) -> npt.NDArray[Any]:
        """Return the code of an item of the set, 0 for none, 1 if all are unseen.

        The item is chosen by the codes of all, so that a change of any item shows. Fewer bins are
        those of earlier models, of the most frequent item.
        """
        first: npt.NDArray[Any] = values[:, 0]
        if bins != _BINS:
            return first
        known = np.maximum((values > 0).sum(axis=1), 1)
        chosen = values[np.arange(len(values)), values.sum(axis=1, dtype=np.int64) % known]
        return np.where((chosen == UNSEEN) & (first != UNSEEN), bins - 1, chosen)

    def is_unknown(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return whether all items of a set are unseen or rare."""
        unknown: npt.NDArray[np.bool_] = values[:, 0] == UNSEEN
        return unknown

    unknown_bin: ClassVar[int] = UNSEEN
    unknown_words: ClassVar[str] = "has only items that the training did not see"


def _are_names(kind: str) -> bool:
    element = element_type(kind) or ""
    # The items of lists that are all empty have the type "NULL".
    names = ("VARCHAR", "ENUM", "UUID", "BOOLEAN", '"NULL"')
    return is_integer(element) or (element.startswith(names) and not element.endswith("]"))


def _whole_sql(number: str) -> str:
    """Return SQL for a number as an integer; NULL for one that is not whole."""
    return f"CASE WHEN {number} = trunc({number}) THEN TRY_CAST({number} AS HUGEINT) END"


def _are_whole(source: EventSource, column: str) -> bool:
    """Return whether a column holds lists of real numbers that are all whole or missing."""
    if not is_real(element_type(source.columns[column]) or ""):
        return False
    odd = f"x IS NOT NULL AND NOT isnan(x::DOUBLE) AND {_whole_sql('x')} IS NULL"
    has_odd = f"len([x for x in {ident(column)} if {odd}]) > 0"
    return source.row(f"SELECT count(*) FROM events WHERE {has_odd}") == (0,)
