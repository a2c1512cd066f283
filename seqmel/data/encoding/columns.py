"""Events as whole columns in memory: what is done with every row is done by numpy.

What a value means (the text of a number, whether a client is in a sample) is said by SQL, and asked once a distinct value.
`column_reading` reads them, `column_fitting` and `column_encoding` use them.
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

__all__ = ["Category", "EventColumns", "ask", "empty", "order_of", "taken"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Category:
    """A column of n events as places among its values.

    Attributes:
        index: (n,) int32.
        texts: (V + 1,) string, the values in text form, in no order; one may be there twice. The last one is null.
    """

    index: npt.NDArray[np.int32]
    texts: pa.Array

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """(V + 1,) how many events have each value."""
        return np.bincount(self.index, minlength=len(self.texts))

    @property
    def nulls(self) -> int:
        """How many events have none of the values."""
        return int(self.counts[self.texts.is_null().to_numpy(zero_copy_only=False)].sum())

    def frequent(self, least: int, most: int) -> list[str]:
        """The texts that come at least so many times, most frequent first, equals in the order of their bytes; so many at most."""
        known = self.texts.is_valid().to_numpy(zero_copy_only=False)
        texts = self.texts.filter(pa.array(known)).dictionary_encode()
        counts = np.zeros(len(texts.dictionary), np.int64)
        np.add.at(counts, texts.indices.to_numpy(), self.counts[known])
        if len(counts) > most:
            least = max(least, int(np.partition(counts, -most)[-most]))
        kept = np.flatnonzero(counts >= least)
        table = pa.table([texts.dictionary.take(pa.array(kept)), counts[kept]], ["text", "n"])
        ordered: list[str] = table.sort_by([("n", "descending"), ("text", "ascending")])["text"].to_pylist()
        return ordered[:most]


@dataclass(frozen=True)
class EventColumns:
    """The columns of n events of C clients, by client, then time, then place in the input.

    Attributes:
        ids: (C,) the clients as they came, in the order of their first events in the input.
        lengths: (C,) int64, events a client.
        time: (n,) int64, microseconds.
        categories: column -> places among its values.
        numbers: column -> (n,) float64, NaN where null.
        threads: how many of them may work on the columns.
    """

    ids: pa.Array
    lengths: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    categories: dict[str, Category]
    numbers: dict[str, npt.NDArray[np.float64]]
    threads: int = 1

    def of(self, clients: npt.NDArray[np.bool_], features: Iterable[str]) -> EventColumns:
        """These features of the events of some clients, told by (C,) bool."""
        rows, wanted = np.repeat(clients, self.lengths), {*features}
        return EventColumns(
            self.ids.filter(pa.array(clients)),
            self.lengths[clients],
            self.time[rows],
            {c: Category(x.index[rows], x.texts) for c, x in self.categories.items() if c in wanted},
            {c: x[rows] for c, x in self.numbers.items() if c in wanted},
            self.threads,
        )

    def times(self) -> EventTimes:
        """What is known of the times."""
        daily = not self.time[0] % DAY_US and not bool((self.time % DAY_US).any())
        return EventTimes(len(self.time), daily, int(self.time.min()), int(self.time.max()))


def ask(source: EventSource, column: str, values: pa.Array, sql: str) -> npt.NDArray[Any]:
    """(V,) what SQL over a column says of each of its values.

    Args:
        source: the events, of which no row is looked at.
        column: its name.
        values: (V,) in the type of the column.
        sql: for what is wanted.
    """
    source.connection.register("values_given", pa.table([values, np.arange(len(values))], [column, ROW]))
    found = source.stream(f"SELECT {sql} AS __asked FROM values_given ORDER BY {ROW}", len(values)).read_all()
    source.connection.unregister("values_given")
    return np.asarray(found.column(0).to_numpy())


def empty(n: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """(n,) in memory from Arrow's pool, which keeps what is given back for the next that asks, where numpy's is new each time."""
    return np.frombuffer(pa.allocate_buffer(n * np.dtype(dtype).itemsize), dtype)


def taken(x: npt.NDArray[Scalar], places: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Scalar]:
    """The values of x at these places."""
    found: npt.NDArray[Scalar] = x.take(places, out=empty(len(places), x.dtype), mode="clip")  # "raise" would buffer
    return found


def order_of(client: npt.NDArray[np.int32], clients: int, time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(n,) the places of n events by client, one of so many, then time, then place."""
    key = (client.astype(np.int64).view(np.uint64), clients)
    if bool((time[1:] >= time[:-1]).all()):
        return _places_by([key])
    since = _in_units(time.view(np.uint64) - np.uint64(int(time.min()) % 2**64))  # up to 2^63
    return _places_by([(since, int(since.max()) + 1), key])


def _in_units(since: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Microseconds in the largest unit of which all are multiples: smaller numbers are sorted in fewer passes."""
    for unit in (DAY_US, 60_000_000, 1_000_000, 1_000):
        if not (since[:1_024] % np.uint64(unit)).any() and not (since % np.uint64(unit)).any():
            since = since // np.uint64(unit)
            break
    return since


def _places_by(keys: list[tuple[npt.NDArray[np.uint64], int]]) -> npt.NDArray[np.int64]:
    """(n,) the places of n rows in the order of their keys; rows with equal ones stay in order.

    A radix sort with digits as large as there is room for beside a place in 64 bits: numpy sorts such numbers, place
    and all, several times as fast as it finds the places that would sort them.

    Args:
        keys: each (n,), below its bound; the last one counts most.
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


def _digits(keys: list[tuple[npt.NDArray[np.uint64], int]], room: int) -> Iterator[npt.NDArray[np.uint64]]:
    """The keys side by side, the first one lowest, cut into numbers of `room` bits."""
    digit, used = None, 0
    for key, bound in keys:
        left = (bound - 1).bit_length()
        while left:
            taken = min(left, room - used)
            part = key if taken == left else key & np.uint64((1 << taken) - 1)
            digit = part if digit is None else digit | (part << np.uint64(used))
            key, left, used = key if taken == left else key >> np.uint64(taken), left - taken, used + taken
            if used == room:
                yield digit
                digit, used = None, 0
    if digit is not None:
        yield digit
