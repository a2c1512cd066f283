"""What the vocabulary is fitted on, from whole columns: counts of values, and quantiles of a sample of whole clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.data.columns import EventColumns
from seqmel.data.source import ROW, EventSource

__all__ = ["ColumnSample", "ask", "counts_table", "quantiles", "sample_of"]

Sorted: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int64]


def counts_table(columns: EventColumns, column: str) -> pa.Table:
    """The values of a category, under its name, and `__n`, how often they come."""
    category = columns.categories[column]
    counts = category.counts()
    return pa.table([category.values, counts], [column, "__n"]).filter(pa.array(counts > 0))


@dataclass(frozen=True)
class ColumnSample:
    """The events of some clients.

    Attributes:
        columns: of all events.
        clients: (C,) bool, which they are.
        rows: (m,) the places of their events; None where these are all.
    """

    columns: EventColumns
    clients: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.columns.client) if self.rows is None else len(self.rows)

    def of(self, source: EventSource, client: str, chosen: str) -> ColumnSample:
        """Of this sample the events of the clients of which the SQL `chosen` holds."""
        return _of_clients(self.columns, self.clients & sample_of(self.columns, source, client, chosen).clients)

    def finite(self, column: str) -> npt.NDArray[np.float64]:
        """The finite values of a number, sorted."""
        x = self.columns.numbers[column]
        x = x if self.rows is None else x.take(self.rows)
        return np.sort(x[np.isfinite(x)])

    def order(self) -> npt.NDArray[np.int64]:
        """(m,) the places of the events by client, then time, then place."""
        order = self.columns.order
        return order if self.rows is None else order[self.clients.take(self.columns.client.take(order))]

    def gaps(self) -> npt.NDArray[np.int64]:
        """Those above zero between the events of a client, in microseconds, sorted."""
        order = self.order()
        client, gaps = self.columns.client.take(order), np.diff(self.columns.time.take(order))
        return np.sort(gaps[(gaps > 0) & (client[1:] == client[:-1])])

    def within(self, source: EventSource, column: str, by: str, text_sql: str) -> pa.Table:
        """A number, and as `key` the text of the category that it lies within; `text_sql` is SQL for the latter."""
        category = self.columns.categories[by]
        texts = pa.array(ask(source, by, category.values, text_sql), pa.string())
        x, index = self.columns.numbers[column], category.index
        if self.rows is not None:
            x, index = x.take(self.rows), index.take(self.rows)
        return pa.table([texts.take(pa.array(index)), pa.array(x, from_pandas=True)], ["key", "x"])


def sample_of(columns: EventColumns, source: EventSource, client: str, chosen: str) -> ColumnSample:
    """The events of the clients of which the SQL `chosen`, over their column, holds; of all clients where it is empty."""
    if not chosen:
        return ColumnSample(columns, np.ones(len(columns.ids), np.bool_), None)
    return _of_clients(columns, ask(source, client, columns.ids, chosen).astype(np.bool_))


def _of_clients(columns: EventColumns, clients: npt.NDArray[np.bool_]) -> ColumnSample:
    return ColumnSample(columns, clients, np.flatnonzero(clients.take(columns.client)))


def ask(source: EventSource, column: str, values: pa.Array, sql: str, join: str = "") -> npt.NDArray[Any]:
    """(V,) what SQL over a column says of each of its values.

    Args:
        source: the events, of which no row is looked at.
        column: its name.
        values: (V,) in the type of the column.
        sql: for what is wanted.
        join: SQL that joins more to the values, one row each.
    """
    source.connection.register("values_given", pa.table([values, np.arange(len(values))], [column, ROW]))
    found = source.stream(f"SELECT {sql} AS __asked FROM values_given {join} ORDER BY {ROW}", len(values)).read_all()
    source.connection.unregister("values_given")
    return np.asarray(found.column(0).to_numpy())


def quantiles(source: EventSource, x: Sorted, shares: tuple[float, ...]) -> list[float] | None:
    """Quantiles of sorted numbers, as `quantile_cont` gives them; None where there are no numbers.

    Each lies between two numbers, and how it does is left to the engine, which is asked for it of the two alone: its last bit
    is that of no formula in numpy.
    """
    if not len(x):
        return None
    at = (len(x) - 1) * np.array(shares)
    low = np.floor(at)
    pairs = pa.table([x[low.astype(np.int64)], x[np.ceil(at).astype(np.int64)], np.arange(len(at))], ["a", "b", "k"])
    between = [f"quantile_cont(x, '{share!r}'::DOUBLE) FILTER (k = {k})" for k, share in enumerate((at - low).tolist())]
    source.connection.register("pairs_given", pairs)
    found = source.row(f"SELECT {', '.join(between)} FROM (SELECT unnest([a, b]) AS x, k FROM pairs_given)")
    source.connection.unregister("pairs_given")
    return list(found)
