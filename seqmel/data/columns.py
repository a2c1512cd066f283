"""Events as whole columns in memory: what is done with every row is done by numpy.

What a value means (the text of a category, its code, whether a client is in a sample) is said by the SQL of the neighbours, and
asked once a distinct value. `column_reading` reads them, `column_fitting` and `column_encoding` use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.data.checking import DAY_US, EventTimes

__all__ = ["INDEX", "Category", "EventColumns"]

INDEX = "__client_index"
"""The column of encoded events that numbers the clients."""


@dataclass(frozen=True)
class Category:
    """A column of n events as places among its values.

    Attributes:
        index: (n,) int32.
        values: (V + 1,) the values as they came, in no order; the last one is null.
    """

    index: npt.NDArray[np.int32]
    values: pa.Array

    def counts(self) -> npt.NDArray[np.int64]:
        """(V + 1,) how many events have each value."""
        return np.bincount(self.index, minlength=len(self.values))


@dataclass(frozen=True)
class EventColumns:
    """The columns of n events of C clients, in the order of the input.

    Attributes:
        ids: (C,) the clients as they came, in the order of their first events.
        client: (n,) int32, places in `ids`.
        time: (n,) int64, microseconds.
        categories: column -> places among its values.
        numbers: column -> (n,) float64, NaN where null.
        threads: how many of them may work on the columns.
    """

    ids: pa.Array
    client: npt.NDArray[np.int32]
    time: npt.NDArray[np.int64]
    categories: dict[str, Category]
    numbers: dict[str, npt.NDArray[np.float64]]
    threads: int = 1

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """(n,) the places of the events by client, then time, then place."""
        client = (self.client.astype(np.int64).view(np.uint64), len(self.ids))
        if bool((self.time[1:] >= self.time[:-1]).all()):
            return _places_by([client])
        since = self.time.view(np.uint64) - np.uint64(int(self.time.min()) % 2**64)  # up to 2^63
        return _places_by([(since, int(since.max()) + 1), client])

    def times(self) -> EventTimes:
        """What is known of the times."""
        daily = not self.time[0] % DAY_US and not bool((self.time % DAY_US).any())
        return EventTimes(len(self.time), daily, int(self.time.min()), int(self.time.max()))


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
