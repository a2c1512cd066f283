"""Events as whole columns in memory. numpy does the work per row.

SQL defines what a value means (the text of a number, whether a client is in a sample). It is
evaluated once per distinct value. `column_reading` reads the columns, `column_fitting` and
`column_encoding` use them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.data.sources.checking import DAY_US, EventTimes
from seqmel.data.sources.source import ROW, EventSource

__all__ = ["Category", "EventColumns", "empty", "evaluate_sql", "sorted_positions", "take"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Category:
    """A categorical column of n events, as positions among its distinct values.

    Attributes:
        index: (n,) int32.
        texts: (V + 1,) string, the values as text, unordered and possibly with duplicates. The last
            one is null.
    """

    index: npt.NDArray[np.int32]
    texts: pa.Array

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """(V + 1,) number of events with each value."""
        return np.bincount(self.index, minlength=len(self.texts))

    @property
    def nulls(self) -> int:
        """Number of events whose value is null."""
        return int(self.counts[self.texts.is_null().to_numpy(zero_copy_only=False)].sum())

    def frequent(self, min_count: int, max_count: int) -> list[str]:
        """Return at most `max_count` texts that occur at least `min_count` times.

        They are sorted by frequency, the most frequent first, and then by their bytes.
        """
        known = self.texts.is_valid().to_numpy(zero_copy_only=False)
        texts = self.texts.filter(pa.array(known)).dictionary_encode()
        counts = np.zeros(len(texts.dictionary), np.int64)
        np.add.at(counts, texts.indices.to_numpy(), self.counts[known])
        if len(counts) > max_count:
            min_count = max(min_count, int(np.partition(counts, -max_count)[-max_count]))
        kept = np.flatnonzero(counts >= min_count)
        table = pa.table([texts.dictionary.take(pa.array(kept)), counts[kept]], ["text", "n"])
        ordered: list[str] = table.sort_by([("n", "descending"), ("text", "ascending")])[
            "text"
        ].to_pylist()
        return ordered[:max_count]


@dataclass(frozen=True)
class EventColumns:
    """The columns of n events of C clients, sorted by client, then time, then input order.

    Attributes:
        ids: (C,) original client ids, in the order of their first events in the input.
        lengths: (C,) int64, number of events per client.
        time: (n,) int64, microseconds.
        categories: Column -> positions among its values.
        numbers: Column -> (n,) float64, NaN for null.
        threads: Number of threads that may work on the columns.
    """

    ids: pa.Array
    lengths: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    categories: dict[str, Category]
    numbers: dict[str, npt.NDArray[np.float64]]
    threads: int = 1

    def of(self, clients: npt.NDArray[np.bool_], features: Iterable[str]) -> EventColumns:
        """Select these features of the events of some clients, given as a mask (C,)."""
        rows = np.repeat(clients, self.lengths)
        wanted = {*features}
        return EventColumns(
            self.ids.filter(pa.array(clients)),
            self.lengths[clients],
            self.time[rows],
            {
                c: Category(x.index[rows], x.texts)
                for c, x in self.categories.items()
                if c in wanted
            },
            {c: x[rows] for c, x in self.numbers.items() if c in wanted},
            self.threads,
        )

    def times(self) -> EventTimes:
        """Return count, resolution and bounds of the times."""
        daily = not self.time[0] % DAY_US and not bool((self.time % DAY_US).any())
        return EventTimes(len(self.time), daily, int(self.time.min()), int(self.time.max()))


def evaluate_sql(source: EventSource, column: str, values: pa.Array, sql: str) -> npt.NDArray[Any]:
    """Evaluate SQL over a column for each of its values.

    Args:
        source: The events. No row is read.
        column: The name of the column in the SQL.
        values: (V,) in the type of the column.
        sql: The expression.

    Returns:
        (V,) the results.
    """
    source.connection.register(
        "values_given", pa.table([values, np.arange(len(values))], [column, ROW])
    )
    found = source.stream(
        f"SELECT {sql} AS __asked FROM values_given ORDER BY {ROW}", len(values)
    ).read_all()
    source.connection.unregister("values_given")
    return np.asarray(found.column(0).to_numpy())


def empty(n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Allocate (n,) from Arrow's pool, which reuses memory.

    numpy would ask the system each time.
    """
    return np.frombuffer(pa.allocate_buffer(n * np.dtype(dtype).itemsize), dtype)


def take(x: npt.NDArray[Scalar], places: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Scalar]:
    """Return the values of x at these positions."""
    # With mode="raise" numpy would buffer the output.
    found: npt.NDArray[Scalar] = x.take(places, out=empty(len(places), x.dtype), mode="clip")
    return found


def sorted_positions(
    client: npt.NDArray[np.int32], clients: int, time: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return (n,) the positions of n events sorted by client, then time, then position.

    Args:
        client: (n,) the number of each event's client.
        clients: The number of clients.
        time: (n,) microseconds.
    """
    key = (client.astype(np.int64).view(np.uint64), clients)
    if bool((time[1:] >= time[:-1]).all()):
        return _sort_by_keys([key])
    since = _coarsen(time.view(np.uint64) - np.uint64(int(time.min()) % 2**64))  # up to 2^63
    return _sort_by_keys([(since, int(since.max()) + 1), key])


def _coarsen(since: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Convert microseconds to the largest unit that divides all of them.

    Smaller numbers are sorted in fewer passes.
    """
    for unit in (DAY_US, 60_000_000, 1_000_000, 1_000):
        if not (since[:1_024] % np.uint64(unit)).any() and not (since % np.uint64(unit)).any():
            since = since // np.uint64(unit)
            break
    return since


def _sort_by_keys(keys: list[tuple[npt.NDArray[np.uint64], int]]) -> npt.NDArray[np.int64]:
    """Return (n,) the positions of n rows sorted by their keys. Equal rows keep their order.

    This is a radix sort. Each digit is packed into 64 bits together with the position of its row:
    numpy sorts such numbers several times faster than it computes an argsort.

    Args:
        keys: Arrays (n,) with an exclusive upper bound each. The last one is the most significant.
    """
    n = len(keys[0][0])
    bits = max(1, (n - 1).bit_length())
    order: npt.NDArray[np.int64] | None = None
    for digit in _digits(keys, 64 - bits):
        packed = (digit if order is None else digit.take(order)) << np.uint64(bits)
        packed |= np.arange(n, dtype=np.uint64)
        packed.sort()
        packed &= np.uint64((1 << bits) - 1)
        places = packed.view(np.int64)
        order = places if order is None else order.take(places)
    return np.arange(n, dtype=np.int64) if order is None else order


def _digits(
    keys: list[tuple[npt.NDArray[np.uint64], int]], room: int
) -> Iterator[npt.NDArray[np.uint64]]:
    """Concatenate the keys, the first one lowest, and cut them into digits of `room` bits."""
    digit: npt.NDArray[np.uint64] | None = None
    used = 0
    for key, bound in keys:
        left = (bound - 1).bit_length()
        while left:
            taken = min(left, room - used)
            part = key if taken == left else key & np.uint64((1 << taken) - 1)
            digit = part if digit is None else digit | (part << np.uint64(used))
            key = key if taken == left else key >> np.uint64(taken)
            left -= taken
            used += taken
            if used == room:
                yield digit
                digit = None
                used = 0
    if digit is not None:
        yield digit
