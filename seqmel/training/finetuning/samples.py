"""What fine-tuning learns from: one sample per client, or one per client and moment.

A sample at a moment is the client's events strictly before it. Its vector is the one that
`embed --as-of` computes: both cut the same sequences by `EncodedSequences.as_of`. A sample of an
event has the event too, as a row of `embed --per event`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqmel.core.errors import InputError
from seqmel.core.progress import Progress, warn
from seqmel.core.units import DAY_US, count_words
from seqmel.data.schema import EventSchema
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.tables.labels import locate_ids
from seqmel.inference.as_of import read_moments, time_in_words

__all__ = ["Samples", "samples_at"]


@dataclass(frozen=True)
class Samples:
    """R samples of the clients of some sequences.

    Attributes:
        keys: (R,) what labels are joined by: client ids, or client ids and moments.
        clients: (R,) int64, positions in the sequences.
        moments: (R,) int64, microseconds. None takes all events of each client.
        per_event: Whether each sample is of an event; its moment is a microsecond after it.
        owners: (R,) int64, codes of the clients. Samples of one client are never in both the
            training and the validation split.
    """

    keys: pd.Index[Any]
    clients: Tensor
    moments: Tensor | None = None
    owners: Tensor | None = None
    per_event: bool = False

    @classmethod
    def of_clients(cls, sequences: EncodedSequences) -> Samples:
        """Take each client once, with all its events."""
        ids = pd.Index(sequences.client_ids.to_pandas())
        return cls(ids, torch.arange(len(ids)))

    def cut(self, sequences: EncodedSequences) -> EncodedSequences:
        """Return (R,) the sequences of the samples. Their events are shared, not copied."""
        if self.moments is None:
            return sequences.subset(self.clients)
        return sequences.as_of(self.clients, self.moments)

    def report(self, sequences: EncodedSequences, progress: Progress) -> None:
        """Say how many samples have an empty history, and how many a moment after the data.

        Args:
            sequences: All sequences, uncut.
            progress: Where to report.

        Raises:
            InputError: No sample has an event before its moment, or all moments are further after
                the last event than the first event is before it, or no sample is of an event.
        """
        if self.moments is None:
            return
        if self.per_event:
            self._report_events(sequences, progress)
            return
        empty = int((sequences.events_before(self.clients, self.moments) == 0).sum())
        first, last = sequences.time_range() or (0, 0)
        span = f"events are from {time_in_words(first)} to {time_in_words(last)}"
        ends = time_in_words(int(self.moments.min())), time_in_words(int(self.moments.max()))
        moments = f"{ends[0]} to {ends[1]}"
        if empty == len(self.moments):
            raise InputError(
                f"No labelled client has an event before its moment: {span}, moments from "
                f"{moments}. Check the time column and its unit."
            )
        if int(self.moments.min()) > last + max(last - first, DAY_US):
            raise InputError(
                f"All moments are long after the events: {span}, moments from {moments}. Give the "
                "events up to the moments, or check the time column and its unit."
            )
        owners = self.clients if self.owners is None else self.owners
        progress.say(
            f"{count_words(len(self.moments), 'moment')} of "
            f"{count_words(len(owners.unique()), 'client')}: each history is cut strictly before "
            f"its moment; {empty:,} histories are empty"
        )
        late = int((self.moments > last + DAY_US).sum())
        if late:
            warn(
                progress,
                f"{late:,} of {count_words(len(self.moments), 'moment')} are more than a "
                "day after the last event, so that their histories lack what came between "
                f"({span}, the last moment is {ends[1]})",
            )

    def _report_events(self, sequences: EncodedSequences, progress: Progress) -> None:
        assert self.moments is not None, "events have moments"
        with_event = sequences.events_before(self.clients, self.moments)
        missing = int((with_event == sequences.events_before(self.clients, self.moments - 1)).sum())
        if missing == len(self.moments):
            raise InputError(
                "No label is at the time of an event of its client. Labels per event have the time "
                "of their event; leave --per out (per=) for labels at other moments."
            )
        owners = self.clients if self.owners is None else self.owners
        without = f"; {missing:,} are at no event of their client" if missing else ""
        progress.say(
            f"{count_words(len(self.moments), 'event')} of "
            f"{count_words(len(owners.unique()), 'client')}: each history ends with its event, "
            f"which is included{without}"
        )


def samples_at(
    rows: pd.Index[Any],
    sequences: EncodedSequences,
    schema: EventSchema,
    label: str,
    *,
    per_event: bool = False,
) -> Samples:
    """Find the samples of clients and moments.

    Args:
        rows: (client, moment) pairs, named as their columns. Moments are written like the times of
            the events.
        sequences: The sequences of all clients.
        schema: The schema of the events.
        label: The name of the rows in messages.
        per_event: Whether the moments are those of events, which are included.

    Returns:
        The samples of the clients that have events, in the order of their first row.

    Raises:
        SchemaError: The moments differ in kind from the times of the events.
        InputError: A moment cannot be parsed, a client has two rows for one moment, or no client
            has events.
    """
    rows = rows.unique()
    client, time = rows.names
    named = schema.model_copy(update={"client": client, "time": time})
    moments = read_moments(rows.to_frame(index=False), named, label=label).time_us
    owner, ids = rows.get_level_values(0).factorize()
    twice = pd.DataFrame({"client": owner, "moment": moments}).duplicated()
    if twice.any():
        again = rows[int(np.flatnonzero(twice)[0])]
        raise InputError(
            f"Client {again[0]} has several rows in {label} for the moment {again[1]}. Expected "
            "one row per client and moment: drop or join the others."
        )
    place = locate_ids(pd.Index(ids), pd.Index(sequences.client_ids.to_pandas()), of="events")[
        owner
    ]
    found = place >= 0
    clients = torch.from_numpy(place[found].astype(np.int64))
    cuts = torch.from_numpy(moments[found]) + int(per_event)
    return Samples(rows[found], clients, cuts, clients, per_event)
