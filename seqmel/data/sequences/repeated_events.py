"""A warning if nearly all events occur more than once, as in a table that was given twice."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from seqmel.data.sequences.encoded_sequences import EncodedSequences

__all__ = ["RepeatedEvents", "repeats_words"]

_CHUNK_EVENTS = 10_000
_FEWEST_EVENTS = 20
# Days without a time of day and with few values repeat themselves too, but not all of them.
_MOST = 0.9
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


class RepeatedEvents:
    """Counts the events that another event of the client equals: in time and in all values.

    It looks at a sample of the clients, about ten thousand events of each chunk.

    Attributes:
        events: number of events looked at.
        repeated: number of those with an equal.

    Examples:
        >>> import pyarrow as pa, seqmel
        >>> table = seqmel.generate_card_data(20).events
        >>> model = seqmel.train(table, epochs=1, batch_size=8, device="cpu")
        >>> from seqmel.inference.embed import sequence_chunks
        >>> repeats = RepeatedEvents()
        >>> for sequences in sequence_chunks(model, pa.concat_tables([table, table]))[1]:
        ...     repeats.see(sequences)
        >>> repeats.words()[:44]
        '100% of the events occur more than once, wit'
    """

    def __init__(self) -> None:
        self.events = self.repeated = 0

    def see(self, sequences: EncodedSequences) -> None:
        """Count a sample of a chunk.

        Args:
            sequences: encoded sequences of a chunk of clients.
        """
        step = max(1, math.ceil(sequences.events / _CHUNK_EVENTS))
        clients = torch.arange(0, len(sequences), step)
        places = np.repeat(np.arange(len(clients)), sequences.lengths[clients].numpy())
        if not len(places):
            return
        keys = places.astype(np.uint64)
        for name in (sequences.time, *sequences.columns):
            for part in _bits(sequences.values(name, clients).numpy()):
                keys = (keys ^ part) * _PRIME
                keys ^= keys >> _SHIFT
        counts = np.unique(keys, return_counts=True)[1]
        self.events += len(keys)
        self.repeated += int(counts[counts > 1].sum())

    def words(self) -> str | None:
        """Return the warning; None if most events occur once."""
        return repeats_words(self.repeated, self.events)


def repeats_words(repeated: int, events: int) -> str | None:
    """Return a warning if most events occur more than once, else None.

    Args:
        repeated: number of events with an equal.
        events: number of all.
    """
    if events < _FEWEST_EVENTS or repeated < _MOST * events:
        return None
    return (
        f"{repeated / events:.0%} of the events occur more than once, with the same client, time "
        "and values. Is a file or table given twice? Nothing is dropped: leave the copies out."
    )


def _bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """Return the bits of (E,) or (E, W) values as (parts, E) whole numbers."""
    rows = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint32)
    return np.asarray(rows.T, np.uint64)
